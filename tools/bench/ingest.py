"""How fast is a graph ingested, and what is held? DBpedia-665k as ids and as text of keys; generated worlds.

`--store` is the folder of DBpedia-665k (train, valid and test in Parquet). Every ingest is a process of its own, which
imports and compiles before the clock runs. Wall time says what a person waits, seconds of the processor what it costs
on a machine with other work. The peak of memory counts mapped files too, which the system takes back under pressure;
what the process holds for itself is given apart.
"""

import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.multiprocessing as multiprocessing
from pyarrow import csv

from snag_dist.kg.graph import COLUMNS, SPLITS
from snag_dist.random import Stream
from snag_dist.store.ingest import IngestConfig, ingest

REPEATS = 3
# At this density about 9.87 triples an entity: 5 million, and 50 million.
SMALL_WORLD, LARGE_WORLD, DENSITY = 507_000, 5_070_000, 40.0
_KEY = "http://dbpedia.org/resource/{}"


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Ingest DBpedia-665k from Parquet of ids and from text of keys, and a world of 5 M triples."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        _write_as_keys(store, text)
        ids = {"kind": "parquet", **{split: str(store / f"{split}.parquet") for split in SPLITS}}
        return {
            "dbpedia_665k_ids_in_parquet": _repeat(ids, seed, REPEATS),
            "dbpedia_665k_keys_in_tsv": _repeat({"kind": "tsv", "folder": str(text)}, seed, REPEATS),
            f"world_of_{SMALL_WORLD}_entities": _repeat(_world(SMALL_WORLD, seed), seed, 1),
        }


def measure_world(store: Path, seed: int) -> dict[str, Any]:
    """Ingest a world of 50 M triples."""
    del store
    return {f"world_of_{LARGE_WORLD}_entities": _repeat(_world(LARGE_WORLD, seed), seed, 1)}


def _world(num_entities: int, seed: int) -> dict[str, Any]:
    return {"kind": "world", "num_entities": num_entities, "density": DENSITY, "seed": seed}


def _write_as_keys(store: Path, folder: Path) -> None:
    """Write the graph as lines of keys, which look like those the ids stand for."""
    folder.mkdir()
    for split in SPLITS:
        table = pq.read_table(store / f"{split}.parquet")
        columns = [
            pa.array([_KEY.format(value) for value in table[name].to_pylist()]) if name != "relation" else table[name]
            for name in COLUMNS
        ]
        options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        csv.write_csv(pa.table(columns, names=list(COLUMNS)), folder / f"{split}.tsv", options)


def _repeat(source: dict[str, Any], seed: int, times: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    runs: list[dict[str, Any]] = []
    for _ in range(times):
        results = context.Queue()
        process = context.Process(target=_work, args=(source, seed, results))
        process.start()
        runs.append(results.get(timeout=7200))
        process.join()
    fastest = min(runs, key=lambda run: run["wall_s"])
    triples = fastest["triples"]
    return {
        **fastest,
        "runs": [{name: run[name] for name in ("wall_s", "processor_s", "load")} for run in runs],
        "triples_per_s": round(triples / fastest["wall_s"]),
        "triples_per_s_median": round(triples / statistics.median(run["wall_s"] for run in runs)),
        "triples_per_processor_s": round(triples / min(run["processor_s"] for run in runs)),
    }


def _work(source: dict[str, Any], seed: int, results: Any) -> None:
    config = IngestConfig.model_validate({"source": source, "seed": seed})
    rows, stream = torch.arange(4), Stream(0, "bench")
    stream.uniform(rows, 1)
    stream.unpermute(stream.permute(rows, 4), 4)
    before = _own_gb()
    most, stop = [before], threading.Event()
    watcher = threading.Thread(target=_watch, args=(most, stop))
    watcher.start()
    marks: list[tuple[str, float]] = []

    def progress(what: str, done: int, total: int) -> None:
        del done, total
        if not marks or marks[-1][0] != what:
            marks.append((what, time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        start, processor = time.perf_counter(), time.process_time()
        manifest = ingest(config, Path(folder) / "store", progress=progress)
        end, processor = time.perf_counter(), time.process_time() - processor
        stored = sum(file.num_bytes for file in manifest.files.values())
    stop.set()
    watcher.join()
    ends = [at for _, at in marks[1:]] + [end]
    results.put(
        {
            "entities": manifest.num_entities,
            "triples": sum(manifest.num_triples.values()),
            "wall_s": round(end - start, 2),
            "processor_s": round(processor, 2),
            "wall_s_by_stage": {what: round(ended - at, 2) for (what, at), ended in zip(marks, ends, strict=True)},
            "load": round(os.getloadavg()[0], 1),
            "own_gb_before": round(before, 2),
            "own_gb_at_most": round(most[0], 2),
            "peak_gb_with_mapped_files": round(_status("VmHWM"), 2),
            "stored_mb": round(stored / 1e6, 1),
            "fingerprint": manifest.fingerprint[:12],
        }
    )


def _watch(most: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.02):
        most[0] = max(most[0], _own_gb())


def _own_gb() -> float:
    return _status("RssAnon")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(f"{name}:"))
