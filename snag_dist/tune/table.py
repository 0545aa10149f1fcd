"""The outcome of a sweep on a terminal, in words, and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from rich.table import Table
from rich.text import Text
from scipy.stats import t as student

from snag_dist.tune.outcome import Outcome, TestScore, is_of_noise
from snag_dist.tune.rung_table import describe_prediction
from snag_dist.tune.setting import Setting
from snag_dist.tune.space import NOISE
from snag_dist.tune.trial import short_names

_STRENGTHS: Mapping[str, str] = {"probability": "rho", "ratio": "epsilon"}
_HEADINGS: Mapping[str, str] = {f"{NOISE}.kind": "noise", "method.negatives.num": "negatives"}


def name_fields(outcome: Outcome) -> dict[str, str]:
    """Name the fields that settings differ in, as headings; those of GMNM as in the paper."""
    names = short_names(outcome.fields)
    found: dict[str, str] = {}
    for field, name in names.items():
        *before, last = name.split(".")
        strength = _STRENGTHS.get(last, last) if is_of_noise(field) else last
        found[field] = _HEADINGS.get(field, ".".join([*before, strength]))
    return found


def write_value(value: Any) -> str:
    """Write the value of a field; empty for none."""
    if isinstance(value, Mapping):
        return str(value.get("kind", "section"))
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def write_figure(mean: float | None, error: float | None) -> str:
    """Write a share with its standard error: ".2142 ±.0031"; without the error for one seed; empty for no figure."""
    if mean is None:
        return ""
    return write_share(mean) + ("" if error is None else f" ±{write_share(error)}")


def write_share(value: float) -> str:
    """Write a share with four digits and its sign: ".2142", "-.0031"."""
    return f"{value:.4f}".replace("0.", ".", 1)


def table_of_settings(outcome: Outcome, most: int = 30) -> Table:
    """Lay out the settings, best on dev first.

    Args:
        outcome: of a sweep.
        most: settings shown; the CSV has all.
    """
    names = name_fields(outcome)
    shown = outcome.settings[:most]
    left = len(outcome.settings) - len(shown)
    table = Table(
        title=Text(f"Sweep {outcome.name}: dev MRR, mean ± standard error over seeds; test MRR where it was scored"),
        title_justify="left",
        caption=Text(f"and {left} more, see settings.csv") if left else None,
        caption_justify="left",
    )
    for name in names.values():
        table.add_column(Text(name), justify="right")
    for name in ("dev MRR", "seeds", "epochs", "state", "test MRR"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for setting in shown:
        is_winner = outcome.winner is not None and setting.name == outcome.winner.name
        cells = [write_value(setting.changes.get(field)) for field in names]
        table.add_row(*(Text(cell) for cell in [*cells, *figure_cells(outcome, setting)]), style="bold" * is_winner)
    return table


def figure_cells(outcome: Outcome, setting: Setting) -> list[str]:
    """Write dev MRR, seeds, epochs, state and test MRR of a setting."""
    score = _score_of(outcome, setting)
    epochs = sorted({trial.epochs for trial in setting.trials})
    return [
        write_figure(setting.mean, setting.error),
        str(len(setting.figures)),
        "-".join(map(str, dict.fromkeys([epochs[0], epochs[-1]]))),
        setting.state,
        "" if score is None else write_figure(fmean(score.mrr), standard_error(score.mrr)),
    ]


def _score_of(outcome: Outcome, setting: Setting) -> TestScore | None:
    return next((score for score in outcome.scores if score.setting.name == setting.name), None)


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean; None of fewer than two values."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def describe_outcome(outcome: Outcome) -> str:
    """Say in a few lines what the sweep found, whether GMNM helps, and whether its cheap rungs could be trusted."""
    found = ["no trial was trained to its end"] if outcome.winner is None else _describe_winner(outcome, outcome.winner)
    return "\n".join(found + ([] if outcome.prediction is None else describe_prediction(outcome.prediction)))


def _describe_winner(outcome: Outcome, winner: Setting) -> list[str]:
    names = name_fields(outcome)
    words = ", ".join(
        f"{names[field]} {write_value(winner.changes[field])}" for field in names if field in winner.changes
    )
    lines = [f"winner on dev: {words}: {write_figure(winner.mean, winner.error)}"]
    if outcome.noise_off is not None and outcome.noise_off.name == winner.name:
        lines.append("the winner has no GMNM: no setting with noise was better on dev")
        lines += [f"test MRR {write_figure(fmean(score.mrr), standard_error(score.mrr))}" for score in outcome.scores]
    elif len(outcome.scores) == 2:
        lines.append(_compare(*outcome.scores))
    return lines


def _compare(winner: TestScore, off: TestScore) -> str:
    """Say what GMNM is worth on test, seed by seed."""
    without = dict(zip((trial.seed for trial in off.setting.trials if trial.is_complete), off.mrr, strict=True))
    pairs = zip((trial.seed for trial in winner.setting.trials if trial.is_complete), winner.mrr, strict=True)
    gains = [mrr - without[seed] for seed, mrr in pairs if seed in without]
    gain, error = fmean(gains), standard_error(gains)
    if error is None:
        verdict = "one seed does not tell whether that is chance"
    else:
        # Student's t: with two seeds, a difference of twice its standard error comes by chance three times in ten.
        reach = error * float(student.ppf(0.975, len(gains) - 1))
        verdict = f"95 % interval {write_share(gain - reach)} to {write_share(gain + reach)} over {len(gains)} seeds"
        if abs(gain) <= reach:
            verdict += ", so not shown to differ"
    return (
        f"test MRR {write_figure(fmean(winner.mrr), standard_error(winner.mrr))} with GMNM, "
        f"{write_figure(fmean(off.mrr), standard_error(off.mrr))} without: "
        f"difference {write_figure(gain, error)}, {verdict}"
    )


def settings_to_csv(outcome: Outcome) -> str:
    """Write one line a setting, full precision, best on dev first."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [*outcome.fields, "dev_mrr", "standard_error", "num_seeds", "state", "test_mrr", "test_hits@10", "winner"]
    )
    for setting in outcome.settings:
        score = _score_of(outcome, setting)
        writer.writerow(
            [
                *(setting.changes.get(field, "") for field in outcome.fields),
                *("" if value is None else repr(value) for value in (setting.mean, setting.error)),
                *(len(setting.figures), setting.state),
                *(["", ""] if score is None else [repr(fmean(score.mrr)), repr(fmean(score.hits10))]),
                "yes" if outcome.winner is not None and setting.name == outcome.winner.name else "no",
            ]
        )
    return file.getvalue()


def trials_to_csv(outcome: Outcome) -> str:
    """Write one line a trial, in the order they began."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", *outcome.fields, "seed", "state", "epochs", "best_dev_mrr", "seconds", "error"])
    for trial in outcome.trials:
        writer.writerow(
            [
                *(trial.name, *(trial.changes.get(field, "") for field in outcome.fields), trial.seed, trial.state),
                *(trial.epochs, "" if trial.best is None else repr(trial.best)),
                *(f"{trial.ended - trial.started:.1f}", trial.error),
            ]
        )
    return file.getvalue()
