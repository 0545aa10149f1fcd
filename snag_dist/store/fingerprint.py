"""The fingerprint of a graph on disk: what a run depends on, not the bytes of Parquet."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from snag_dist.store.opened import read_links, read_triples
from snag_dist.store.schema import ENTITIES, FORMAT_VERSION, LINKS, RELATIONS, triple_parts


def fingerprint_graph(folder: Path, *, seed: int, virtual_shards: int, splits: Iterable[str]) -> str:
    """Hash what a run depends on; names, licence and the bytes of Parquet are not part of it.

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
        column = pq.read_table(folder / name, columns=["key"])["key"]
        digest.update(f"\n{len(column)} keys\n".encode())
        for chunk in column.chunks:
            for batch_start in range(0, len(chunk), 1 << 16):
                digest.update("\x00".join(chunk.slice(batch_start, 1 << 16).to_pylist()).encode() + b"\x00")
    for split in splits:
        digest.update(f"\n{split}\n".encode())
        for part in triple_parts(folder, split):
            digest.update(read_triples([part]).astype("<i8", copy=False).tobytes())
    if (folder / LINKS).is_file():
        digest.update(b"\nsides\n" + pq.read_table(folder / ENTITIES, columns=["graph"])["graph"].to_numpy().tobytes())
        digest.update(b"\nlinks\n" + read_links(folder).astype("<i8", copy=False).tobytes())
    return digest.hexdigest()
