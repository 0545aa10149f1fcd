"""How a job ends: one line for what the user can mend, another code for a run that was asked to stop."""

import sys

import pytest

from snag_dist.console import run_job
from snag_dist.errors import DataError, Interrupted


def stopped() -> None:
    raise Interrupted("runs/a: stopped as asked after step 7, with a checkpoint; the same command goes on from there")


def failed() -> None:
    raise DataError("table.tsv row 3: expected three columns, got two; mend the row")


def test_a_run_that_was_asked_to_stop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(SystemExit) as ended:
        run_job(stopped)
    assert ended.value.code == 75
    assert capsys.readouterr().err.startswith("runs/a: stopped as asked after step 7, with a checkpoint; the same")


def test_an_error_of_the_user(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(SystemExit) as ended:
        run_job(failed)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: table.tsv row 3: expected three columns, got two; mend the row\n"
