"""Structure-only RotatE beside PyKEEN's: same triples, width, batch, candidates a positive, norm and threads.

PyKEEN lives in a virtual environment of its own, which is made where it is not there (`tools/bench/.pykeen`). Both
train on the same batches of a store; ours with a pool of K shared negatives, PyKEEN's with K of each positive, as both
do by default. PyKEEN has the Frobenius norm; its modulus is the same program with one function replaced.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from workbench import group_of_one, make_recipe, make_worker, method_of, summarise, time_calls

from snag_dist.kg.truth import TruthIndex
from snag_dist.random import Moment
from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.task.completion import assemble
from snag_dist.training.batches import MemoryTriples

ENVIRONMENT = Path(__file__).parent / ".pykeen"
PYKEEN, TORCH = "pykeen==1.11.1", "torch==2.13.0"
# torch for Linux on PyPI brings CUDA along, several GB of it. The build for CPUs, 2.13.0+cpu, is on torch's own index,
# and is taken where that can be reached; where it cannot, pip passes over it with a warning.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BATCH, WIDTH, THREADS, EPOCHS = 1024, 256, 2, 5
# Fewer batches where there are more candidates: PyKEEN stores all differences.
BATCHES = {32: 60, 256: 12}
NORMS = ("modulus", "frobenius")


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Time both at every K and norm, one after the other."""
    python = _environment()
    opened = open_store(store)
    triples = opened.triples("train")
    figures: dict[str, Any] = {"batch": BATCH, "columns": WIDTH, "threads": THREADS, "their_versions": {}}
    # One process group for all: DeepSpeed keeps hold of the first it meets.
    with TemporaryDirectory() as folder, group_of_one() as group:
        for num, batches in BATCHES.items():
            file = Path(folder) / f"{num}.npy"
            np.save(file, triples[: BATCH * batches])
            for norm in NORMS:
                asked = {
                    "triples": str(file),
                    "num_entities": opened.num_entities,
                    "num_relations": opened.num_relations,
                    "num_negatives": num,
                    "norm": norm,
                    "width": WIDTH,
                    "batch": BATCH,
                    "threads": THREADS,
                    "epochs": EPOCHS,
                    "seed": seed,
                }
                told = _ask(python, asked)
                figures["their_versions"] = told["versions"]
                theirs = BATCH * batches / median(told["seconds"])
                ours = _ours(store, Path(folder), num, norm, seed, group)
                figures[f"{norm}, K={num}"] = {
                    "pykeen_triples_per_second": round(theirs),
                    "pykeen_epoch": {**summarise(told["seconds"]), "batches": batches},
                    "ours_triples_per_second": round(1e3 * BATCH / ours["median_ms"]),
                    "our_step": ours,
                    "ratio": round(1e3 * BATCH / ours["median_ms"] / theirs, 1),
                }
    return figures


def _environment() -> Path:
    """Make the environment where it is not there, and return its interpreter."""
    python, installed = ENVIRONMENT / "bin" / "python", ENVIRONMENT / ".installed"
    if not installed.is_file():
        venv.create(ENVIRONMENT, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet"]
        # Alone and without what it depends on: an index that cannot be reached is asked once.
        once = ["--no-deps", "--retries", "0", "--timeout", "15", "--extra-index-url", CPU_INDEX]
        subprocess.run([*install, *once, TORCH], check=True)
        subprocess.run([*install, PYKEEN, TORCH], check=True)
        installed.touch()
    return python


def _ask(python: Path, asked: dict[str, Any]) -> dict[str, Any]:
    script = Path(__file__).parent / "pykeen_steps.py"
    done = subprocess.run([python, script], input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def _ours(store: Path, runs: Path, num: int, norm: str, seed: int, group: Group) -> dict[str, float]:
    method = {
        "encoder": {"width": WIDTH, "fusion": {"kind": "graph"}},
        "scorer": {"kind": "rotate", "norm": norm},
        "noise": {"kind": "none"},
        "negatives": {"num": num},
    }
    recipe = make_recipe(store, runs, seed=seed, modalities=[], method=method)
    worker = make_worker(recipe, group, THREADS)
    triples = worker.store.triples("train")
    truth = TruthIndex.build(triples, worker.store.num_entities, worker.store.num_relations)
    parts = list(MemoryTriples(triples, BATCH, group, seed).epoch(0, 0))[:-1]
    sampler = method_of(recipe).build_sampler(truth)
    worker.stepper.begin_epoch()
    numbers = iter(range(1 << 30))

    def step() -> None:
        number = next(numbers)
        part, moment = parts[number % len(parts)], Moment(seed, 0, number)
        worker.stepper.step(assemble(sampler.draw(part.positives, part.first, moment), BATCH), moment, 1e-3)

    return summarise(time_calls(step, warm=10, num=60))
