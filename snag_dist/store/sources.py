"""Where a graph may come from, and what ingest takes of it: keys in the order of their ids, and triples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from pydantic import Field, model_validator

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.kg.alignment import GraphPair
from snag_dist.kg.formats import read_ntriples, read_openke, read_tsv
from snag_dist.kg.graph import COLUMNS, SPLITS, Graph
from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.alignment_source import AlignmentConfig
from snag_dist.store.parquet_source import ParquetConfig, ParquetSplit, open_split
from snag_dist.store.pipeline import dataset_of_blocks
from snag_dist.store.vocabulary import Vocabulary, build_vocabulary, keys_to_ids

Triples = NDArray[np.int64]


class OpenkeConfig(Config):
    """A folder in the OpenKE layout: `entity2id.txt`, `train2id.txt` (head tail relation) and so on."""

    kind: Literal["openke"] = "openke"
    """Tells this source from the others."""
    folder: Path
    """The folder; an `entities.tsv` in it gives labels."""

    def files(self) -> list[Path]:
        """List the files that are read."""
        names = ["entity2id.txt", "relation2id.txt", *(f"{split}2id.txt" for split in SPLITS)]
        return [self.folder / name for name in names]

    def read(self) -> Graph:
        """Read the graph."""
        return read_openke(self.folder)


class _SplitFilesConfig(Config):
    """A folder with one file a split, or the three files by name."""

    folder: Path | None = None
    """Folder with the files under their usual names."""
    train: Path | None = None
    """File of the training triples, where there is no folder."""
    valid: Path | None = None
    """File of the dev triples, where there is no folder; without it, ask for a repair."""
    test: Path | None = None
    """File of the test triples, where there is no folder."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.folder is None) == (self.train is None):
            raise ValueError("expected either a folder or the files train, valid and test")
        if self.folder is not None and (self.valid is not None or self.test is not None):
            raise ValueError("expected no valid and no test beside a folder")
        return self

    def place(self) -> Path | dict[str, Path]:
        """Return the folder, or the path of every split."""
        if self.folder is not None:
            return self.folder
        files = {"train": self.train, "valid": self.valid, "test": self.test}
        return {split: path for split, path in files.items() if path is not None}

    def files(self) -> list[Path]:
        """List the files that are read, labels apart."""
        place = self.place()
        if isinstance(place, dict):
            return list(place.values())
        return sorted(path for path in place.glob("*") if path.stem in SPLITS and path.is_file())


class TsvConfig(_SplitFilesConfig):
    """Triples as `head relation tail`, one a line."""

    kind: Literal["tsv"] = "tsv"
    """Tells this source from the others."""
    with_ids: bool = False
    """Whether the columns are ids (keys from entity2id.txt beside them, if there) or keys."""

    def read(self) -> Graph:
        """Read the graph."""
        return read_tsv(self.place(), with_ids=self.with_ids)


class NtriplesConfig(_SplitFilesConfig):
    """N-Triples; statements about literals are left out and counted."""

    kind: Literal["ntriples"] = "ntriples"
    """Tells this source from the others."""

    def read(self) -> Graph:
        """Read the graph."""
        return read_ntriples(self.place())


SourceConfig = Annotated[
    OpenkeConfig | TsvConfig | NtriplesConfig | ParquetConfig | WorldConfig | AlignmentConfig,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class SplitBlocks:
    """The triples of a split on their way into the store.

    Attributes:
        dataset: blocks of head, relation, tail as source ids, one block a part of the store.
        num_rows: T.
        explain: (row of the split, column 0 to 2) to the error for a value that is not known.
    """

    dataset: ray.data.Dataset
    num_rows: int
    explain: Callable[[int, int], DataError]


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        description: layout and place, in words.
        entities, relations: keys and names in the order of their ids.
        splits: split name to its triples.
        graph: the whole graph, where the source is one that is read into memory.
        pair: both graphs and their links, where the source is one of alignment.
    """

    description: str
    entities: Vocabulary
    relations: Vocabulary
    splits: dict[str, SplitBlocks]
    graph: Graph | None
    pair: GraphPair | None = None


def source_files(config: SourceConfig) -> list[Path]:
    """List the files a source is read from; none for a generated world."""
    return [] if isinstance(config, WorldConfig) else config.files()


def open_source(config: SourceConfig, rows_per_part: int) -> Source:
    """Open a source: read it, or its footers and keys where it is Parquet.

    Raises:
        DataError: see the readers.
    """
    if isinstance(config, ParquetConfig):
        return _open_parquet(config, rows_per_part)
    if isinstance(config, WorldConfig):
        description = f"generated world of {config.num_entities} entities, seed {config.seed}"
        return source_of_graph(World(config).graph(), description, rows_per_part)
    if isinstance(config, AlignmentConfig):
        pair = config.read()
        return replace(source_of_graph(pair.to_graph(), f"alignment {config.folder}", rows_per_part), pair=pair)
    place = config.folder if config.folder is not None else config.files()[0].parent
    return source_of_graph(config.read(), f"{config.kind} {place}", rows_per_part)


def source_of_graph(graph: Graph, description: str, rows_per_part: int) -> Source:
    """Cut a graph in memory into blocks."""
    return Source(
        description=description,
        entities=_vocabulary(graph.entities, graph.entity_names),
        relations=_vocabulary(graph.relations, graph.relation_names),
        splits={split: _blocks(graph, split, rows_per_part) for split in SPLITS if split in graph.triples},
        graph=graph,
    )


def _vocabulary(keys: tuple[str, ...], names: tuple[str, ...] | None) -> Vocabulary:
    column = pa.array(keys, pa.large_string())
    return Vocabulary(column, column if names is None else pa.array(names, pa.large_string()), by_key=False)


def _blocks(graph: Graph, split: str, rows_per_part: int) -> SplitBlocks:
    triples = graph.split(split)
    blocks = [
        pa.table([pa.array(triples[start : start + rows_per_part, column]) for column in range(3)], names=COLUMNS)
        for start in range(0, len(triples), rows_per_part)
    ]

    def explain(row: int, column: int) -> DataError:
        return DataError(
            f"split {split!r} row {row}: {COLUMNS[column]} id {triples[row, column]} is out of range; mend the triple"
        )

    return SplitBlocks(dataset_of_blocks(blocks), len(triples), explain)


def _open_parquet(config: ParquetConfig, rows_per_part: int) -> Source:
    columns = (config.head, config.relation, config.tail)
    opened = {split: open_split(path, columns) for split, path in config.splits().items()}
    kinds = {split: split_files.holds_keys for split, split_files in opened.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"{config.valid}: expected keys or ids as in {config.train}, found the other; convert it")
    entities_by_key, relations_by_key = kinds["train"]
    datasets = {split: split_files.dataset(rows_per_part) for split, split_files in opened.items()}
    raw = list(datasets.values())
    entities = build_vocabulary(config.entities, raw, ["head", "tail"], by_key=entities_by_key)
    relations = build_vocabulary(config.relations, raw, ["relation"], by_key=relations_by_key)
    if entities_by_key or relations_by_key:
        keys = {
            "entities": ray.put(entities.keys) if entities_by_key else None,
            "relations": ray.put(relations.keys) if relations_by_key else None,
        }
        datasets = {
            split: dataset.map_batches(partial(keys_to_ids, **keys), batch_size=None, batch_format="pyarrow")
            for split, dataset in datasets.items()
        }
    return Source(
        description=f"parquet {config.train.parent}",
        entities=entities,
        relations=relations,
        splits={
            split: SplitBlocks(
                datasets[split],
                opened[split].num_rows,
                _explainer(opened[split], entities, relations),
            )
            for split in opened
        },
        graph=None,
    )


def _explainer(split: ParquetSplit, entities: Vocabulary, relations: Vocabulary) -> Callable[[int, int], DataError]:
    def explain(row: int, column: int) -> DataError:
        what, vocabulary = ("relation", relations) if column == 1 else ("entity", entities)
        size = len(vocabulary.keys)
        limit = f"a key of the {size} {what} keys" if vocabulary.by_key else f"an {what} id in [0, {size})"
        return split.explain(row, column, limit)

    return explain


def collect_graph(source: Source, triples: Mapping[str, Triples]) -> Graph:
    """Return a source as a graph in memory, given its triples as source ids."""
    return Graph(
        entities=tuple(source.entities.keys.to_pylist()),
        relations=tuple(source.relations.keys.to_pylist()),
        triples=dict(triples),
        entity_names=tuple(source.entities.names.to_pylist()),
        relation_names=tuple(source.relations.names.to_pylist()),
    )


def collect_triples(blocks: SplitBlocks, num_entities: int, num_relations: int) -> Triples:
    """Read a split into memory: (T, 3) source ids.

    Raises:
        DataError: an id is out of range, or a key is not known.
    """
    parts = [
        np.stack([block[name] for name in COLUMNS], axis=1)
        for block in blocks.dataset.iter_batches(batch_size=None, batch_format="numpy")
    ]
    triples = np.concatenate(parts).astype(np.int64, copy=False)
    outside = (triples < 0) | (triples >= np.array([num_entities, num_relations, num_entities]))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise blocks.explain(int(row), int(column))
    return triples
