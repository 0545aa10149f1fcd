"""What the export of 5 M entities takes: seconds, and memory, which must not grow with the graph.

Needs no store: a graph of random triples with a random modality, and a model as it is drawn, since what an export costs
does not depend on what was learned.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from workbench import group_of_one, make_worker, memory_gb, run_in_processes

from snag_dist.export.directory import ExportConfig, export_run
from snag_dist.export.network import load_hf
from snag_dist.shard.group import Group
from snag_dist.store.extract import extract
from snag_dist.store.ingest import ingest
from snag_dist.store.opened import open_store
from snag_dist.training.cursor import Cursor
from snag_dist.training.launch import connect
from snag_dist.training.recipe import ClusterConfig, Recipe
from snag_dist.training.run_folder import RunFolder, write_json

ENTITIES, RELATIONS, COLUMNS, WIDTH = 5_000_000, 100, 64, 256
DTYPE = "bf16"
HELD_OUT = 1000


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Make the graph and a run on it, export the run in a process of its own, and open the export in another."""
    del store
    with TemporaryDirectory() as folder:
        recipe = _make_run(Path(folder), seed)
        out = Path(folder) / "out"
        written = run_in_processes(1, _export, recipe.run_path, out)[0]
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        opened = run_in_processes(1, _open, out)[0]
    return {
        "entities": ENTITIES,
        "columns": WIDTH,
        "modality_columns": COLUMNS,
        "format": DTYPE,
        "tokens": False,
        "gigabytes": round(size / 1e9, 2),
        **written,
        **opened,
    }


def _make_run(folder: Path, seed: int) -> Recipe:
    draw = np.random.default_rng(seed)
    pq.write_table(pa.table({"key": [f"entity/{i}" for i in range(ENTITIES)]}), folder / "entities.parquet")
    pq.write_table(pa.table({"key": [f"relation/{i}" for i in range(RELATIONS)]}), folder / "relations.parquet")
    for split, num in (("train", ENTITIES), ("valid", HELD_OUT), ("test", HELD_OUT)):
        triples = {
            "head": draw.integers(0, ENTITIES, num),
            "relation": draw.integers(0, RELATIONS, num),
            "tail": draw.integers(0, ENTITIES, num),
        }
        pq.write_table(pa.table(triples), folder / f"{split}.parquet")
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float16, shape=(ENTITIES, COLUMNS))
    for first in range(0, ENTITIES, 1 << 16):
        block = vectors[first : first + (1 << 16)]
        block[:] = draw.standard_normal(block.shape, dtype=np.float32)
    vectors.flush()
    files = {name: str(folder / f"{name}.parquet") for name in ("train", "valid", "test", "entities", "relations")}
    recipe = Recipe.model_validate(
        {
            "name": "large",
            "store": folder / "store",
            "runs": folder / "runs",
            "ingest": {"source": {"kind": "parquet", **files}},
            # The rows of a step alone are in memory; Adam's moments for all of them would need 10 GB more.
            "table": {"kind": "rowwise_adagrad", "placement": "disk"},
            "features": {"text": {"kind": "array", "path": folder / "vectors.npy"}},
        }
    )
    connect(ClusterConfig())
    ingest(recipe.ingest, recipe.store)
    extract(recipe.features, recipe.store)
    with group_of_one() as group:
        run = RunFolder(recipe.run_path)
        run.path.mkdir(parents=True)
        write_json(run.config, recipe.to_tree())
        run.write_status(state="trained", store_fingerprint=open_store(recipe.store).fingerprint)
        worker = make_worker(recipe, group, threads=1)
        worker.stepper.begin_epoch()
        worker.checkpoints.save(Cursor(step=1), worker.stepper, worker.assignment, best=True)
        worker.checkpoints.settle()
    return recipe


def _export(_group: Group, run: Path, out: Path) -> dict[str, float]:
    start = time.perf_counter()
    export_run(run, out, ExportConfig(dtype=DTYPE, tokens=False))
    return {"export_seconds": round(time.perf_counter() - start, 1), "export_peak_gb": round(memory_gb()["VmHWM"], 3)}


def _open(_group: Group, out: Path) -> dict[str, float]:
    import torch

    start = time.perf_counter()
    model = load_hf().SnagEncoder.from_pretrained(out)
    model(entity_ids=torch.arange(0, ENTITIES, ENTITIES // 256))
    return {"load_seconds": round(time.perf_counter() - start, 2), "load_peak_gb": round(memory_gb()["VmHWM"], 3)}
