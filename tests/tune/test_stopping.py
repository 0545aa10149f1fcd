"""How trials are ended: asked through their folders, with what earlier rounds reached taken up."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recorded_trials import record_trial

from snag_dist.errors import CheckpointError, Interrupted, TakenOver
from snag_dist.training.claim import Claim
from snag_dist.training.run_folder import RunFolder
from snag_dist.tune import rounds, stopping
from snag_dist.tune.config import Sweep, load_sweep
from snag_dist.tune.rounds import run_trial
from snag_dist.tune.search import METRIC
from snag_dist.tune.stopping import Halving, Stopper, is_halted, stop_file
from snag_dist.tune.trial import TRIAL_FILE, base_tree, read_trial, read_trials

WORLD = Path(__file__).parents[2] / "jobs" / "recipes" / "world_sweep.toml"


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return load_sweep(WORLD, [f"runs={tmp_path}"])


def as_tunes(sweep: Sweep, rate: float, *, state: str, status: str = "RUNNING") -> tuple[Any, RunFolder]:
    """A trial as Tune has it, and its run folder."""
    trial = sweep.trial({"train.lr": rate}, 0)
    record_trial(trial, [], state=state, begun=0.0)
    config = {"trial": {"changes": dict(trial.changes), "seed": 0, "compared": False}}
    return SimpleNamespace(trial_id=f"id-{rate}", config=config, status=status), trial.folder


def halving(sweep: Sweep) -> Any:
    choices = {"time_attr": "epoch", "max_t": 30, "grace_period": 10, "reduction_factor": 2}
    return Halving(sweep.trials, metric=METRIC, mode="max", stop_last_trials=False, **choices)


def tell(scheduler: Any, trial: Any, epoch: int, mrr: float) -> str:
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, METRIC: mrr})


def test_what_falls_behind_is_asked_to_stop_and_tune_is_told_that_it_goes_on(sweep: Sweep) -> None:
    scheduler = halving(sweep)
    good, first = as_tunes(sweep, 0.1, state="running")
    bad, second = as_tunes(sweep, 0.2, state="running")
    over, third = as_tunes(sweep, 0.3, state="trained")
    assert [tell(scheduler, one, 10, mrr) for one, mrr in ((good, 0.4), (bad, 0.1), (over, 0.1))] == ["CONTINUE"] * 3
    assert [is_halted(folder) for folder in (first, second, third)] == [False, True, False]
    assert [folder.stop.exists() for folder in (first, second, third)] == [False, True, False]


def test_rungs_of_earlier_rounds_are_taken_up(sweep: Sweep) -> None:
    for rate, mrr in ((0.1, 0.4), (0.2, 0.5)):
        record_trial(sweep.trial({"train.lr": rate}, 0), [mrr - 0.1, mrr, mrr], state="trained", begun=0.0)
    alone, knowing = halving(sweep), halving(sweep)
    knowing.recall(read_trials(sweep.trials))
    late, folder = as_tunes(sweep, 0.3, state="running")
    tell(alone, late, 10, 0.2)
    assert not is_halted(folder)
    tell(knowing, late, 10, 0.2)
    assert is_halted(folder)


def test_a_sweep_ends_when_its_trials_have_followed(sweep: Sweep) -> None:
    stopper = Stopper(sweep.path, sweep.trials, Claim.take(sweep.path))
    training, folder = as_tunes(sweep, 0.1, state="running")
    ended, other = as_tunes(sweep, 0.2, state="trained", status="TERMINATED")
    stopper.on_step_end(1, [training, ended])
    assert not folder.stop.exists()
    stop_file(sweep.path).touch()
    stopper._next_look = 0.0
    stopper.on_step_end(2, [training, ended])
    assert folder.stop.exists() and not other.stop.exists()
    folder.write_status(state="interrupted")
    folder.checkpoints.mkdir()
    (folder.checkpoints / "LATEST").write_text("step-00000001")
    stopper._next_look = 0.0
    with pytest.raises(Interrupted, match=r"stopped as asked, 1 trials with a checkpoint; the same command goes on"):
        stopper.on_step_end(3, [training, ended])


def test_a_sweep_that_another_command_has_taken_over_ends_when_its_workers_had_the_time_to(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim.take(sweep.path)
    training, folder = as_tunes(sweep, 0.1, state="running")
    stopper = Stopper(sweep.path, sweep.trials, claim)
    Claim.take(sweep.path)
    # The other one is asked to stop, which is no business of this one's trials.
    stop_file(sweep.path).touch()
    monkeypatch.setattr(stopping, "_SECONDS_TO_LEAVE", 0.2)
    stopper.on_step_end(1, [training])
    stopper._next_look = 0.0
    time.sleep(0.3)
    with pytest.raises(TakenOver, match="has taken it over"):
        stopper.on_step_end(2, [training])
    assert not folder.stop.exists()


def test_a_trial_of_a_sweep_that_was_taken_over_waits_for_its_end_and_writes_nothing_down(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim.take(sweep.path)
    training, folder = as_tunes(sweep, 0.1, state="waiting")

    def die(*_: Any, **__: Any) -> None:
        Claim.take(sweep.path)
        raise RuntimeError("the actor died")

    class Ended(Exception):
        """The driver of the sweep ended, and this process with it."""

    def end(_seconds: float) -> None:
        raise Ended

    monkeypatch.setattr(rounds, "launch", die)
    monkeypatch.setattr(rounds.time, "sleep", end)
    with pytest.raises(Ended):
        run_trial(training.config, base_tree(sweep.recipe), str(sweep.trials), claim)
    assert folder.read_status()["state"] == "waiting"


@pytest.mark.parametrize(("is_user_error", "kind"), [(True, "ConfigError"), (False, "RuntimeError")])
def test_what_failed_is_not_tried_again(sweep: Sweep, is_user_error: bool, kind: str) -> None:
    trial = sweep.trial({"train.lr": 0.1}, 0)
    trial.begin()
    trial.fail("epoch 1: no finite loss", is_user_error=is_user_error)
    asked = {"changes": dict(trial.changes), "seed": 0, "compared": False}
    with pytest.raises(Exception, match=r"^epoch 1: no finite loss$") as caught:
        run_trial({"trial": asked}, base_tree(sweep.recipe), str(sweep.trials), Claim.take(sweep.path))
    assert type(caught.value).__name__ == kind


def test_a_trial_that_is_not_what_its_folder_is_named_by_is_told(sweep: Sweep) -> None:
    trial = sweep.trial({"train.lr": 0.1}, 0)
    record_trial(trial, [0.1, 0.2], state="trained", begun=0.0)
    file = trial.folder.path / TRIAL_FILE
    file.write_text(file.read_text().replace("0.1", "0.3"))
    with pytest.raises(CheckpointError, match=r"trial\.json: expected the setting that lr-0\.1-\w+-s0 is named by"):
        read_trial(trial.folder.path)


def test_a_trained_trial_without_an_evaluation_is_told(sweep: Sweep) -> None:
    trial = sweep.trial({"train.lr": 0.1}, 0)
    record_trial(trial, [0.1, 0.2], state="trained", begun=0.0)
    trial.folder.log.write_text("")
    with pytest.raises(
        CheckpointError, match=r"log\.jsonl: expected the evaluations of a trial that was trained to its"
    ):
        read_trial(trial.folder.path)


def test_a_damaged_line_of_a_log_is_told(sweep: Sweep) -> None:
    trial = sweep.trial({"train.lr": 0.1}, 0)
    record_trial(trial, [0.1, 0.2], state="running", begun=0.0)
    lines = trial.folder.log.read_bytes()
    trial.folder.log.write_bytes(lines.replace(b'"step": 20', b'"step\xff: 20'))
    with pytest.raises(CheckpointError, match=r"log\.jsonl line 2: expected JSON, got: .*remove the run folder"):
        read_trial(trial.folder.path)
