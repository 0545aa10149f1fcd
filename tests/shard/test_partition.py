"""Ranges of rows: balanced, whole shards, and the same however many workers."""

from itertools import pairwise

import numpy as np
import pytest

from snag_dist.errors import ResourceError
from snag_dist.shard.partition import JointPartition, Partition, shard_bounds


@pytest.mark.parametrize(
    ("entities", "shards", "workers"), [(100, 64, 1), (100, 64, 4), (7, 5, 5), (3, 64, 64), (12842, 64, 3)]
)
def test_workers_cover_all_rows_in_whole_shards(entities: int, shards: int, workers: int) -> None:
    partition = Partition(entities, shards, workers)
    bounds = partition.bounds()
    assert bounds[0] == 0
    assert bounds[-1] == entities
    assert [partition.rows(worker) for worker in range(workers)] == list(pairwise(bounds))
    owned = [shard for worker in range(workers) for shard in partition.shards(worker)]
    assert owned == list(range(shards))
    starts = [partition.shard_rows(shard)[0] for shard in range(shards)]
    assert np.array_equal(shard_bounds(entities, shards), [*starts, entities])
    sizes = np.diff(bounds)
    assert sizes.max() - sizes.min() <= -(-entities // shards) * (0 if shards % workers == 0 else 1) + 1


def test_split_counts_ids_by_owner() -> None:
    partition = Partition(10, 5, 2)
    assert partition.rows(0) == (0, 4)
    assert partition.split(np.array([0, 3, 4, 5, 9])) == [2, 3]


def test_more_workers_than_shards_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"expected at most 4, .* got 5; use fewer workers"):
        Partition(10, 4, 5)


@pytest.mark.parametrize(("known", "new", "shards"), [(90, 10, 8), (7, 2, 5), (3, 1, 64), (1000, 333, 7)])
def test_new_entities_lie_behind_the_known_ones_of_their_shard(known: int, new: int, shards: int) -> None:
    joint = JointPartition(known + new, shards, 2 if shards > 2 else 1, num_new=new)
    alone = Partition(known, shards, joint.num_workers)
    ids = np.concatenate([joint.ids_of_known(np.arange(known)), joint.ids_of_new(np.arange(new))])
    assert sorted(ids) == list(range(known + new))
    for shard in range(shards):
        start, stop = joint.shard_rows(shard)
        assert joint.known_of(shard) == alone.shard_rows(shard)
        first = joint.ids_of_known(np.arange(*joint.known_of(shard)))
        then = joint.ids_of_new(np.arange(*joint.new_of(shard)))
        assert [*first, *then] == list(range(start, stop))
    assert joint.bounds()[-1] == known + new
