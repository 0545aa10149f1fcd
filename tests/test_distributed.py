"""The harness of the tests with several processes: results come by rank, and a worker's failure is seen."""

import pytest
import torch
from distributed import run_distributed

from snag_dist.shard.group import Group

pytestmark = pytest.mark.distributed


def add_ranks(group: Group, offset: int) -> tuple[int, int]:
    return group.rank + offset, int(group.sum(torch.tensor([group.rank + offset])))


def fail_on_rank_1(group: Group) -> None:
    if group.rank == 1:
        raise ValueError("spoilt on purpose")
    group.barrier()


def test_results_come_by_rank_and_workers_talk() -> None:
    assert run_distributed(add_ranks, 2, 10) == [(10, 21), (11, 21)]


def test_a_failure_surfaces_with_its_traceback_though_others_wait() -> None:
    with pytest.raises(AssertionError, match=r"(?s)worker 1:.*in fail_on_rank_1.*ValueError: spoilt on purpose"):
        run_distributed(fail_on_rank_1, 2)
