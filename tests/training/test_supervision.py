"""What the driver makes of workers that fail, and of warnings while they run; the workers themselves are elsewhere."""

import threading
from pathlib import Path

import pytest
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from snag_dist.errors import NumericError, TakenOver
from snag_dist.training.claim import Claim
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.supervision import RestartCounter, wait


def died() -> dict[int, Exception]:
    return {1: RuntimeError("the actor died\nand more"), 3: RuntimeError("connection closed")}


def test_restarts_are_counted_over_the_life_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first = RestartCounter(folder, 2, counts=True)
    for _ in range(3):
        first.after_exception(None, died())
    # The third failure was not followed by a restart: two were allowed.
    assert folder.read_status()["restarts"] == 2
    RestartCounter(folder, 2, counts=True).after_exception(None, died())
    assert folder.read_status()["restarts"] == 3
    assert folder.read_warnings()[-1] == (
        "restart 3: worker 1 failed with RuntimeError (the actor died); all workers are started anew and go on from "
        "the last checkpoint"
    )
    RestartCounter(folder, 2, counts=False).after_exception(None, died())
    assert folder.read_status()["restarts"] == 3


def test_a_node_that_was_taken_back_is_counted_and_costs_no_failure(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_status(notice=True)
    counter = RestartCounter(folder, 1, counts=True)
    gone = WorkerHealthCheckFailedError("no answer", failure=RayActorError(error_msg="the node died", preempted=True))
    for number in (1, 2):
        counter.after_exception(None, {0: RuntimeError("connection closed"), 1: gone})
        assert (folder.read_status()["restarts"], folder.read_status()["notice"]) == (number, False)
    # The one failure that is allowed is still to come.
    for number in (3, 3):
        counter.after_exception(None, died())
        assert folder.read_status()["restarts"] == number


def test_what_the_user_must_mend_ends_the_run(tmp_path: Path) -> None:
    failure = NumericError("epoch 0 step 3: expected a finite loss")
    wrapped = RuntimeError("task failed")
    wrapped.__cause__ = failure
    with pytest.raises(NumericError, match="expected a finite loss"):
        RestartCounter(RunFolder(tmp_path), 2, counts=True).after_exception(None, {**died(), 2: wrapped})
    assert not RunFolder(tmp_path).read_status()


def test_failures_of_a_run_that_is_another_drivers_are_not_counted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    counter = RestartCounter(folder, 2, counts=True, claim=Claim.take(tmp_path))
    Claim.take(tmp_path)
    with pytest.raises(TakenOver, match="has taken it over"):
        counter.after_exception(None, died())
    assert not folder.read_status()


def test_warnings_are_shown_when_they_come_and_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.add_warning("of the time before")
    shown = threading.Event()

    def work() -> int:
        folder.add_warning("step-00000008/cursor.json: missing")
        while "cursor.json" not in caplog.text:
            assert not shown.wait(0.05)
        return 7

    assert wait(work, folder) == 7
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [
        "step-00000008/cursor.json: missing",
        "run: 1 warning(s) while it ran, kept in run.json:",
        "  step-00000008/cursor.json: missing",
    ]


def test_what_the_work_raises_is_raised(tmp_path: Path) -> None:
    def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        wait(work, RunFolder(tmp_path))
