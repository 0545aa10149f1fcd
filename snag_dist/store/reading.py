"""From a source to rows: keys are numbered where there are some, then every block is told in rows.

Where triples hold keys, a first pass leaves their distinct keys as runs, and the triples as numbers into these; the
second pass reads the numbers, not the source.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from snag_dist.errors import DataError
from snag_dist.kg.graph import COLUMNS
from snag_dist.store.blocks import (
    UNKNOWN,
    Block,
    InOrder,
    Ints,
    Places,
    Rows,
    are_keys,
    as_ids,
    check_known,
    place,
    rows_table,
)
from snag_dist.store.key_runs import KeyRuns, encode_keys, read_arrow, write_arrow
from snag_dist.store.keys import CountedKeys, Keys, ListedKeys, UnnumberedKeys, WorldKeys
from snag_dist.store.numbering import KEYS_PER_PARTITION, NumberedKeys, Numbering, number_keys
from snag_dist.store.pipeline import Threads
from snag_dist.store.sources import Source

KnownKeys = ListedKeys | CountedKeys | WorldKeys | NumberedKeys


@dataclass(frozen=True)
class Reading:
    """A source whose keys have their places.

    Attributes:
        entities, relations: what is known of them.
        rows: where entities go.
        blocks: iterates over tasks that each return (split, triples as the store keeps them), in the order of the rows.
        num_triples: of all splits; expected of a world.
        num_literals: split name to the statements about literals that were left out.
    """

    entities: KnownKeys
    relations: KnownKeys
    rows: Rows
    blocks: Callable[[], Iterator[Callable[[], list[tuple[str, pa.Table]]]]]
    num_triples: int
    num_literals: dict[str, int]


def read_source(
    source: Source, seed: int, scratch: Path, threads: Threads, keys_per_partition: int = KEYS_PER_PARTITION
) -> Reading:
    """Number the keys of a source.

    Args:
        source: as it was opened.
        seed: of the permutation from source ids to rows.
        scratch: folder for what is too large to be held.
        threads: that do the work.
        keys_per_partition: see `KEYS_PER_PARTITION`.

    Raises:
        DataError: see the readers; a split is empty.
    """
    entities = _Vocabulary(source.entities, scratch / "entities")
    relations = _Vocabulary(source.relations, scratch / "relations")
    blocks, num_literals, num_triples = source.blocks, dict.fromkeys(source.splits, 0), source.num_triples
    if entities.by_key or relations.by_key:
        noted = _note_keys(source, entities, relations, scratch / "blocks", threads)
        for block in noted:
            num_literals[block.split] += block.num_literals
        num_triples = sum(block.num_rows for block in noted)
        _check_filled(source, noted)
        blocks = partial(_noted_blocks, noted)
    known_entities = entities.number(partial(Rows, seed), threads, keys_per_partition)
    known_relations = relations.number(InOrder, threads, keys_per_partition)
    to_rows = partial(
        _tell_in_rows,
        entities=_Lookup(known_entities, entities.num_tables, Rows(seed, known_entities.num)),
        relations=_Lookup(known_relations, relations.num_tables, InOrder(known_relations.num)),
        limits=(entities.limit("an entity", known_entities.num), relations.limit("a relation", known_relations.num)),
    )

    def tasks() -> Iterator[Callable[[], list[tuple[str, pa.Table]]]]:
        for number, read in enumerate(blocks()):
            yield partial(to_rows, number, read)

    rows = Rows(seed, known_entities.num)
    return Reading(known_entities, known_relations, rows, tasks, num_triples, num_literals)


class _Vocabulary:
    """Entities or relations of a source, and the runs of their keys where they have no ids yet."""

    def __init__(self, keys: Keys, folder: Path) -> None:
        self._keys = keys
        self.num_tables = 0
        self.by_key = isinstance(keys, UnnumberedKeys) and keys.by_key
        self.runs = KeyRuns(folder)
        if isinstance(keys, UnnumberedKeys):
            for table_keys, names in keys.runs():
                self.runs.note(self.runs.write(self.num_tables, table_keys, names))
                self.num_tables += 1

    def number(self, make_places: Callable[[int], Places], threads: Threads, keys_per_partition: int) -> KnownKeys:
        if not isinstance(self._keys, UnnumberedKeys):
            return self._keys
        numbering = Numbering(self._keys.order, self.num_tables, str(self._keys.table or ""))
        return number_keys(self.runs, numbering, make_places, threads, keys_per_partition)

    def limit(self, what: str, num: int) -> str:
        return f"a key of the {num} {what.split()[1]} keys" if self.by_key else f"{what} id in [0, {num})"


def _note_keys(
    source: Source, entities: _Vocabulary, relations: _Vocabulary, folder: Path, threads: Threads
) -> list["_NotedBlock"]:
    """Write the keys of every block as runs, and its triples as numbers into these."""
    folder.mkdir()

    def note(number: int, read: Callable[[], list[Block]]) -> tuple["_NotedBlock", int, int]:
        (block,) = read()
        columns, lengths = list(block.columns), [0, 0]
        for which, (vocabulary, places) in enumerate(((entities, (0, 2)), (relations, (1,)))):
            if vocabulary.by_key:
                codes, keys = encode_keys([columns[column] for column in places])
                lengths[which] = vocabulary.runs.write(vocabulary.num_tables + number, keys)
                for column, code in zip(places, codes, strict=True):
                    columns[column] = pa.array(code)
        path = folder / f"block-{number:06}.arrow"
        write_arrow(path, pa.table(columns, names=COLUMNS))
        empty = pa.array([], pa.int64())
        return _NotedBlock(replace(block, columns=(empty, empty, empty)), path, len(block)), lengths[0], lengths[1]

    noted: list[_NotedBlock] = []
    tasks = (partial(note, number, read) for number, read in enumerate(source.blocks()))
    for block, num_entities, num_relations in threads.in_order(tasks):
        noted.append(block)
        for vocabulary, num in ((entities, num_entities), (relations, num_relations)):
            if vocabulary.by_key:
                vocabulary.runs.note(num)
    return noted


@dataclass(frozen=True)
class _NotedBlock:
    """A block whose triples lie in a file, as numbers into the runs of its keys."""

    block: Block
    path: Path
    num_rows: int

    @property
    def split(self) -> str:
        return self.block.split

    @property
    def num_literals(self) -> int:
        return self.block.num_literals

    def read(self) -> list[Block]:
        head, relation, tail = (column.combine_chunks() for column in read_arrow(self.path))
        return [replace(self.block, columns=(head, relation, tail))]


def _noted_blocks(noted: list[_NotedBlock]) -> Iterator[Callable[[], list[Block]]]:
    for block in noted:
        yield block.read


def _check_filled(source: Source, noted: list[_NotedBlock]) -> None:
    for split, where in source.splits.items():
        if not sum(block.num_rows for block in noted if block.split == split):
            raise DataError(f"{where}: expected triples, found none; an empty split cannot be used")


@dataclass(frozen=True)
class _Lookup:
    """From what a column of a block holds to places."""

    keys: KnownKeys
    num_tables: int
    places: Places

    def __call__(self, number: int, column: pa.Array) -> Ints:
        if not pa.types.is_int32(column.type):
            return place(as_ids(column), self.places)
        assert isinstance(self.keys, NumberedKeys)
        # The last stands for a missing key.
        of_run = np.append(self.keys.places(self.num_tables + number), UNKNOWN)
        return of_run[column.to_numpy()]


def _tell_in_rows(
    number: int,
    read: Callable[[], list[Block]],
    *,
    entities: _Lookup,
    relations: _Lookup,
    limits: tuple[str, str],
) -> list[tuple[str, pa.Table]]:
    told: list[tuple[str, pa.Table]] = []
    for block in read():
        assert not any(are_keys(column) for column in block.columns), "keys are numbered before they are looked up"
        head, relation, tail = block.columns
        table = rows_table(entities(number, head), relations(number, relation), entities(number, tail))
        check_known(block, table, limits)
        told.append((block.split, table))
    return told
