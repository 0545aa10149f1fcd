"""A run that another driver takes over: the first one's workers end, and neither spoils what the other does."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from desk import hold_ray_out, write_desk
from distributed import run_distributed
from small_run import SmallRun, same

import snag_dist
from snag_dist.errors import TakenOver
from snag_dist.kg.truth import TruthIndex
from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.training.boundary import Notices
from snag_dist.training.checkpoint_files import complete_versions
from snag_dist.training.claim import Claim
from snag_dist.training.completion_scoring import CompletionScoring
from snag_dist.training.interruption import stop_on_signals
from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import read_json
from snag_dist.training.worker import Worker, WorkerContext

EVERY_STEP = {"every_seconds": None, "every_steps": 1, "keep": 100}


def taken_after(claim: Claim, steps: int) -> Notices:
    """Notices of a run that is taken over during its step number `steps`, from 1."""
    asked = iter(range(1, 1 << 30))

    def look() -> bool:
        if next(asked) == steps:
            Claim.take(claim.folder)
        return False

    return Notices(stop_requested=look, claim=claim)


def take_over(group: Group, folder: Path) -> tuple[str, list[str], bool]:
    whole = SmallRun(folder / "whole", group).train()
    # A driver's, which its workers share.
    first = group.broadcast_object(Claim.take(folder / "taken") if group.rank == 0 else None)
    notices = taken_after(first, 7) if group.rank == 0 else Notices(claim=first)
    with pytest.raises(TakenOver) as caught:
        SmallRun(folder / "taken", group, notices, checkpoint=EVERY_STEP).train()
    versions = complete_versions(folder / "taken" / "checkpoints")
    group.barrier()
    second = Notices(claim=replace(first, token=read_json(folder / "taken" / "driver.json")["token"]))
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
    Claim.take(tmp_path)
    # Of the same version, by the other driver's workers.
    theirs = run.folder.checkpoints / f"{before[-1]}-another.partial"
    theirs.mkdir()
    with pytest.raises(TakenOver):
        run.checkpoints.settle()
    assert complete_versions(run.folder.checkpoints) == before
    assert [path.name for path in run.folder.checkpoints.glob("*.partial")] == [theirs.name]


def test_the_last_claim_holds(tmp_path: Path) -> None:
    first = Claim.take(tmp_path)
    first.require()
    second = Claim.take(tmp_path)
    assert second.is_held() and not first.is_held()
    with pytest.raises(TakenOver, match=r"process \d+ on .* has taken it over since; this one ends"):
        first.require()


def test_a_run_is_lost_with_the_sweep_it_is_a_trial_of(tmp_path: Path) -> None:
    sweep = Claim.take(tmp_path)
    trial = Claim.take(tmp_path / "trials" / "one", sweep)
    trial.require()
    Claim.take(tmp_path)
    with pytest.raises(TakenOver, match=rf"^{tmp_path}: expected to be the only command"):
        trial.require()
    with pytest.raises(TakenOver, match=rf"^{tmp_path}: "):
        Claim.take(tmp_path / "trials" / "two", sweep)
    assert not (tmp_path / "trials" / "two").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", None])
def test_a_file_that_cannot_be_read_takes_nothing_away(content: str | None, tmp_path: Path) -> None:
    claim = Claim.take(tmp_path)
    if content is None:
        (tmp_path / "driver.json").unlink()
    else:
        (tmp_path / "driver.json").write_text(content)
    assert claim.is_held()
    assert "process None" in str(claim.loss())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_first_driver_does_not_stop_the_second(number: signal.Signals, tmp_path: Path) -> None:
    claim, stop = Claim.take(tmp_path), tmp_path / "stop"
    with pytest.raises(KeyboardInterrupt), stop_on_signals(stop, claim.is_held):
        Claim.take(tmp_path)
        os.kill(os.getpid(), number)
    assert not stop.exists()
    with stop_on_signals(stop, claim.is_held):
        # Of the second one, which was asked to stop.
        stop.touch()
    assert stop.exists()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe and raw data, and Ray held out."""
    write_desk(tmp_path)
    monkeypatch.chdir(tmp_path)
    hold_ray_out(monkeypatch)
    return tmp_path


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_worker_that_starts_late_changes_nothing(desk: Path, group: Group) -> None:
    recipe = load_recipe(Path("mine.toml"))
    snag_dist.train(recipe)
    folder = desk / "runs" / "done"
    first = Claim.take(folder)
    Claim.take(folder)
    (folder / "checkpoints" / "step-00000099-another.partial").mkdir()
    before = content_of(folder)
    triples = open_store(recipe.store).triples("train")
    worker = Worker(recipe, WorkerContext(group, lambda _metrics: None, triples, notices=Notices(claim=first)))
    for act in (worker.train, lambda: worker.evaluate("test")):
        with pytest.raises(TakenOver):
            act()
    assert content_of(folder) == before
    assert (folder / "checkpoints" / "step-00000099-another.partial").is_dir()


def test_ranks_and_report_are_not_written_any_more(desk: Path, group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(Path("mine.toml"))
    snag_dist.train(recipe)
    folder = desk / "runs" / "done"
    shutil.rmtree(folder / "ranks")
    before = content_of(folder)
    claim = Claim.take(folder)
    worker = Worker(recipe, WorkerContext(group, lambda _metrics: None, notices=Notices(claim=claim)))
    truth = CompletionScoring._truth

    def lose(scoring: CompletionScoring, *splits: str) -> TruthIndex:
        # Between the last look and the first block.
        Claim.take(folder)
        return truth(scoring, *splits)

    monkeypatch.setattr(CompletionScoring, "_truth", lose)
    with pytest.raises(TakenOver):
        worker.evaluate("test")
    after = content_of(folder)
    assert after.pop("driver.json") and before.pop("driver.json", b"") is not None
    assert after == before
