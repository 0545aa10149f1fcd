"""Where a graph may come from, and what ingest takes of it: blocks of triples, and what is known of the keys."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.kg.alignment import GraphPair
from snag_dist.kg.formats import NTRIPLES_ENDINGS, TSV_ENDINGS, read_openke, read_tsv, split_paths
from snag_dist.kg.graph import SPLITS, Graph
from snag_dist.kg.labels import read_all_entity_names
from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.alignment_source import AlignmentConfig
from snag_dist.store.blocks import Block
from snag_dist.store.keys import CountedKeys, Keys, ListedKeys, UnnumberedKeys, WorldKeys
from snag_dist.store.parquet_source import ParquetConfig, largest_ids, open_split, read_blocks
from snag_dist.store.text_source import read_ntriples_blocks, read_tsv_blocks

# Entities of a generated world whose facts are drawn together.
_ENTITIES_PER_BLOCK = 1 << 15


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
        """Read a graph of ids."""
        return read_tsv(self.place(), with_ids=True)


class NtriplesConfig(_SplitFilesConfig):
    """N-Triples; statements about literals are left out and counted."""

    kind: Literal["ntriples"] = "ntriples"
    """Tells this source from the others."""


SourceConfig = Annotated[
    OpenkeConfig | TsvConfig | NtriplesConfig | ParquetConfig | WorldConfig | AlignmentConfig,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        description: layout and place, in words.
        splits: split name to where it comes from, in words, train first.
        num_triples: of all splits; expected of a world, 0 where it is not known before they are read.
        entities, relations: what is known of the keys before the triples are read.
        blocks: iterates over tasks that each return blocks, in the order of the rows; one block where it holds keys.
            Iterated again, they are the same.
        pair: both graphs and their links, where the source is one of alignment.
    """

    description: str
    splits: dict[str, str]
    num_triples: int
    entities: Keys
    relations: Keys
    blocks: Callable[[], Iterator[Callable[[], list[Block]]]]
    pair: GraphPair | None = None


def source_files(config: SourceConfig) -> list[Path]:
    """List the files a source is read from; none for a generated world."""
    return [] if isinstance(config, WorldConfig) else config.files()


def open_source(config: SourceConfig, rows_per_block: int) -> Source:
    """Open a source. Layouts of ids in text are read into memory; of the others, footers and labels are.

    Raises:
        DataError: see the readers.
    """
    match config:
        case ParquetConfig():
            return _open_parquet(config, rows_per_block)
        case WorldConfig():
            return _open_world(config)
        case AlignmentConfig():
            pair = config.read()
            return replace(source_of_graph(pair.to_graph(), f"alignment {config.folder}", rows_per_block), pair=pair)
        case NtriplesConfig():
            return _open_text(config, NTRIPLES_ENDINGS, read_ntriples_blocks)
        case TsvConfig() if not config.with_ids:
            return _open_text(config, TSV_ENDINGS, read_tsv_blocks)
        case _:
            return source_of_graph(config.read(), _describe(config), rows_per_block)


def _describe(config: OpenkeConfig | TsvConfig | NtriplesConfig) -> str:
    return f"{config.kind} {config.folder if config.folder is not None else config.files()[0].parent}"


def source_of_graph(graph: Graph, description: str, rows_per_block: int) -> Source:
    """Cut a graph in memory into blocks."""

    def blocks() -> Iterator[Callable[[], list[Block]]]:
        for split in splits:
            for begin in range(0, len(graph.split(split)), rows_per_block):
                yield partial(_cut, split, graph.split(split)[begin : begin + rows_per_block])

    splits = [split for split in SPLITS if split in graph.triples]
    return Source(
        description,
        dict.fromkeys(splits, description),
        len(graph.all_triples()),
        _listed(graph.entities, graph.entity_names),
        _listed(graph.relations, graph.relation_names),
        blocks,
    )


def _cut(split: str, triples: np.ndarray) -> list[Block]:
    head, relation, tail = (pa.array(triples[:, column]) for column in range(3))
    return [Block(split, (head, relation, tail))]


def _listed(keys: tuple[str, ...], names: tuple[str, ...] | None) -> ListedKeys:
    column = pa.array(keys, pa.large_string())
    return ListedKeys(column, column if names is None else pa.array(names, pa.large_string()))


def _open_world(config: WorldConfig) -> Source:
    world = World(config)

    def blocks() -> Iterator[Callable[[], list[Block]]]:
        for ids in world.blocks(_ENTITIES_PER_BLOCK):
            yield partial(draw, ids)

    def draw(ids: np.ndarray) -> list[Block]:
        facts = world.facts(ids)
        return [block for row, split in enumerate(SPLITS) for block in _cut(split, facts.triples[facts.splits == row])]

    return Source(
        f"generated world of {config.num_entities} entities, seed {config.seed}",
        dict.fromkeys(SPLITS, "generated world"),
        world.expected_triples,
        WorldKeys(world),
        _listed(world.relations, world.relation_names),
        blocks,
    )


def _open_text(
    config: TsvConfig | NtriplesConfig,
    endings: tuple[str, ...],
    read: Callable[[dict[str, Path]], Iterator[Callable[[], Block]]],
) -> Source:
    files = split_paths(config.place(), endings)
    names = read_all_entity_names(next(iter(files.values())).parent / "entities.tsv")
    labels = None if names is None else _listed(tuple(names), tuple(names.values()))
    return Source(
        _describe(config),
        {split: str(path) for split, path in files.items()},
        0,
        UnnumberedKeys("appearance", by_key=True, labels=labels),
        UnnumberedKeys("appearance", by_key=True),
        lambda: (partial(_alone, task) for task in read(files)),
    )


def _alone(task: Callable[[], Block]) -> list[Block]:
    return [task()]


def _open_parquet(config: ParquetConfig, rows_per_block: int) -> Source:
    columns = (config.head, config.relation, config.tail)
    opened = {split: open_split(path, columns) for split, path in config.splits().items()}
    kinds = {split: files.holds_keys for split, files in opened.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"{config.valid}: expected keys or ids as in {config.train}, found the other; convert it")
    tables = (config.entities, config.relations)
    counted = any(table is None and not by_key for table, by_key in zip(tables, kinds["train"], strict=True))
    largest = largest_ids(opened, rows_per_block) if counted else (-1, -1)
    entities, relations = (
        _keys_of_parquet(table, by_key, most)
        for table, by_key, most in zip(tables, kinds["train"], largest, strict=True)
    )
    return Source(
        f"parquet {config.train.parent}",
        {split: str(path) for split, path in config.splits().items()},
        sum(files.num_rows for files in opened.values()),
        entities,
        relations,
        lambda: (partial(_alone, task) for task in read_blocks(opened, rows_per_block)),
    )


def _keys_of_parquet(table: Path | None, by_key: bool, largest: int) -> Keys:
    if table is not None:
        return UnnumberedKeys("table", by_key, table)
    return UnnumberedKeys("sorted", by_key) if by_key else CountedKeys(largest + 1)
