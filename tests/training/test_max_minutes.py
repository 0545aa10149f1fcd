"""A run whose time is over ends as if its epochs were: evaluated once more, with a best checkpoint, and not gone on."""

import json
import time
from pathlib import Path

import pytest
from distributed import run_distributed
from small_run import EPOCHS, NUM_STEPS, STEPS_PER_EPOCH, SmallRun, same, stop_after

from snag_dist.shard.group import Group
from snag_dist.training.checkpoint_files import read_pointer
from snag_dist.training.cursor import read_cursor
from snag_dist.training.loop import why_ended

AT_ONCE, NEVER = 1e-9, 1e9


def evaluations(run: SmallRun) -> list[int]:
    """Steps that dev was evaluated after."""
    return [line["step"] for line in map(json.loads, run.folder.log.read_text().splitlines()) if "dev" in line]


def test_it_ends_with_the_step_it_is_in_and_an_evaluation(group: Group, tmp_path: Path) -> None:
    run = SmallRun(tmp_path, group, max_seconds=AT_ONCE).train()
    assert not run.loop.interrupted
    assert (run.end.epoch, run.end.epoch_step, run.end.step, run.end.best_step) == (0, 1, 1, 1)
    assert why_ended(run.end, EPOCHS, run.config) == "max_minutes"
    assert evaluations(run) == [1]
    assert read_pointer(run.folder.checkpoints / "BEST") == "step-00000001"


def test_the_same_command_takes_no_further_step(group: Group, tmp_path: Path) -> None:
    ended = SmallRun(tmp_path, group, max_seconds=AT_ONCE).train()
    again = SmallRun(tmp_path, group, max_seconds=AT_ONCE).train()
    assert again.end == ended.end
    assert evaluations(again) == [1]
    assert same(again, ended)


def test_a_limit_that_is_not_met_changes_nothing(group: Group, tmp_path: Path) -> None:
    limited = SmallRun(tmp_path / "limited", group, max_seconds=NEVER).train()
    plain = SmallRun(tmp_path / "plain", group).train()
    assert limited.end == plain.end
    assert why_ended(limited.end, EPOCHS, limited.config) == "epochs"
    assert same(limited, plain)


def test_time_before_an_interruption_counts(group: Group, tmp_path: Path) -> None:
    stopped = SmallRun(tmp_path, group, stop_after(7), max_seconds=NEVER).train()
    assert stopped.loop.interrupted
    cursor = read_cursor(stopped.folder.checkpoints)
    assert cursor is not None and cursor.seconds > 0
    assert not cursor.is_over
    resumed = SmallRun(tmp_path, group, max_seconds=cursor.seconds).train()
    assert resumed.end.step == 8
    assert evaluations(resumed)[-1] == 8


def test_the_last_step_of_an_epoch_completes_it(group: Group, tmp_path: Path) -> None:
    SmallRun(tmp_path, group, stop_after(STEPS_PER_EPOCH - 1), max_seconds=NEVER).train()
    run = SmallRun(tmp_path, group, max_seconds=AT_ONCE).train()
    assert (run.end.epoch, run.end.epoch_step, run.end.step) == (1, 0, STEPS_PER_EPOCH)
    assert evaluations(run) == [STEPS_PER_EPOCH]


def test_asked_to_stop_in_the_same_step_it_stops_and_ends_later(group: Group, tmp_path: Path) -> None:
    stopped = SmallRun(tmp_path, group, stop_after(1), max_seconds=AT_ONCE).train()
    assert stopped.loop.interrupted and evaluations(stopped) == []
    ended = SmallRun(tmp_path, group, max_seconds=AT_ONCE).train()
    assert not ended.loop.interrupted and evaluations(ended) == [2]


def test_time_that_an_evaluation_took_ends_the_run_with_it(group: Group, tmp_path: Path) -> None:
    run = SmallRun(tmp_path, group, max_seconds=2.0, evaluate_every=1)
    plain = run.assignment.dev_metrics

    def slow() -> dict[str, float]:
        time.sleep(2.0)
        return plain()

    run.assignment.dev_metrics = slow
    run.train()
    assert len(evaluations(run)) == 1
    assert run.end.is_over and run.end.step < NUM_STEPS


def end_by_the_first_clock(group: Group, folder: Path) -> tuple[int, bool]:
    # The second worker would never end.
    run = SmallRun(folder, group, max_seconds=AT_ONCE if group.rank == 0 else NEVER).train()
    return run.end.step, run.end.is_over


@pytest.mark.distributed
def test_all_workers_end_at_the_same_step(tmp_path: Path) -> None:
    assert run_distributed(end_by_the_first_clock, 2, tmp_path) == [(1, True), (1, True)]
