"""An opened store: the one way other packages read what ingest and extraction wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from snag_dist.errors import DataError
from snag_dist.kg.graph import COLUMNS
from snag_dist.names import is_plain
from snag_dist.random import Stream
from snag_dist.shard.partition import shard_bounds
from snag_dist.store.feature_report import FeatureReport
from snag_dist.store.findings import Findings
from snag_dist.store.manifest import (
    FeatureManifest,
    MissingManifest,
    StoreManifest,
    TruthManifest,
    read_manifest,
    verify_files,
)
from snag_dist.store.schema import (
    AUDIT,
    ENTITIES,
    FEATURES,
    KNOWN_TRUE,
    LINKS,
    MISSING,
    RELATIONS,
    REPORT,
    SOURCE_IDS,
    triple_parts,
)

_REMAKE = "make the store with jobs/ingest.py"
_ANEW = "the file is damaged: remove the store and make it anew with jobs/ingest.py"
_REMAKE_FEATURES = "remove the folder and extract the modality again"
_REMAKE_TRUTH = "remove the folder; the next run that streams makes it anew"
_REMAKE_OVERLAY = "remove the folder and make the overlay again with jobs/ingest.py"

# Read together where a split is gone through.
_TRIPLES_AT_A_TIME = 1 << 18

JsonT = TypeVar("JsonT", Findings, FeatureReport)


def rows_of_source_ids(seed: int, num_entities: int) -> NDArray[np.int64]:
    """Return (E,) the row of every source id: the seeded permutation that balances owners at any W.

    Source: design.md, section 2.
    """
    ids = torch.arange(num_entities, dtype=torch.int64)
    return Stream(seed, "store/rows").permute(ids, num_entities).numpy()


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of a store.

    Args:
        columns: that are wanted; None wants all.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _no_parquet(path, error) from error


def _no_parquet(path: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0]
    return DataError(f"{path}: expected Parquet, got: {reason}; {_ANEW}")


def read_triples(parts: Sequence[Path]) -> NDArray[np.int64]:
    """Read Parquet files of triples: (T, 3) int64, columns head, relation, tail.

    Raises:
        DataError: a file is damaged.
    """
    return _as_ids(pa.concat_tables([read_table(part) for part in parts]))


def iter_triples(parts: Sequence[Path]) -> Iterator[NDArray[np.int64]]:
    """Go through Parquet files of triples, (n, 3) int64 at a time; a row group's bytes are held.

    Raises:
        DataError: a file is damaged.
    """
    for part in parts:
        try:
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(_TRIPLES_AT_A_TIME, columns=list(COLUMNS)):
                    yield _as_ids(batch)
        except (pa.ArrowInvalid, OSError) as error:
            raise _no_parquet(part, error) from error


def _as_ids(table: pa.Table | pa.RecordBatch) -> NDArray[np.int64]:
    triples = np.empty((table.num_rows, 3), dtype=np.int64)
    for column, name in enumerate(COLUMNS):
        triples[:, column] = table[name].to_numpy()
    return triples


def read_links(store: Path) -> NDArray[np.int64]:
    """Read the links of a store of two graphs: (L, 2) int64 rows, left and right."""
    table = read_table(store / LINKS)
    return np.stack([table["left"].to_numpy(), table["right"].to_numpy()], axis=1)


@dataclass(frozen=True)
class Store:
    """A store whose manifest was found complete.

    Attributes:
        path: its folder, absolute.
        manifest: counts, fingerprint, provenance.
    """

    path: Path
    manifest: StoreManifest

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of the content, which a run keeps and checks."""
        return self.manifest.fingerprint

    @property
    def num_entities(self) -> int:
        return self.manifest.num_entities

    @property
    def num_relations(self) -> int:
        return self.manifest.num_relations

    @property
    def virtual_shards(self) -> int:
        return self.manifest.virtual_shards

    @property
    def shard_bounds(self) -> NDArray[np.int64]:
        """Return (V+1,) the first row of every virtual shard, and E."""
        return shard_bounds(self.num_entities, self.virtual_shards)

    @cached_property
    def rows_of_source_ids(self) -> NDArray[np.int64]:
        """Return (E,) the row of every source id."""
        return rows_of_source_ids(self.manifest.seed, self.num_entities)

    def triples(self, split: str) -> NDArray[np.int64]:
        """Read a split: (T, 3) int64, columns head, relation, tail, entities as rows.

        Raises:
            DataError: the store has no such split.
        """
        return read_triples(self.triple_parts(split))

    def iter_triples(self, split: str) -> Iterator[NDArray[np.int64]]:
        """Go through a split without holding it, (n, 3) int64 at a time, as `triples` has it.

        Raises:
            DataError: the store has no such split, or a file is damaged.
        """
        return iter_triples(self.triple_parts(split))

    def triple_parts(self, split: str) -> list[Path]:
        """List the Parquet files of a split in the order of their rows.

        Raises:
            DataError: the store has no such split.
        """
        if split not in self.manifest.num_triples:
            raise DataError(
                f"{self.path}: split {split!r}: expected one of {', '.join(self.manifest.num_triples)}; "
                "ask for a split of the store, or ingest a source that has it"
            )
        return triple_parts(self.path, split)

    def links(self) -> NDArray[np.int64]:
        """Read the links between the two graphs: (L, 2) int64 rows, left and right, in the order of the source.

        Raises:
            DataError: the store is of one graph.
        """
        if not self.manifest.num_links:
            raise DataError(
                f"{self.path}: expected a store of two graphs with links, found one of {self.manifest.source}; ingest "
                "a source of kind 'alignment'"
            )
        return read_links(self.path)

    def sides(self) -> NDArray[np.int8]:
        """Read (E,) the graph of every row: 0 left, 1 right; 0 throughout where there is one graph."""
        return read_table(self.path / ENTITIES, ["graph"])["graph"].to_numpy()

    def rows_of_file_ids(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (n,) the rows of entities by the numbers their source gives them; -1 where there is none.

        The files of an alignment source number both graphs, maybe with gaps; any other source counts from 0.
        """
        numbers = self._file_ids
        places = np.minimum(np.searchsorted(numbers, ids), len(numbers) - 1)
        return np.where(numbers[places] == ids, self.rows_of_source_ids[places], -1)

    @cached_property
    def _file_ids(self) -> NDArray[np.int64]:
        """(E,) the number of every source id in the files, ascending."""
        if SOURCE_IDS not in self.manifest.files:
            return np.arange(self.num_entities)
        return read_table(self.path / SOURCE_IDS)["id"].to_numpy()[self.rows_of_source_ids]

    def entities(self) -> pa.Table:
        """Read the entities: row, key, graph, name; row i is at position i."""
        return read_table(self.path / ENTITIES)

    def relations(self) -> pa.Table:
        """Read the relations: id, key, name; id i is at position i."""
        return read_table(self.path / RELATIONS)

    def findings(self) -> Findings:
        """Read what the audit found when the store was made.

        Raises:
            DataError: the file is damaged.
        """
        return _read_json(self.path / AUDIT, Findings, _ANEW)

    def modalities(self) -> tuple[str, ...]:
        """Name the feature tables that are there, sorted."""
        folder = self.path / FEATURES
        names = (path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()
        return tuple(sorted(name for name in names if not name.endswith(".partial")))

    def features(self) -> dict[str, FeatureManifest]:
        """Read the manifests of all feature tables.

        Raises:
            DataError: see `feature`.
        """
        return {modality: self.feature(modality) for modality in self.modalities()}

    def feature_folder(self, modality: str) -> Path:
        """Return the folder of a modality's table, whether it is there or not."""
        return self.path / FEATURES / modality

    def feature(self, modality: str) -> FeatureManifest:
        """Read the manifest of a feature table.

        Raises:
            DataError: the store has no such modality, a file is missing or was changed in size, or the table
                was made for another store.
        """
        folder = self.feature_folder(modality)
        if not is_plain(modality) or not folder.is_dir():
            have = ", ".join(self.modalities()) or "none"
            raise DataError(
                f"{folder}: the store has no features for modality {modality!r} (it has: {have}); "
                "extract them, or leave the modality out of the recipe"
            )
        manifest = read_manifest(folder, FeatureManifest, remedy=_REMAKE_FEATURES)
        if manifest.store_fingerprint != self.fingerprint:
            raise DataError(
                f"{folder}: these features belong to store {manifest.store_fingerprint[:12]}, this store is "
                f"{self.fingerprint[:12]}; {_REMAKE_FEATURES}"
            )
        return manifest

    def feature_report(self, modality: str) -> FeatureReport:
        """Read the norms, near-constant columns and duplicates of a feature table.

        Raises:
            DataError: the file is damaged.
        """
        return _read_json(self.feature_folder(modality) / REPORT, FeatureReport, _REMAKE_FEATURES)

    def verify(self) -> None:
        """Hash every file of the store, of its features, of the overlays over them and of known-true indexes anew.

        Raises:
            DataError: naming the first file that was changed.
        """
        verify_files(self.path, self.manifest.files, remedy=_REMAKE)
        for modality, manifest in self.features().items():
            verify_files(self.feature_folder(modality), manifest.files, remedy=_REMAKE_FEATURES)
        for folder in sorted(path for path in (self.path / MISSING).glob("*") if path.suffix != ".partial"):
            overlay = read_manifest(folder, MissingManifest, remedy=_REMAKE_OVERLAY)
            verify_files(folder, overlay.files, remedy=_REMAKE_OVERLAY)
        for folder in sorted(path for path in (self.path / KNOWN_TRUE).glob("*") if path.suffix != ".partial"):
            index = read_manifest(folder, TruthManifest, remedy=_REMAKE_TRUTH)
            verify_files(folder, index.files, remedy=_REMAKE_TRUTH)


def open_store(path: Path) -> Store:
    """Open a store.

    Args:
        path: its folder.

    Raises:
        DataError: there is no manifest, it has another format version, or a file is missing or was changed in
            size.
    """
    path = path.absolute()
    return Store(path, read_manifest(path, StoreManifest, remedy=_REMAKE))


def _read_json(path: Path, kind: type[JsonT], remedy: str) -> JsonT:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValueError as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path}: expected JSON of a store, got: {reason}; {remedy}") from error
