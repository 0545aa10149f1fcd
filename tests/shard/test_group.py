"""Workers that lose each other say who waited, and in what."""

import pytest
import torch
from distributed import run_distributed

from snag_dist.shard.group import CollectiveError, Group


def lose_the_other(group: Group) -> str:
    if group.rank == 1:
        torch.distributed.destroy_process_group()
        torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
        return ""
    try:
        group.sum(torch.ones(1))
    except CollectiveError as error:
        torch.distributed.destroy_process_group()
        torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
        return str(error)
    return "no error"


@pytest.mark.distributed
def test_a_lost_worker_is_told_with_rank_and_operation() -> None:
    message = run_distributed(lose_the_other, 2)[0]
    assert message.startswith("rank 0 of 2: sum did not end: ")
    assert message.endswith("another worker died, or did not come within cluster.timeout_seconds")
