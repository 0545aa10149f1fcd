"""Clean splits from contaminated ones: no triple twice, none in two splits, a dev set train has never seen.

The test split is the fixed point, since published figures stand on it:

1. repeated lines are dropped from every split;
2. test stays; its triples leave train and valid;
3. valid keeps what is then neither in test nor in train: nobody who trained on the published train split has
   seen those triples, so they stay dev, and train gains nothing that others did not have;
4. if that is less than the dev share asked for, the rest is drawn from train, relation by relation in
   proportion to size, and leaves train. An entity or relation that train has keeps at least one train triple:
   its last one by the draw is never taken.

The draw depends on the seed and on the keys of the triple alone, not on ids or on the order of lines.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from snag_dist.config import Config
from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.graph import SPLITS, Graph, encode_triples
from snag_dist.random import Stream

Ids = NDArray[np.int64]


class RepairManifest(Config):
    """What a repair dropped and moved; `model_dump_json` writes it beside the new splits."""

    seed: int
    """Of the draw."""
    dev_share: float
    """Share of the triples outside test that was asked for as dev."""
    before: dict[str, int]
    """Lines by split, as they came."""
    after: dict[str, int]
    """Triples by split; `valid` is the dev set."""
    duplicates_dropped: dict[str, int]
    """Repeated lines dropped, by split."""
    train_dropped_in_test: int
    """Distinct train triples dropped because they are test triples."""
    valid_dropped_in_test: int
    """Distinct valid triples dropped because they are test triples."""
    valid_dropped_in_train: int
    """Distinct valid triples dropped because they are train triples (and no test triples)."""
    valid_kept: int
    """Triples of the old valid split that stay in dev."""
    moved_to_dev: int
    """Triples drawn from train."""
    dev_wanted: int
    """Triples that `dev_share` comes to; dev is smaller where an entity or relation would become unseen."""
    untrained_entities_before: int
    """Entities that no train triple had."""
    untrained_entities_after: int
    """Entities that no train triple has; more than before only where test triples had to leave train."""

    def lines(self) -> list[str]:
        """Return the manifest as plain lines."""
        sizes = (f"{split} {self.before.get(split, 0):,} -> {self.after[split]:,}" for split in self.after)
        repeated = (f"{split} {number:,}" for split, number in self.duplicates_dropped.items())
        return [
            f"repaired with seed {self.seed}, dev share {self.dev_share:g}: " + ", ".join(sizes),
            "repeated lines dropped: " + ", ".join(repeated),
            f"train: {self.train_dropped_in_test:,} test triples dropped, {self.moved_to_dev:,} moved to dev",
            f"valid: {self.valid_dropped_in_test:,} test triples and {self.valid_dropped_in_train:,} train "
            f"triples dropped, {self.valid_kept:,} kept; {self.dev_wanted:,} wanted in all",
            f"entities in no train triple: {self.untrained_entities_before:,} -> {self.untrained_entities_after:,}",
        ]


def repair_splits(graph: Graph, *, dev_share: float, seed: int) -> tuple[Graph, RepairManifest]:
    """Make clean splits; the rules are at the head of this file.

    Args:
        graph: with a train split; valid and test may be absent.
        dev_share: share of the triples outside test that shall be dev, in (0, 1). A valid split whose clean
            remains are more than that stays whole.
        seed: of the draw.

    Returns:
        The graph with the same ids and new splits, rows in the order they came (drawn dev rows last), and the
        manifest.

    Raises:
        ConfigError: dev_share is not in (0, 1).
        DataError: no train triple would be left, or no triple could be held out.
    """
    if not 0 < dev_share < 1:
        raise ConfigError(f"dev_share: expected a share between 0 and 1, got {dev_share}; 0.05 is usual")
    codes = encode_triples(graph)
    distinct = {split: _first_rows(codes[split]) for split in SPLITS}
    in_test = {split: np.isin(codes[split][distinct[split]], codes["test"]) for split in ("train", "valid")}
    in_train = np.isin(codes["valid"][distinct["valid"]], codes["train"])
    train = graph.split("train")[distinct["train"][~in_test["train"]]]
    kept = graph.split("valid")[distinct["valid"][~in_test["valid"] & ~in_train]]
    if not len(train):
        raise DataError(
            "split 'train': no triple is left once test triples are taken out; expected some, "
            "so check that train and test are not the same file"
        )
    wanted = round(dev_share * (len(train) + len(kept)))
    drawn = _draw_dev(graph, train, kept, dev_share=dev_share, wanted=wanted, seed=seed)
    splits = {"train": train[~drawn], "valid": np.concatenate([kept, train[drawn]])}
    if not len(splits["valid"]):
        raise DataError(
            f"split 'train': none of {len(train)} triples can be held out at dev_share {dev_share} without "
            "making an entity or relation unseen; raise dev_share or give a valid split of your own"
        )
    if "test" in graph.triples:
        splits["test"] = graph.split("test")[distinct["test"]]
    repaired = replace(graph, triples=splits)
    manifest = RepairManifest(
        seed=seed,
        dev_share=dev_share,
        before={split: len(triples) for split, triples in graph.triples.items()},
        after={split: len(triples) for split, triples in splits.items()},
        duplicates_dropped={split: len(graph.split(split)) - len(distinct[split]) for split in graph.triples},
        train_dropped_in_test=int(in_test["train"].sum()),
        valid_dropped_in_test=int(in_test["valid"].sum()),
        valid_dropped_in_train=int((in_train & ~in_test["valid"]).sum()),
        valid_kept=len(kept),
        moved_to_dev=int(drawn.sum()),
        dev_wanted=wanted,
        untrained_entities_before=_count_untrained(graph),
        untrained_entities_after=_count_untrained(repaired),
    )
    return repaired, manifest


def _first_rows(codes: Ids) -> Ids:
    """Return the rows at which each distinct code first occurs, ascending."""
    return np.sort(np.unique(codes, return_index=True)[1]).astype(np.int64, copy=False)


def _count_untrained(graph: Graph) -> int:
    return graph.num_entities - len(np.unique(graph.split("train")[:, [0, 2]]))


def _draw_dev(graph: Graph, train: Ids, kept: Ids, *, dev_share: float, wanted: int, seed: int) -> NDArray[np.bool_]:
    """Return (T,) which train triples become dev."""
    drawn = np.zeros(len(train), dtype=np.bool_)
    if len(kept) >= wanted:
        return drawn
    num_kept = np.bincount(kept[:, 1], minlength=graph.num_relations)
    sizes = np.bincount(train[:, 1], minlength=graph.num_relations) + num_kept
    short = np.maximum(_quotas(sizes, dev_share, wanted) - num_kept, 0)
    # Where valid keeps more of a relation than its quota, the others get less than theirs.
    missing = wanted - len(kept)
    needed = _quotas(short, missing / int(short.sum()), missing)
    rank = _draw_order(graph, train, seed)
    free = np.flatnonzero(~_last_of_each(graph, train, rank))
    # Free rows by relation, in the order of the draw; the first `needed` of each relation are taken.
    free = free[np.lexsort((rank[free], train[free, 1]))]
    relations = train[free, 1]
    begins = np.searchsorted(relations, np.arange(graph.num_relations))
    place = np.arange(len(free)) - begins[relations]
    drawn[free[place < needed[relations]]] = True
    return drawn


def _quotas(sizes: Ids, share: float, total: int) -> Ids:
    """Split `total` over relations in proportion to their sizes, by largest remainder."""
    exact = sizes * share
    quotas = np.floor(exact).astype(np.int64)
    by_remainder = np.lexsort((np.arange(len(sizes)), quotas - exact))
    quotas[by_remainder[: max(0, total - int(quotas.sum()))]] += 1
    return quotas


def _last_of_each(graph: Graph, triples: Ids, rank: Ids) -> NDArray[np.bool_]:
    """Return (T,) whether a triple is the last by rank of its head, of its tail or of its relation."""
    last_of_entity = np.full(graph.num_entities, -1, dtype=np.int64)
    np.maximum.at(last_of_entity, triples[:, 0], rank)
    np.maximum.at(last_of_entity, triples[:, 2], rank)
    last_of_relation = np.full(graph.num_relations, -1, dtype=np.int64)
    np.maximum.at(last_of_relation, triples[:, 1], rank)
    return (
        (last_of_entity[triples[:, 0]] == rank)
        | (last_of_entity[triples[:, 2]] == rank)
        | (last_of_relation[triples[:, 1]] == rank)
    )


def _draw_order(graph: Graph, triples: Ids, seed: int) -> Ids:
    """Return the (T,) place of each triple in a random order keyed by the seed and the triple's keys."""
    entities, relations = _hash_keys(graph.entities), _hash_keys(graph.relations)
    code = _mix(_mix(_mix(entities[triples[:, 0]]) + relations[triples[:, 1]]) + entities[triples[:, 2]])
    index = (code >> np.uint64(1)).astype(np.int64)
    numbers = Stream(seed, "kg/repair").integers(torch.as_tensor(index), 1, 1 << 52)[:, 0]
    order = np.lexsort((index, np.asarray(numbers)))
    rank = np.empty(len(triples), dtype=np.int64)
    rank[order] = np.arange(len(triples))
    return rank


def _hash_keys(keys: Sequence[str]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits, one to one (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
