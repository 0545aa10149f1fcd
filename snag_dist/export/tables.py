"""The per-entity tables of an export: safetensors files of bounded size, and the index that finds a row in them.

    entities-00001-of-00003.safetensors   rows.00001 (n, D), codes.00001 (n, D), tokens.00001 (n, M, D),
                                          confidence.00001 (n, M), mask.00001 (n, M)
    entities.safetensors.index.json       as transformers' own index: `weight_map` from tensor to file; beside it the
                                          files in order and the first row of each

Under int8, `rows`, `codes` and `tokens` are integers, and `rows_scale.00001` and so on hold one float32 a vector:
vector = integers * scale.
"""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from snag_dist.export.hf.tables_snag import INDEX
from snag_dist.export.source import Block
from snag_dist.training.run_folder import write_json

TableDtype = Literal["fp32", "bf16", "fp16", "int8"]
DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}
VECTORS = ("rows", "codes", "tokens")
"""Columns that are stored in the chosen number format; the others are small and stay as they are."""


def quantise(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Round vectors (..., D) to 8 bits: int8 (..., D), and the float32 scale (...) of each."""
    scale = vectors.abs().amax(dim=-1) / 127.0
    # A vector of zeros has no scale of its own.
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return torch.round(vectors / scale.unsqueeze(-1)).to(torch.int8), scale.float()


Formats = dict[str, tuple[tuple[int, ...], torch.dtype]]


def table_formats(num_tokens: int, width: int, dtype: TableDtype, *, tokens: bool) -> Formats:
    """Return, by column, what is stored of an entity: shape and number format."""
    shapes: dict[str, tuple[int, ...]] = {"rows": (width,), "codes": (width,)}
    shapes |= {"tokens": (num_tokens, width)} if tokens else {}
    formats = {name: (shape, DTYPES[dtype]) for name, shape in shapes.items()}
    if dtype == "int8":
        formats |= {f"{name}_scale": (shape[:-1], torch.float32) for name, shape in shapes.items()}
    return {**formats, "confidence": ((num_tokens,), torch.float32), "mask": ((num_tokens,), torch.bool)}


def entity_bytes(num_tokens: int, width: int, dtype: TableDtype, *, tokens: bool) -> int:
    """Return the bytes of an entity in the tables."""
    formats = table_formats(num_tokens, width, dtype, tokens=tokens)
    return sum(math.prod(shape) * kind.itemsize for shape, kind in formats.values())


class TableWriter:
    """Writes the tables block by block; holds one file's worth at a time."""

    def __init__(
        self,
        folder: Path,
        num_entities: int,
        num_tokens: int,
        width: int,
        dtype: TableDtype,
        max_bytes: int,
        *,
        tokens: bool,
    ):
        """Lay out the files.

        Args:
            folder: of the export in the making.
            num_entities, num_tokens, width: E, M and D.
            dtype: of rows, codes and tokens.
            max_bytes: size of a file, at most; one row where that is larger.
            tokens: whether tokens are written.
        """
        self._folder = folder
        self._dtype: TableDtype = dtype
        self._formats = table_formats(num_tokens, width, dtype, tokens=tokens)
        row_bytes = entity_bytes(num_tokens, width, dtype, tokens=tokens)
        step = max(1, max_bytes // row_bytes)
        self._firsts = list(range(0, num_entities, step))
        self._stops = [*self._firsts[1:], num_entities]
        self._total_bytes = row_bytes * num_entities
        self._file = 0
        self._filled = 0
        self._buffers = self._begin()

    @property
    def num_files(self) -> int:
        """Number of entity files."""
        return len(self._firsts)

    def add(self, block: Block) -> None:
        """Write the next block; blocks follow one another without gaps."""
        columns = self._columns(block)
        done, num = 0, len(block.rows)
        while done < num:
            room = self._stops[self._file] - self._firsts[self._file] - self._filled
            take = min(room, num - done)
            for name, buffer in self._buffers.items():
                buffer[self._filled : self._filled + take] = columns[name][done : done + take]
            self._filled += take
            done += take
            if take == room:
                self._flush()

    def close(self) -> None:
        """Write the index.

        Raises:
            AssertionError: not all entities were added.
        """
        assert self._file == self.num_files, "every entity must be added before the index is written"
        files = [self._name(file) for file in range(self.num_files)]
        weight_map = {f"{name}.{file + 1:05}": files[file] for file in range(self.num_files) for name in self._formats}
        index: dict[str, Any] = {
            "metadata": {"total_size": self._total_bytes, "num_entities": self._stops[-1], "dtype": self._dtype},
            "weight_map": weight_map,
            "columns": list(self._formats),
            "files": files,
            "first_rows": self._firsts,
        }
        write_json(self._folder / INDEX, index)

    def _begin(self) -> dict[str, Tensor]:
        num = self._stops[self._file] - self._firsts[self._file]
        return {name: torch.empty(num, *shape, dtype=kind) for name, (shape, kind) in self._formats.items()}

    def _columns(self, block: Block) -> dict[str, Tensor]:
        columns = {"confidence": block.confidence, "mask": block.mask}
        for name in VECTORS:
            if name not in self._formats:
                continue
            vectors: Tensor = getattr(block, name)
            if self._dtype == "int8":
                columns[name], columns[f"{name}_scale"] = quantise(vectors)
            else:
                columns[name] = vectors
        return columns

    def _flush(self) -> None:
        named = {f"{name}.{self._file + 1:05}": buffer for name, buffer in self._buffers.items()}
        save_file(named, self._folder / self._name(self._file), metadata={"format": "pt"})
        self._file += 1
        self._filled = 0
        self._buffers = self._begin() if self._file < self.num_files else {}

    def _name(self, file: int) -> str:
        return f"entities-{file + 1:05}-of-{self.num_files:05}.safetensors"
