"""Ranks and mutual pairs over many workers: the very integers of one machine."""

from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from distributed import run_distributed
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import NumericError
from snag_dist.ranking.mutual import mutual_nearest
from snag_dist.ranking.pairs import PairRanks, rank_pairs
from snag_dist.shard import pair_ranking
from snag_dist.shard.group import Group
from snag_dist.shard.pair_ranking import OwnedCodes, find_mutual_pairs, rank_owned_pairs, rank_owned_pairs_both_ways
from snag_dist.shard.partition import Partition

pytestmark = pytest.mark.distributed
Ids = NDArray[np.int64]
NUM, WIDTH, SHARDS = 300, 9, 8
NEIGHBOURS = (0, 3)
# Room for tiles of 48 codes a side, so that a list spans several.
BUDGET = (6 * 48 * 48 + 6 * 48 * WIDTH) * 4
# Row ids of both sides. In the second case the first worker owns no left row and the last no right row.
LISTS: dict[str, tuple[Ids, Ids]] = {
    "mixed": (np.arange(0, NUM, 2), np.arange(1, NUM, 2)),
    "apart": (np.arange(160, NUM), np.arange(0, 75)),
    "no left": (np.arange(0), np.arange(0, NUM, 7)),
}


def draw_codes() -> Tensor:
    """Real numbers, and from row 200 on signs, so that many similarities are equal."""
    draw = torch.Generator().manual_seed(0)
    codes = torch.randn(NUM, WIDTH, generator=draw)
    codes[1::2] += 0.7 * codes[0::2]
    codes[200:] = torch.randint(0, 2, (100, WIDTH), generator=draw) * 2.0 - 1.0
    codes[:8] = codes[292:]
    return codes


def draw_pairs(name: str) -> Ids:
    """Positions in both lists; some entities are in two pairs."""
    left, right = LISTS[name]
    num = min(len(left), 70)
    draw = np.random.default_rng(1)
    return np.stack([draw.integers(0, len(side), num) if num else np.arange(0) for side in (left, right)], axis=1)


def integers_of(ranks: PairRanks) -> list[list[list[int]]]:
    return [
        [column.tolist() for column in (table.head, table.tail, table.better, table.equal)]
        for table in (ranks.left_to_right, ranks.right_to_left)
    ]


def rank(group: Group, visitors: int) -> dict[Any, Any]:
    """What one worker of a group finds, with blocks of `visitors` codes on their way."""
    partition = Partition(NUM, SHARDS, group.size)
    first_row, stop = partition.rows(group.rank)
    found: dict[Any, Any] = {}
    with patch.object(pair_ranking, "_VISITORS", visitors):
        for name, k_csls in product(LISTS, NEIGHBOURS):
            codes = draw_codes()[first_row:stop]
            left, right = (OwnedCodes.of(side, codes, partition, group.rank) for side in LISTS[name])
            options: dict[str, Any] = {"k_csls": k_csls, "group": group, "budget_bytes": BUDGET}
            ranks = rank_owned_pairs(left, right, draw_pairs(name), **options)
            both_ways = rank_owned_pairs_both_ways(left, right, draw_pairs(name), **options)
            mutual = find_mutual_pairs(left, right, **options)
            found[name, k_csls] = {
                "held": (len(left.codes), len(right.codes)),
                "ranks": integers_of(ranks),
                "both_ways": [integers_of(each) for each in both_ways],
                "mutual": mutual.pairs.tolist(),
                "scores": mutual.scores.tolist(),
            }
    return found


def spoil(group: Group) -> list[str]:
    """Errors of both entrances where one code is not finite, of a left row of the last worker or a right one."""
    partition = Partition(NUM, SHARDS, group.size)
    first_row, stop = partition.rows(group.rank)
    errors: list[str] = []
    for broken in (NUM - 2, NUM - 1):
        codes = draw_codes()
        codes[broken] = torch.nan
        left, right = (OwnedCodes.of(side, codes[first_row:stop], partition, group.rank) for side in LISTS["mixed"])
        with pytest.raises(NumericError) as mined:
            find_mutual_pairs(left, right, k_csls=0, group=group)
        with pytest.raises(NumericError) as ranked:
            rank_owned_pairs(left, right, draw_pairs("mixed"), k_csls=0, group=group)
        errors += [str(mined.value), str(ranked.value)]
    return errors


@pytest.fixture(scope="module")
def runs() -> dict[int, list[dict[Any, Any]]]:
    return {1: [rank(Group(), 16_384)]} | {size: run_distributed(rank, size, 20) for size in (2, 4)}


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("k_csls", NEIGHBOURS)
@pytest.mark.parametrize("name", LISTS)
def test_every_worker_finds_what_one_machine_finds(runs: Any, name: str, k_csls: int, size: int) -> None:
    codes = draw_codes()
    left, right = (codes[torch.from_numpy(side)] for side in LISTS[name])
    ranks = rank_pairs(left, right, draw_pairs(name), k_csls=k_csls, budget_bytes=BUDGET)
    plain = rank_pairs(left, right, draw_pairs(name), k_csls=0, budget_bytes=BUDGET)
    mutual = mutual_nearest(left, right, k_csls, budget_bytes=BUDGET)
    for worker in runs[size]:
        assert worker[name, k_csls]["ranks"] == integers_of(ranks)
        assert worker[name, k_csls]["both_ways"] == [integers_of(ranks), integers_of(plain)]
        assert worker[name, k_csls]["mutual"] == mutual.pairs.tolist()
        assert worker[name, k_csls]["scores"] == mutual.scores.tolist()


def test_the_cases_are_what_they_say(runs: Any) -> None:
    for size in (2, 4):
        held = [worker["apart", 0]["held"] for worker in runs[size]]
        assert held[0][0] == held[-1][1] == 0
        assert (sum(left for left, _ in held), sum(right for _, right in held)) == (140, 75)
    alone = runs[1][0]
    assert len(alone["mixed", 3]["mutual"]) > 40
    assert alone["mixed", 0]["mutual"] != alone["mixed", 3]["mutual"]
    assert sum(alone["mixed", 0]["ranks"][0][3]) > 20
    empty = [[[]] * 4] * 2
    assert alone["no left", 3]["ranks"] == empty
    assert alone["no left", 3]["both_ways"] == [empty, empty]
    assert {name: alone["no left", 3][name] for name in ("held", "mutual", "scores")} == {
        "held": (0, 43),
        "mutual": [],
        "scores": [],
    }


def test_a_code_that_is_not_finite_is_the_same_error_on_every_worker() -> None:
    alone = spoil(Group())
    assert alone[0] == alone[1]
    assert alone[2] == alone[3]
    for what, message in (("left", alone[0]), ("right", alone[2])):
        assert message.startswith(f"similarity, {what} code 149: expected a vector of finite length, got length nan; ")
    assert run_distributed(spoil, 2) == [alone, alone]
