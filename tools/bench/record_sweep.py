"""Record a finished sweep as a result: python tools/bench/record_sweep.py NAME --recipe RECIPE --set a.b=c

Reads what its trials left behind and writes tools/bench/results/NAME.json: every setting on dev, the winner and GMNM
off on test, what the report says of them, and the pace.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parent))

from records import describe_machine, save_record, today

from snag_dist.training.run_folder import RunFolder
from snag_dist.tune.config import Sweep, load_sweep
from snag_dist.tune.outcome import Outcome
from snag_dist.tune.sweep import read_outcome
from snag_dist.tune.table import describe_outcome

# Seconds without a line of any trial; no start of workers takes so long.
_PAUSE = 300.0


def pace_of(sweep: Sweep, outcome: Outcome) -> dict[str, float]:
    """Trials an hour and how much of the time workers trained or evaluated; starts of Ray and of workers are the rest.

    Where a sweep was interrupted, the time until it went on is left out.
    """
    busy = 0.0
    times: list[float] = []
    trials = [trial for trial in outcome.trials if trial.started]
    for trial in trials:
        for line in map(json.loads, RunFolder(sweep.trials / trial.name).log.read_text().splitlines()):
            times.append(line["time"])
            busy += line.get("evaluation_seconds", 0.0) + (line["elapsed_seconds"] if "loss" in line else 0.0)
    pauses = [right - left for left, right in pairwise(sorted(times)) if right - left > _PAUSE]
    hours = (max(times) - min(times) - sum(pauses)) / 3600
    return {
        "trials": len(trials),
        "pauses_left_out": len(pauses),
        "at_once": sweep.tune.max_concurrent,
        "hours": round(hours, 3),
        "trials_an_hour": round(len(trials) / hours, 1),
        "share_of_time_workers_were_busy": round(busy / 3600 / hours / sweep.tune.max_concurrent, 3),
    }


def describe(sweep: Sweep, outcome: Outcome) -> dict[str, Any]:
    """Figures of a sweep."""
    scores = {score.setting.name: score for score in outcome.scores}
    settings: list[dict[str, Any]] = []
    for setting in outcome.settings:
        figures: dict[str, Any] = {
            "changes": dict(setting.changes),
            "state": setting.state,
            "best_dev_mrr": {trial.seed: round(trial.best, 4) for trial in setting.trials if trial.best is not None},
            "mean": None if setting.mean is None else round(setting.mean, 4),
            "standard_error": None if setting.error is None else round(setting.error, 4),
        }
        if setting.name in scores:
            score = scores[setting.name]
            figures |= {"test_mrr": [round(mrr, 4) for mrr in score.mrr]}
            figures |= {"test_hits@10": [round(hits, 4) for hits in score.hits10]}
        settings.append(figures)
    return {"pace": pace_of(sweep, outcome), "said": describe_outcome(outcome).splitlines(), "settings": settings}


def main(
    name: Annotated[str, typer.Argument(help="Name of the result.")],
    recipe: Annotated[Path, typer.Option(help="Recipe of the sweep.")],
    command: Annotated[str, typer.Option(help="Command the sweep was made with.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Overrides the sweep had.")] = None,
    note: Annotated[list[str] | None, typer.Option(help="What was tried, and how the settings were chosen.")] = None,
) -> None:
    """Write a result from the folder of a sweep."""
    sweep = load_sweep(recipe, set_ or [])
    outcome = read_outcome(sweep)
    [first, *_] = outcome.trials
    record = {
        "name": name,
        "date": today(),
        "command": command,
        "machine": {key: value for key, value in describe_machine().items() if key != "load_at_start"},
        "versions": RunFolder(sweep.trials / first.name).read_status()["versions"],
        "notes": note or [],
        **describe(sweep, outcome),
    }
    save_record(record)
    print(json.dumps(record["pace"] | {"said": record["said"]}, indent=2))


if __name__ == "__main__":
    typer.run(main)
