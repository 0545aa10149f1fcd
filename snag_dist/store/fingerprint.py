"""What a store is, in one hash: what a run depends on; names, licence and the bytes of Parquet are not part of it."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from snag_dist.store.opened import read_links, read_triples
from snag_dist.store.schema import ENTITIES, FORMAT_VERSION, LINKS, RELATIONS, triple_parts

_KEYS_PER_PIECE = 1 << 16


def fingerprint_graph(folder: Path, *, seed: int, virtual_shards: int, splits: Iterable[str]) -> str:
    """Hash what a run depends on, a file at a time.

    Args:
        folder: with the files of the graph; the manifest may still be missing.
        seed: of the permutation from source ids to rows.
        virtual_shards: V.
        splits: in the order of the manifest.

    Returns:
        sha256 over seed, keys in row order, triples in stored order, and of two graphs sides and links.
    """
    digest = hashlib.sha256(f"{FORMAT_VERSION} {seed} {virtual_shards}".encode())
    for name in (ENTITIES, RELATIONS):
        with pq.ParquetFile(folder / name) as file:
            digest.update(f"\n{file.metadata.num_rows} keys\n".encode())
            for batch in file.iter_batches(_KEYS_PER_PIECE, columns=["key"]):
                digest.update(_ended(batch["key"]))
    for split in splits:
        digest.update(f"\n{split}\n".encode())
        for part in triple_parts(folder, split):
            digest.update(read_triples([part]).astype("<i8", copy=False).tobytes())
    if (folder / LINKS).is_file():
        digest.update(b"\nsides\n" + pq.read_table(folder / ENTITIES, columns=["graph"])["graph"].to_numpy().tobytes())
        digest.update(b"\nlinks\n" + read_links(folder).astype("<i8", copy=False).tobytes())
    return digest.hexdigest()


def _ended(keys: pa.Array) -> memoryview:
    """Return the bytes of all keys, each with a zero byte behind it."""
    nothing = pa.scalar("", pa.large_string())
    joined = pc.binary_join_element_wise(keys, nothing, pa.scalar("\x00", pa.large_string()))
    values = joined.buffers()[2]
    return memoryview(b"" if values is None else values)
