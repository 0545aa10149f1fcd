"""KBLaM: knowledge tokens as pairs of a key and a value vector, one pair a training triple.

    train_snag_embd_key.npy     (T, D) what the scorer makes of head and relation: where the tail should lie
    train_snag_embd_value.npy   (T, D) the tail's code
    train.json                  (T) name, description_type, description, key_string, Q, A: the triple in words

Entry i of the three is the same triple, in the order of the store.

Source: Wang et al., "KBLaM: Knowledge Base augmented Language Model" (ICLR 2025), whose trainer takes the two arrays as
precomputed embeddings beside the JSON.
"""

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from snag_dist.export.consumers.handed import Handed

KEYS = "train_snag_embd_key.npy"
VALUES = "train_snag_embd_value.npy"
ENTRIES = "train.json"
_BLOCK = 8192


def write_kblam(handed: Handed) -> None:
    """Write keys, values and entries, block by block."""
    store, task = handed.source.store, handed.source.task
    triples = store.triples("train")
    shape = (len(triples), handed.width)
    keys = np.lib.format.open_memmap(handed.folder / KEYS, mode="w+", dtype=np.float32, shape=shape)
    values = np.lib.format.open_memmap(handed.folder / VALUES, mode="w+", dtype=np.float32, shape=shape)
    names, relations = store.entities()["name"].combine_chunks(), store.relations()["name"].to_pylist()
    with (handed.folder / ENTRIES).open("w", encoding="utf-8") as file:
        separator = "[\n"
        for first in range(0, len(triples), _BLOCK):
            part = triples[first : first + _BLOCK]
            heads, relation, tails = torch.from_numpy(part).unbind(dim=1)
            find_tail = torch.ones(len(part), dtype=torch.bool)
            with torch.no_grad():
                queries = task.queries(handed.codes(heads), relation, find_tail)
            keys[first : first + len(part)] = queries.numpy()
            values[first : first + len(part)] = handed.codes(tails).numpy()
            for entry in _entries(part, names, relations):
                file.write(separator + json.dumps(entry, ensure_ascii=False))
                separator = ",\n"
        file.write("\n]\n" if len(triples) else "[]\n")
    keys.flush()
    values.flush()


def _entries(triples: NDArray[np.int64], names: pa.Array, relations: list[str]) -> Iterator[dict[str, str]]:
    heads = names.take(pa.array(triples[:, 0])).to_pylist()
    tails = names.take(pa.array(triples[:, 2])).to_pylist()
    for head, relation, tail in zip(heads, triples[:, 1].tolist(), tails, strict=True):
        what = relations[relation].replace("_", " ")
        key = f"the {what} of {head}"
        yield {
            "name": head,
            "description_type": what,
            "description": tail,
            "key_string": key,
            "Q": f"What is {key}?",
            "A": f"{key[0].upper()}{key[1:]} is {tail}.",
        }
