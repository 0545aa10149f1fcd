"""Where results go: the newest record of a name in results/NAME.json, every record that was ever made in a history."""

import json
import os
import platform
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snag_dist.training.launch import versions

RESULTS = Path(__file__).parent / "results"
HISTORY = "history.jsonl"
"""Beside the results: one record a line, the oldest first. It is only ever appended to."""


def describe_machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    load = os.getloadavg()[0]
    return {"cpu": model, "cores": os.cpu_count(), "load_at_start": round(load, 2)}


def today() -> str:
    """The date of a record."""
    return datetime.now(UTC).date().isoformat()


def save_record(record: dict[str, Any], folder: Path = RESULTS) -> str:
    """Append a record to the history, then make it the newest of its name; return it as text."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / HISTORY).open("a", encoding="utf-8") as history:
        history.write(json.dumps(record) + "\n")
    text = json.dumps(record, indent=2)
    (folder / f"{record['name']}.json").write_text(text + "\n", encoding="utf-8")
    return text


def write_record(
    name: str,
    figures: dict[str, Any],
    *,
    command: list[str],
    machine: dict[str, Any],
    seed: int,
    seconds: float,
    folder: Path = RESULTS,
) -> None:
    """Print figures with what they were made by and on, and keep them."""
    record = {
        "name": name,
        "date": today(),
        "command": shlex.join(command),
        "machine": machine,
        "versions": versions(),
        "seed": seed,
        "wall_seconds": round(seconds, 1),
        "figures": figures,
    }
    print(save_record(record, folder))
