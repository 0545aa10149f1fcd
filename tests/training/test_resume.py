"""A run that stops anywhere and goes on is the run that never stopped, bit for bit."""

import os
import signal
from pathlib import Path

import pytest
import torch
from distributed import run_distributed
from small_run import EPOCHS, NUM_STEPS, STEPS_PER_EPOCH, SmallRun, same, stop_after

from snag_dist.shard.group import Group
from snag_dist.training.boundary import Boundary, Notices
from snag_dist.training.checkpoint import CheckpointConfig
from snag_dist.training.checkpoint_files import complete_versions, read_pointer
from snag_dist.training.cursor import read_cursor
from snag_dist.training.interruption import Lookout, stop_on_signals


@pytest.fixture(scope="module")
def undisturbed(group: Group, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run from beginning to end."""
    return SmallRun(tmp_path_factory.mktemp("undisturbed"), group).train()


@pytest.mark.parametrize("steps", [1, 3, STEPS_PER_EPOCH, 7, 2 * STEPS_PER_EPOCH, NUM_STEPS - 1])
def test_stopped_at_any_step_and_gone_on(steps: int, undisturbed: SmallRun, group: Group, tmp_path: Path) -> None:
    stopped = SmallRun(tmp_path, group, stop_after(steps)).train()
    assert stopped.loop.interrupted
    cursor = read_cursor(stopped.folder.checkpoints)
    assert cursor == stopped.end
    assert cursor is not None and (cursor.step, cursor.epoch * STEPS_PER_EPOCH + cursor.epoch_step) == (steps, steps)
    resumed = SmallRun(tmp_path, group).train()
    assert not resumed.loop.interrupted
    assert resumed.end == undisturbed.end
    assert resumed.losses() == undisturbed.losses()
    assert same(resumed, undisturbed)


def test_stopped_at_every_step(undisturbed: SmallRun, group: Group, tmp_path: Path) -> None:
    for _ in range(NUM_STEPS):
        last = SmallRun(tmp_path, group, stop_after(1)).train()
    # The last step of the run was one of the interruptions: what is left is the evaluation.
    assert last.loop.interrupted
    assert same(SmallRun(tmp_path, group).train(), undisturbed)


def test_noise_goes_on_with_the_statistics_of_the_epochs_beginning(group: Group, tmp_path: Path) -> None:
    stopped = SmallRun(tmp_path, group, stop_after(STEPS_PER_EPOCH + 3)).train()
    resumed = SmallRun(tmp_path, group)
    resumed.checkpoints.load("LATEST", resumed.stepper, resumed.assignment)
    before, after = stopped.stepper.epoch_state(), resumed.stepper.epoch_state()
    assert all(torch.equal(before[name], after[name]) for name in ("rows/mean", "rows/std"))
    resumed.stepper.begin_epoch()
    assert not torch.equal(before["rows/std"], resumed.stepper.epoch_state()["rows/std"])


def test_checkpoints_by_steps_and_how_many_stay(undisturbed: SmallRun, group: Group, tmp_path: Path) -> None:
    run = SmallRun(tmp_path, group, checkpoint={"every_seconds": None, "every_steps": 3, "keep": 4}).train()
    assert same(run, undisturbed)
    # Evaluations after two epochs and at the end, steps 10 and 15; every third step after any checkpoint: 3 6 9, 13.
    kept = [int(name.removeprefix("step-")) for name in complete_versions(run.folder.checkpoints)]
    assert kept == [9, 10, 13, 15]


def test_checkpoints_by_the_clock(undisturbed: SmallRun, group: Group, tmp_path: Path) -> None:
    # So short that one is due whenever none is on its way; a step may come before the one before it is written.
    run = SmallRun(tmp_path, group, checkpoint={"every_seconds": 1e-6, "keep": 100}).train()
    assert same(run, undisturbed)
    assert len(complete_versions(run.folder.checkpoints)) > EPOCHS - 1
    never = SmallRun(tmp_path / "never", group, checkpoint={"every_seconds": None, "keep": 100}).train()
    assert complete_versions(never.folder.checkpoints) == ["step-00000010", "step-00000015"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_with_a_checkpoint(
    number: signal.Signals, undisturbed: SmallRun, group: Group, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = Lookout((tmp_path / "stop").exists)
    asked: list[bool] = []

    def signalled() -> bool:
        asked.append(stop())
        if len(asked) == 4:
            os.kill(os.getpid(), number)
            # Looked for anew, and not only when the time has come.
            asked.append(Lookout((tmp_path / "stop").exists)())
        return asked[-1]

    before = signal.getsignal(number)
    with stop_on_signals(tmp_path / "stop"):
        run = SmallRun(tmp_path, group, Notices(signalled)).train()
    assert signal.getsignal(number) == before
    assert not (tmp_path / "stop").exists()
    assert f"{number.name}: a checkpoint at the next step, then the run ends; a second signal ends it" in caplog.text
    assert run.loop.interrupted
    assert run.end.step == 4
    assert same(SmallRun(tmp_path, group).train(), undisturbed)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    path.write_text("of a run before\n")
    with pytest.raises(KeyboardInterrupt), stop_on_signals(path):
        assert not path.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        assert path.read_text() == "SIGTERM\n"
        os.kill(os.getpid(), signal.SIGINT)
    # Workers that still live see it.
    assert path.exists()


def test_a_signal_after_a_file_made_by_hand_is_the_first(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    with stop_on_signals(path):
        path.touch()
        os.kill(os.getpid(), signal.SIGTERM)
        assert path.read_text() == "SIGTERM\n"


def test_a_node_that_will_be_taken_back(undisturbed: SmallRun, group: Group, tmp_path: Path) -> None:
    run = SmallRun(tmp_path, group, Notices(preempted=lambda: True), checkpoint={"keep": 100}).train()
    # Asked at the first step; saved once, and gone on: the cluster starts the workers anew when the node goes.
    assert complete_versions(run.folder.checkpoints)[0] == "step-00000001"
    assert len(complete_versions(run.folder.checkpoints)) == 3
    assert same(run, undisturbed)


def test_a_clock_of_another_worker_does_not_count() -> None:
    config = CheckpointConfig(every_seconds=1e-6)
    first, second = (
        Boundary(config, Group(rank, 2), Notices(lambda: True, lambda: True), max_seconds=1e-9).votes(
            in_flight=False, is_writing=rank == 1
        )
        for rank in (0, 1)
    )
    assert tuple(first) == (1.0, 1.0, 1.0, 0.0, 0.0, 1.0)
    assert tuple(second) == (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def stop_and_go_on(group: Group, folder: Path) -> tuple[list[str], bool, str | None]:
    whole = SmallRun(folder / "whole", group).train()
    # Only the first worker is asked to stop; all of them do.
    notices = stop_after(7) if group.rank == 0 else Notices()
    often = {"every_seconds": None, "every_steps": 2, "keep": 100}
    stopped = SmallRun(folder / "parts", group, notices, checkpoint=often).train()
    assert stopped.loop.interrupted and stopped.end.step == 7
    latest = read_pointer(stopped.folder.checkpoints / "LATEST")
    versions = complete_versions(stopped.folder.checkpoints)
    group.barrier()
    return versions, same(SmallRun(folder / "parts", group).train(), whole), latest


@pytest.mark.distributed
def test_two_workers_save_behind_the_training_stop_together_and_go_on(tmp_path: Path) -> None:
    for versions, is_same, latest in run_distributed(stop_and_go_on, 2, tmp_path):
        assert versions == [f"step-{step:08d}" for step in (2, 4, 6, 7)]
        assert is_same
        assert latest == "step-00000007"


def train_part(group: Group, folder: Path, steps: int | None) -> dict[int, float]:
    # Only the first worker is asked to stop; all of them do.
    notices = stop_after(steps) if steps is not None and group.rank == 0 else Notices()
    run = SmallRun(folder, group, notices).train()
    assert run.loop.interrupted == (steps is not None)
    group.barrier()
    return run.losses()


@pytest.mark.distributed
def test_a_run_goes_on_at_other_numbers_of_workers(tmp_path: Path) -> None:
    whole = run_distributed(train_part, 2, tmp_path / "whole", None)[0]
    # Stopped in the middle of the first, the second and the third epoch.
    for workers, steps in ((2, 3), (1, 4), (4, 5), (2, None)):
        parts = run_distributed(train_part, workers, tmp_path / "parts", steps)[0]
    assert parts.keys() == whole.keys() == set(range(1, NUM_STEPS + 1))
    assert parts == pytest.approx(whole, rel=1e-5)
