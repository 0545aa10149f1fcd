"""Triples to the workers: all of them in memory, or a stream through Ray Train's dataset shards.

**Memory.** `load_triples` reads a split once; it is put into the object store and read from there without a
copy.

**Stream.** `stream_triples` is one dataset of all epochs that are left. An epoch goes through pieces of the
store's files in a keyed order, a window of many pieces at a time; the rows of a window are shuffled by key and
laid out so that consecutive blocks belong to workers in turn. Nothing depends on what ran before: the order is
a pure function of (seed, epoch, step), global batches are the same at any number of workers, and a run resumes
by asking for the epochs that are left. In an epoch a triple meets only the triples of its window, which is the
price of not holding them all; in the next one it is among others. What is known to be true, which negatives
and ranks must ask of all triples, is a mapped index then, see `snag_dist.store.truth_files`.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import ray.train
import torch
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import ConfigError
from snag_dist.kg.graph import COLUMNS
from snag_dist.random import Stream
from snag_dist.store.opened import Store
from snag_dist.store.pipeline import dataset_of_blocks

# A row in memory: three int64.
_TRIPLE_BYTES = 24
# Local batches in a block; more of them make larger and fewer blocks.
_MOST_STEPS_PER_BLOCK = 16
# Where fewer drop no more of an epoch: below that, blocks are too small for what each of them costs.
_FEWEST_STEPS_PER_BLOCK = 4
# Share of an epoch's steps that may be dropped to make blocks even.
_DROPPED_SHARE = 0.01
# Pieces of files in a window. With one long run of rows instead, the same triples would be a window every epoch, each
# seen again after an epoch exactly.
_PIECES_PER_WINDOW = 16


class ResidencyConfig(Config):
    """Where the training triples live while a run lasts."""

    kind: Literal["memory", "stream", "auto"] = "auto"
    """`memory`: whole, once a node; `stream`: a window at a time; `auto`: memory, if the budget allows."""
    budget_bytes: int = Field(default=8 << 30, ge=1)
    """Largest size of the triples in memory, in bytes, up to which `auto` keeps them there."""
    window_rows: int = Field(default=4 << 20, ge=1)
    """Triples that are shuffled together in a stream, from sixteen places of the store. Where they are fewer than those
    of sixteen files (4 million by default), a file is read again for every window that has a piece of it."""


def choose_residency(config: ResidencyConfig, num_triples: int) -> Literal["memory", "stream"]:
    """Decide where a number of triples is to live."""
    if config.kind != "auto":
        return config.kind
    return "memory" if num_triples * _TRIPLE_BYTES <= config.budget_bytes else "stream"


def load_triples(store: Store, split: str) -> NDArray[np.int64]:
    """Read a split into memory: (T, 3) int64, columns head, relation, tail.

    Raises:
        DataError: the store has no such split.
    """
    return store.triples(split)


@dataclass(frozen=True)
class StreamPlan:
    """How a stream is cut.

    Attributes:
        global_batch: triples in a step over all workers.
        num_workers: W, a divisor of `global_batch`.
        steps_per_block: consecutive steps whose slices for one worker make a block.
        steps_per_epoch: steps made of an epoch's triples; those over are dropped, other ones every epoch.
        window_rows: triples shuffled together, a multiple of `global_batch * steps_per_block`.
    """

    global_batch: int
    num_workers: int
    steps_per_block: int
    steps_per_epoch: int
    window_rows: int

    @property
    def local_batch(self) -> int:
        """Return the triples a worker has in a step."""
        return self.global_batch // self.num_workers

    @property
    def steps_per_window(self) -> int:
        """Return the steps made of a window's triples."""
        return self.window_rows // self.global_batch


def plan_stream(num_triples: int, global_batch: int, num_workers: int, window_rows: int) -> StreamPlan:
    """Cut a stream into steps, blocks and windows.

    Raises:
        ConfigError: the batch is larger than the split, or cannot be shared out evenly.
    """
    if global_batch % num_workers:
        raise ConfigError(
            f"batch: expected a multiple of the {num_workers} workers, got {global_batch}; change one of them"
        )
    steps = num_triples // global_batch
    if not steps:
        raise ConfigError(f"batch: expected at most {num_triples} triples, all of the split, got {global_batch}")
    least = steps - int(steps * _DROPPED_SHARE)
    # One always divides, so there is a candidate.
    candidates = [n for n in range(1, min(steps, _MOST_STEPS_PER_BLOCK) + 1) if steps - steps % n >= least]
    large = [n for n in candidates if n >= _FEWEST_STEPS_PER_BLOCK]
    steps_per_block = min(large, key=lambda n: (steps % n, -n)) if large else candidates[-1]
    group = global_batch * steps_per_block
    return StreamPlan(
        global_batch=global_batch,
        num_workers=num_workers,
        steps_per_block=steps_per_block,
        steps_per_epoch=steps - steps % steps_per_block,
        window_rows=max(1, window_rows // group) * group,
    )


def stream_triples(
    store: Store, split: str, plan: StreamPlan, *, seed: int, epochs: range, first_step: int = 0
) -> ray.data.Dataset:
    """Return the triples of some epochs as one dataset, to be split over the workers of `plan`.

    Args:
        store: whose triples are streamed.
        split: usually train.
        plan: of `plan_stream`.
        seed: of the run.
        epochs: the epochs that are left, e.g. range(3, 10) when a run resumes after three.
        first_step: of the first of them, in [0, steps_per_epoch). The stream begins with the window of that
            step; `iterate_batches` skips the steps before it.

    Returns:
        Columns head, relation, tail (int64). Under `streaming_split(W, equal=True)` with the order kept, a
        worker's k-th batch of `plan.local_batch` rows is its slice of global batch k.

    Raises:
        DataError: the store has no such split.
    """
    parts = store.triple_parts(split)
    sizes = np.array([pq.read_metadata(part).num_rows for part in parts])
    windows = [
        window for epoch in epochs for window in _windows(parts, sizes, plan, Stream(seed, "store/stream", epoch))
    ][first_step // plan.steps_per_window :]
    rows_per_block = plan.local_batch * plan.steps_per_block
    read = partial(read_window, plan=plan, seed=seed)
    shuffled = dataset_of_blocks(windows).map_batches(read, batch_size=None, batch_format="pyarrow")
    return shuffled.repartition(target_num_rows_per_block=rows_per_block, strict=True)


def stream_data_config() -> ray.train.DataConfig:
    """Return how Ray Train must split a stream: blocks to workers in turn, wherever they were made."""
    options = ray.train.DataConfig.default_ingest_options()
    options.preserve_order = True
    return ray.train.DataConfig(execution_options=options, enable_shard_locality=False)


def iterate_batches(
    shard: ray.data.DataIterator, plan: StreamPlan, *, first_step: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Go through a worker's shard of a stream.

    Args:
        shard: of `ray.train.get_dataset_shard`.
        plan: of the stream.
        first_step: as it was given to `stream_triples`.

    Yields:
        (local_batch, 3) int64 a step, from `first_step` of the first epoch to the end of the last one.
    """
    batches = shard.iter_batches(batch_size=plan.local_batch, batch_format="numpy", drop_last=True)
    for batch in itertools.islice(batches, first_step % plan.steps_per_window, None):
        yield np.stack([batch[column] for column in COLUMNS], axis=1)


def _windows(parts: list[Path], sizes: NDArray[np.int64], plan: StreamPlan, stream: Stream) -> Iterator[pa.Table]:
    """Cut an epoch into windows: runs of rows over pieces of the files in this epoch's order."""
    most = max(1, plan.window_rows // _PIECES_PER_WINDOW)
    pieces = np.array(
        [
            (part, begin, min(size, begin + most))
            for part, size in enumerate(sizes.tolist())
            for begin in range(0, size, most)
        ]
    )
    places = torch.arange(len(pieces), dtype=torch.int64)
    pieces = pieces[np.argsort(stream.permute(places, len(pieces)).numpy())]
    starts = np.concatenate([[0], np.cumsum(pieces[:, 2] - pieces[:, 1])])
    num_rows = plan.steps_per_epoch * plan.global_batch
    for number, start in enumerate(range(0, num_rows, plan.window_rows)):
        stop = min(num_rows, start + plan.window_rows)
        first, last = np.searchsorted(starts, start, side="right") - 1, np.searchsorted(starts, stop)
        yield pa.Table.from_pylist(
            [
                {
                    "epoch": stream.epoch,
                    "window": number,
                    "file": str(parts[pieces[i, 0]]),
                    "begin": int(pieces[i, 1] + max(0, start - starts[i])),
                    "end": int(pieces[i, 2] - max(0, starts[i + 1] - stop)),
                }
                for i in range(first, last)
            ]
        )


def read_window(block: pa.Table, *, plan: StreamPlan, seed: int) -> pa.Table:
    """Read the rows of a window, shuffle them and lay them out worker by worker, in a Ray Data task."""
    pieces = block.to_pylist()
    rows, size = _read_pieces(pieces)
    stream = Stream(seed, "store/stream/window", epoch=pieces[0]["epoch"], step=pieces[0]["window"])
    order = torch.argsort(stream.permute(torch.arange(size, dtype=torch.int64), size)).numpy()
    # From (block, step, worker, place in the local batch) to (block, worker, step, place): a block of rows is
    # then one worker's slices of consecutive global batches.
    cut = order.reshape(-1, plan.steps_per_block, plan.num_workers, plan.local_batch)
    columns = [rows[name][cut.swapaxes(1, 2).reshape(-1)] for name in COLUMNS]
    return pa.table([pa.array(column) for column in columns], names=COLUMNS)


def _read_pieces(pieces: list[dict[str, Any]]) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Read runs of rows one after the other, by column, and count them; a file that has several is read once."""
    ends = np.cumsum([piece["end"] - piece["begin"] for piece in pieces]).tolist()
    size = ends[-1]
    rows = {name: np.empty(size, dtype=np.int64) for name in COLUMNS}
    by_file = sorted(range(len(pieces)), key=lambda i: pieces[i]["file"])
    for file, places in itertools.groupby(by_file, key=lambda i: pieces[i]["file"]):
        table = pq.read_table(file, columns=list(COLUMNS))
        for i in places:
            begin, end = pieces[i]["begin"], pieces[i]["end"]
            for name, column in rows.items():
                column[ends[i] - (end - begin) : ends[i]] = table[name].slice(begin, end - begin).to_numpy()
    return rows, size
