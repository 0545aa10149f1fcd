"""A run that another driver takes over: the first one's workers end, and neither spoils what the other does."""

from pathlib import Path

import pytest
from distributed import run_distributed
from small_run import SmallRun, same

from snag_dist.errors import TakenOver
from snag_dist.shard.group import Group
from snag_dist.training.boundary import Notices
from snag_dist.training.checkpoint_files import complete_versions
from snag_dist.training.claim import Claim

EVERY_STEP = {"every_seconds": None, "every_steps": 1, "keep": 100}


def taken_after(claim: Claim, steps: int) -> Notices:
    """Notices of a run that is taken over during its step number `steps`, from 1."""
    asked = iter(range(1, 1 << 30))

    def look() -> bool:
        if next(asked) == steps:
            Claim.take(claim.folder, "another")
        return False

    return Notices(stop_requested=look, claim=claim)


def take_over(group: Group, folder: Path) -> tuple[str, list[str], bool]:
    whole = SmallRun(folder / "whole", group).train()
    first = Claim.take(folder / "taken")
    group.barrier()
    notices = taken_after(first, 7) if group.rank == 0 else Notices(claim=first)
    with pytest.raises(TakenOver) as caught:
        SmallRun(folder / "taken", group, notices, checkpoint=EVERY_STEP).train()
    versions = complete_versions(folder / "taken" / "checkpoints")
    group.barrier()
    second = Notices(claim=Claim(folder / "taken", "another"))
    return str(caught.value), versions, same(SmallRun(folder / "taken", group, second).train(), whole)


@pytest.mark.distributed
def test_workers_of_the_first_driver_end_together_and_the_run_goes_on(tmp_path: Path) -> None:
    for message, versions, is_same in run_distributed(take_over, 2, tmp_path):
        assert "taken: expected to be the only command there, found that process " in message
        # The sixth step's was on its way when the claim was lost: written, and not published.
        assert 3 <= len(versions) <= 6
        assert is_same


def test_a_checkpoint_on_its_way_is_not_published_and_the_other_drivers_stays(group: Group, tmp_path: Path) -> None:
    claim = Claim.take(tmp_path)
    run = SmallRun(tmp_path, group, Notices(claim=claim))
    cursor = run.checkpoints.load("LATEST", run.stepper, run.assignment)
    assert cursor is None
    run.train()
    before = complete_versions(run.folder.checkpoints)
    run.checkpoints.save(run.end.next_stage(), run.stepper, run.assignment, best=False)
    Claim.take(tmp_path, "another")
    # Of the same version, by the other driver's workers.
    theirs = run.folder.checkpoints / f"{before[-1]}-another.partial"
    theirs.mkdir()
    with pytest.raises(TakenOver):
        run.checkpoints.settle()
    assert complete_versions(run.folder.checkpoints) == before
    assert [path.name for path in run.folder.checkpoints.glob("*.partial")] == [theirs.name]


def test_the_last_claim_holds(tmp_path: Path) -> None:
    first = Claim.take(tmp_path)
    assert first.is_held() and Claim.take(tmp_path).is_held() and first.is_held()
    second = Claim.take(tmp_path, "another")
    assert second.is_held() and not first.is_held()
    with pytest.raises(TakenOver, match=r"process \d+ on .* has taken it over since; this one ends"):
        first.require()
