"""What an export costs and gives, number format by number format: seconds, memory, size, loading, latency, MRR lost.

Needs the folder of a finished run of completion. Ranks are of its test split, from the codes as the export holds them;
relations and scorer stay in float32, as exported.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import torch
from workbench import group_of_one, memory_gb, run_in_processes, summarise, time_calls

from snag_dist.export.directory import ExportConfig, export_run
from snag_dist.export.hf.tables_snag import open_tables
from snag_dist.export.network import load_hf
from snag_dist.export.source import RunSource
from snag_dist.export.tables import TableDtype
from snag_dist.kg.truth import TruthIndex
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.ranking import rank_triples
from snag_dist.training.step import gather_features
from snag_dist.training.worker import open_features

BATCHES = (1, 256)
CALLS, WARM_CALLS = 50, 5


def measure(run: Path, seed: int) -> dict[str, Any]:
    """Export a run in every format, and compare what is read back with what was trained."""
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        source = RunSource.open(run)
        for dtype in get_args(TableDtype):
            out = Path(folder) / dtype
            written = run_in_processes(1, _export, run, out, dtype)[0]
            loaded = run_in_processes(1, _load, out)[0]
            found[dtype] = {
                **written,
                **loaded,
                "megabytes": {
                    "tables": round(sum(path.stat().st_size for path in out.glob("entities-*.safetensors")) / 1e6, 1),
                    "all": round(sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6, 1),
                },
                "test_mrr": _mrr(source, out),
            }
        parity = _parity(source, Path(folder) / "fp32")
    exact = found["fp32"]["test_mrr"]
    for figures in found.values():
        figures["test_mrr_lost"] = round(exact - figures["test_mrr"], 6)
    return {
        "entities": source.store.num_entities,
        "columns": source.encoder.width,
        "tokens": source.num_tokens,
        "threads": 1,
        "latency_calls": CALLS,
        "largest_difference_fp32": parity,
        "by_format": found,
    }


def _export(_group: Group, run: Path, out: Path, dtype: TableDtype) -> dict[str, float]:
    before, start = memory_gb()["VmHWM"], time.perf_counter()
    export_run(run, out, ExportConfig(dtype=dtype))
    return {
        "export_seconds": round(time.perf_counter() - start, 2),
        "export_peak_gb": round(memory_gb()["VmHWM"], 3),
        "of_that_imports_gb": round(before, 3),
    }


def _load(_group: Group, out: Path) -> dict[str, Any]:
    start = time.perf_counter()
    model = load_hf().SnagEncoder.from_pretrained(out)
    seconds = {"load_seconds": round(time.perf_counter() - start, 3)}
    figures: dict[str, Any] = {}
    for batch in BATCHES:
        ids = torch.arange(batch)
        features = {
            modality["name"]: torch.randn(batch, modality["width"], generator=torch.Generator().manual_seed(0))
            for modality in model.config.modalities
        }
        with torch.no_grad():
            figures[f"look_up_{batch}"] = summarise(
                time_calls(lambda ids=ids: model(entity_ids=ids), warm=WARM_CALLS, num=CALLS)
            )
            figures[f"encode_{batch}"] = summarise(
                time_calls(lambda features=features: model(features=features), warm=WARM_CALLS, num=CALLS)
            )
    return {**seconds, "latency": figures}


def _mrr(source: RunSource, out: Path) -> float:
    store = source.store
    test = store.triples("test")
    every = np.concatenate([store.triples(split) for split in store.manifest.num_triples])
    with group_of_one() as group:
        table = rank_triples(
            test,
            codes=open_tables(out).read("codes", torch.arange(store.num_entities)),
            task=source.task,
            truth=TruthIndex.build(every, store.num_entities, store.num_relations),
            partition=Partition(store.num_entities, store.virtual_shards, 1),
            group=group,
            budget_bytes=256 << 20,
        )
    return RankMetrics.of(table).realistic.mrr


def _parity(source: RunSource, out: Path) -> dict[str, float]:
    """Largest absolute difference of what is read from the tables, and encoded from features, to the trained model."""
    model = load_hf().SnagEncoder.from_pretrained(out)
    difference: dict[str, float] = {}
    for block in source.blocks():
        ids = torch.arange(block.first_row, block.first_row + len(block.rows))
        features = open_features(source.recipe, source.store, (block.first_row, block.first_row + len(ids)))
        vectors, present = gather_features(ids, features, ids.device)
        row = torch.ones(len(ids), dtype=torch.bool)
        mask = torch.stack([row, *(present[name] for name in source.encoder.modalities)], dim=1)
        with torch.no_grad():
            ways = {"tables": model(entity_ids=ids), "features": model(features=vectors, rows=block.rows, mask=mask)}
        for way, found in ways.items():
            pairs = {
                "codes": (found.pooled, block.codes),
                "tokens": (found.tokens, block.tokens),
                "confidence": (found.confidence, block.confidence),
            }
            for name, (ours, trained) in pairs.items():
                key = f"{name} from {way}"
                difference[key] = max(difference.get(key, 0.0), float((ours - trained).abs().max()))
    return difference
