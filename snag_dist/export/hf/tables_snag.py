"""The per-entity tables of an export, mapped: learned rows, codes, tokens, confidence, mask."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

INDEX = "entities.safetensors.index.json"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class EntityTables:
    """The per-entity tables of an export, mapped from its files: nothing is read before it is asked for.

    Args:
        index: the index file, as a plain tree.
        find: from the name of a file of the export to its path on this machine.

    Raises:
        ValueError: the index names what does not lie beside it.
    """

    def __init__(self, index: Mapping[str, Any], find: Callable[[str], str]):
        self._find = find
        self._files: list[str] = index["files"]
        outside = [file for file in self._files if not _PLAIN_NAME.fullmatch(file)]
        if outside:
            raise ValueError(f"{INDEX}: files: expected names of files beside it, got {outside[0]!r}; export again")
        self._starts = torch.tensor([*index["first_rows"], index["metadata"]["num_entities"]])
        self._columns = set(index["columns"])
        self._open: dict[int, dict[str, Tensor]] = {}

    def has(self, column: str) -> bool:
        """Tell whether the tables hold a column."""
        return column in self._columns

    def read(self, column: str, ids: Tensor) -> Tensor:
        """Read a column (`rows`, `codes`, `tokens`, `confidence` or `mask`) of entities (B,): (B, ...), float or bool.

        Raises:
            IndexError: an id is not in [0, E).
        """
        ids = ids.contiguous()
        num_entities = int(self._starts[-1])
        wrong = ids[(ids < 0) | (ids >= num_entities)]
        if len(wrong):
            raise IndexError(
                f"entity_ids: expected ids in [0, {num_entities}), got {int(wrong[0])}; see entities.parquet"
            )
        file_of_id = torch.searchsorted(self._starts, ids, right=True) - 1
        parts: list[Tensor] = []
        order: list[Tensor] = []
        for file in file_of_id.unique().tolist():
            chosen = (file_of_id == file).nonzero().squeeze(1)
            order.append(chosen)
            parts.append(self._read_from(file, column, ids[chosen] - self._starts[file]))
        if not parts:
            return self._read_from(0, column, ids)
        return torch.cat(parts)[torch.argsort(torch.cat(order))]

    def _read_from(self, file: int, column: str, rows: Tensor) -> Tensor:
        tensors = self._tensors(file)
        values = tensors[column][rows]
        if values.dtype == torch.int8:
            return values.float() * tensors[f"{column}_scale"][rows].unsqueeze(-1)
        return values.bool() if column == "mask" else values.float()

    def _tensors(self, file: int) -> dict[str, Tensor]:
        if file not in self._open:
            with safe_open(self._find(self._files[file]), framework="pt") as opened:
                # Views of the mapped file: only the rows that are asked for come into memory.
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            self._open[file] = {name.split(".", 1)[0]: tensor for name, tensor in tensors.items()}
        return self._open[file]


def open_tables(folder: str | Path) -> EntityTables:
    """Map the tables of an export that lies in a folder."""
    index = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
    return EntityTables(index, lambda file: str(Path(folder) / file))
