"""The plan's memory against what a process really holds at its peak."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from measured_peak import read_case

from snag_dist.training import allocator
from snag_dist.training.plan.memory import PROCESS_BYTES, plan_memory

BASE = {"name": "planned", "store": "nowhere", "ingest": {"source": {"kind": "world"}}}


def completion(entities: int, table: str, width: int, **method: Any) -> str:
    encoder = {"width": width, "fusion": {"kind": "graph"}}
    recipe = {
        **BASE,
        "method": {"encoder": encoder, **method},
        "table": {"kind": table},
        "train": {"batch_size": 1024},
        "evaluate": {"budget_bytes": 32 << 20},
    }
    sizes = {
        "num_entities": entities,
        "num_relations": 20,
        "num_triples": 200_000,
        "num_ranked": 100,
        "num_filtered": 200_000,
        "num_links": 0,
        "virtual_shards": 64,
        "modalities": {},
    }
    return json.dumps({"recipe": recipe, "sizes": sizes})


def alignment(entities: int) -> str:
    recipe = {
        **BASE,
        "method": {"kind": "snag_alignment", "encoder": {"width": 128}},
        "train": {"batch_size": 1000},
        "evaluate": {"budget_bytes": 32 << 20},
    }
    sizes = {
        "num_entities": entities,
        "num_relations": 20,
        "num_triples": 2 * entities,
        "num_ranked": 100,
        "num_filtered": 2 * entities,
        "num_links": 10_000,
        "virtual_shards": 64,
        "modalities": {"text": 64},
    }
    return json.dumps({"recipe": recipe, "sizes": sizes})


CASES = {
    "200 k rows, adam": completion(200_000, "adam", 128),
    "500 k rows, adam": completion(500_000, "adam", 128),
    "1 M rows, rowwise adagrad": completion(1_000_000, "rowwise_adagrad", 128),
    "40 k rows, alignment": alignment(40_000),
}


def measure(case: str) -> int:
    """Bytes that a process holds at its peak, above what it holds after its imports."""
    command = [sys.executable, str(Path(__file__).with_name("measured_peak.py")), case]
    # As the workers of a run have it: see `connect`.
    environment = {**os.environ, **allocator.ENVIRONMENT}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def plan(case: str) -> int:
    return plan_memory(*read_case(case)).peak("host") - PROCESS_BYTES


@pytest.mark.parametrize("case", CASES)
def test_the_planned_peak_is_within_15_percent_of_the_measured_one(case: str) -> None:
    planned, measured = plan(CASES[case]), measure(CASES[case])
    assert planned == pytest.approx(measured, rel=0.15), (
        f"planned {planned / 1e6:.0f} MB, measured {measured / 1e6:.0f}"
    )
