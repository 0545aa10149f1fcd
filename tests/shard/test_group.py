"""Workers that lose each other say who waited, and in what."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from distributed import run_distributed
from torch import nn

from snag_dist.shard.group import CollectiveError, Group
from snag_dist.training.engine import Engine, EngineConfig

SECONDS, PATIENCE = 2.0, 60.0
"""Timeout of the process group, and how long a worker that does not come waits for the other to notice."""


def leave() -> None:
    """Leave the group for one of this worker alone."""
    dist.destroy_process_group()
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)


def told(act: Callable[[], object]) -> str:
    """What an act ends with."""
    try:
        act()
    except CollectiveError as error:
        return str(error)
    return "no error"


def lose_the_other(group: Group) -> str:
    if group.rank == 1:
        leave()
        return ""
    said = told(lambda: group.sum(torch.ones(1)))
    leave()
    return said


def do_not_come(group: Group, folder: Path, zero_stage: int) -> list[str]:
    """Rank 1 sleeps past the timeout of the process group; return what rank 0 says of its exchanges."""
    dist.destroy_process_group()
    dist.init_process_group("gloo", init_method=f"file://{folder / 'again'}", rank=group.rank, world_size=group.size)
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=SECONDS))
    engine = Engine(nn.Linear(3, 2), EngineConfig(zero_stage=zero_stage), group, 1)
    if zero_stage:
        engine.backward(engine(torch.ones(1, 3)).sum())
    group.barrier()
    noticed, said = folder / "noticed", list[str]()
    if group.rank == 0:
        said.append(told(lambda: group.sum(torch.ones(1))))
        if zero_stage:
            said += [told(lambda: engine.step(0.1, 1.0)), told(engine.state)]
        else:
            engine.backward(engine(torch.ones(1, 3)).sum())
            said.append(told(engine.squared_norm))
        noticed.write_text("")
    end = time.monotonic() + PATIENCE
    while not noticed.exists() and time.monotonic() < end:
        time.sleep(0.1)
    late = not noticed.exists()
    leave()
    assert not late, "the timeout of the run does not hold for all exchanges"
    return said


@pytest.mark.distributed
def test_a_lost_worker_is_told_with_rank_and_operation() -> None:
    message = run_distributed(lose_the_other, 2)[0]
    assert message.startswith("rank 0 of 2: sum did not end: ")
    assert message.endswith("another worker died, or did not come within cluster.timeout_seconds")


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("zero_stage", "operations"), [(0, ["sum", "dense gradients"]), (1, ["sum", "dense update", "dense state"])]
)
def test_a_worker_that_does_not_come_is_told_with_rank_and_operation(
    zero_stage: int, operations: list[str], tmp_path: Path
) -> None:
    said = run_distributed(do_not_come, 2, tmp_path, zero_stage)[0]
    assert [message.partition(" did not end: ")[0] for message in said] == [f"rank 0 of 2: {one}" for one in operations]
    assert all(
        message.endswith("another worker died, or did not come within cluster.timeout_seconds") for message in said
    )


def test_what_is_not_of_the_network_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shape mismatch") as caught, Group().named("dense gradients"):
        raise RuntimeError("shape mismatch")
    assert not isinstance(caught.value, CollectiveError)
    nested = Group().named("dense gradients"), Group().named("sum")
    told_once = r"^rank 0 of 1: sum did not end: gloo/pair\.cc: closed; another"
    with pytest.raises(CollectiveError, match=told_once), nested[0], nested[1]:
        raise RuntimeError("gloo/pair.cc: closed")
