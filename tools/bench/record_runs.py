"""Record finished runs as one result: python tools/bench/record_runs.py NAME RUN_FOLDER [RUN_FOLDER ...]

Reads what each run left behind (metrics of the test split, config, log) and writes tools/bench/results/NAME.json: test
ranks beside protocol, choices, wall time and versions.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parent))

from records import describe_machine, save_record, today

from snag_dist.evaluation.alignment_report import AlignmentReport, AnyReport, read_any_report
from snag_dist.evaluation.report import MetricsRecord
from snag_dist.training.run_folder import RunFolder


def describe(folder: RunFolder) -> dict[str, Any]:
    """Figures of one run."""
    reports = {name: path for name in ("test-plain", "test") if (path := folder.metrics(name)).is_file()}
    opened = {name: read_any_report(path) for name, path in reports.items()}
    config, status = folder.read_config(), folder.read_status()
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    return {
        **{name.replace("-", "_"): figures_of(report) for name, report in opened.items()},
        "best_dev_mrr": round(max(line["dev"]["mrr"] for line in lines if "dev" in line), 4),
        "dev_mrr_by_epoch": {line["epoch"]: round(line["dev"]["mrr"], 4) for line in lines if "dev" in line},
        "training_minutes": round(sum(line["elapsed_seconds"] for line in losses) / 60, 1),
        "evaluation_minutes": round(sum(line.get("evaluation_seconds", 0.0) for line in lines) / 60, 1),
        "choices": {
            "seed": config["seed"],
            "modalities": config["modalities"] if config["modalities"] is not None else sorted(config["features"]),
            "missing": config.get("missing", {}),
            "method": {name: value for name, value in config["method"].items() if name != "encoder"},
            "fusion": config["method"]["encoder"].get("fusion", {}).get("kind"),
            "links": config.get("links") if isinstance(opened["test"], AlignmentReport) else None,
            "iterative": config.get("iterative"),
            "table": config["table"],
            "train": {name: config["train"][name] for name in ("epochs", "batch_size", "lr", "schedule", "engine")},
            "num_workers": config["cluster"]["num_workers"],
        },
        "steps": status["steps"],
        "best_step": status["best_step"],
        "protocol": opened["test"].protocol.model_dump(mode="json"),
        "versions": status["versions"],
    }


def figures_of(report: AnyReport) -> dict[str, Any]:
    """Test ranks: of completion over both directions, of alignment by way of asking; and what was mined."""
    if isinstance(report, AlignmentReport):
        figures: dict[str, Any] = {
            f"{result.candidates}, {result.similarity}, {result.direction}": round_metrics(result.metrics.realistic)
            for result in report.results
        }
        return {**figures, "mining": [record.model_dump() for record in report.mining or ()]}
    return round_metrics(report.metrics.realistic)


def round_metrics(metrics: MetricsRecord) -> dict[str, Any]:
    """Four digits of each."""
    return {"mrr": round(metrics.mrr, 4), "hits": {k: round(v, 4) for k, v in metrics.hits.items()}}


def main(
    name: Annotated[str, typer.Argument(help="Name of the result.")],
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    command: Annotated[str, typer.Option(help="Command the runs were made with.")],
    note: Annotated[list[str] | None, typer.Option(help="What was tried, and how the settings were chosen.")] = None,
) -> None:
    """Write a result from run folders."""
    record = {
        "name": name,
        "date": today(),
        "command": command,
        "machine": describe_machine(),
        "notes": note or [],
        "runs": {run.name: describe(RunFolder(run.absolute())) for run in runs},
    }
    save_record(record)
    for run, figures in record["runs"].items():
        print(run, json.dumps(figures["test"])[:200], f"{figures['training_minutes']} min")


if __name__ == "__main__":
    typer.run(main)
