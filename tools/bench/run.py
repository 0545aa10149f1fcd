"""Measure and record: python tools/bench/run.py NAME --store STORE [NAME ...]

Every figure is printed and written to tools/bench/results/NAME.json, with command, date, machine and versions beside
it. Figures that are compared come from one run.
"""

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parent))

import alignment
import all_entities
import checkpoints
import damage
import emoji
import entity_tokens
import exact_ranks
import export_at_size
import exported
import extraction
import first_pass
import gpu
import ingest
import modulus
import overhead
import parity
import pykeen_comparison
import scaling
import step_throughput
import table_at_size

from snag_dist.training.launch import versions

RESULTS = Path(__file__).parent / "results"

BENCHMARKS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "parity": parity.measure,
    "modulus": modulus.measure,
    "exact_ranks": exact_ranks.measure,
    "first_pass": first_pass.measure,
    "step_throughput": step_throughput.measure,
    "overhead": overhead.measure,
    "scaling": scaling.measure,
    "pykeen": pykeen_comparison.measure,
    "extraction": extraction.measure,
    "emoji": emoji.measure,
    "all_entities": all_entities.measure,
    "table_at_size": table_at_size.measure,
    "alignment": alignment.measure,
    "checkpoints": checkpoints.measure,
    "damage": damage.measure,
    "gpu": gpu.measure,
    "export": exported.measure,
    "export_at_size": export_at_size.measure,
    "entity_tokens": entity_tokens.measure,
    "ingest": ingest.measure,
    "ingest_world": ingest.measure_world,
}


def describe_machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    load = os.getloadavg()[0]
    return {"cpu": model, "cores": os.cpu_count(), "load_at_start": round(load, 2)}


def write_record(
    name: str, figures: dict[str, Any], *, command: list[str], machine: dict[str, Any], seed: int, seconds: float
) -> None:
    """Print figures with what they were made by and on, and write them to results/NAME.json."""
    record = {
        "name": name,
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(command),
        "machine": machine,
        "versions": versions(),
        "seed": seed,
        "wall_seconds": round(seconds, 1),
        "figures": figures,
    }
    text = json.dumps(record, indent=2)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def main(
    names: Annotated[list[str], typer.Argument(help=f"Which of: {', '.join(BENCHMARKS)}.")],
    store: Annotated[
        Path,
        typer.Option(
            help="A store, e.g. of db15k.toml; for emoji and ingest raw data; for export and entity_tokens a run."
        ),
    ] = Path(),
    seed: int = 0,
) -> None:
    """Run benchmarks and write down what they saw."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r}: expected one of {', '.join(BENCHMARKS)}")
    for name in names:
        machine, start = describe_machine(), time.time()
        figures = BENCHMARKS[name](store.absolute(), seed)
        command = ["python", "tools/bench/run.py", name, "--store", store.name, "--seed", str(seed)]
        seconds = time.time() - start
        write_record(name, figures, command=command, machine=machine, seed=seed, seconds=seconds)


if __name__ == "__main__":
    typer.run(main)
