"""The known-true index: which tails complete (head, relation), which heads complete (relation, tail).

Used to keep true triples out of the sampled negatives, to remove other right answers from a ranking, and for
the Bernoulli rule of which side to corrupt. Two compressed sparse rows (CSR) of int64, built by sorting, read
by binary search; no Python object per triple. Where the triples fit, `TruthIndex.build` holds it all in memory; where
they do not, `snag_dist.store.truth_files` makes the same arrays out of core, and they are mapped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import DataError
from snag_dist.kg.graph import COLUMNS, find_bad_id

Ids = NDArray[np.int64]

# Pairs looked at together where all are gone through, so that no copy of a mapped array is held.
_PAIRS_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class Ragged:
    """Q lists of ids, laid end to end.

    Attributes:
        offsets: (Q+1,) int64; list q is `values[offsets[q]:offsets[q + 1]]`.
        values: (n,) int64, ascending and distinct inside each list.
    """

    offsets: Ids
    values: Ids

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> Ids:
        if not 0 <= query < len(self):
            raise IndexError(f"list {query} of {len(self)}")
        return self.values[self.offsets[query] : self.offsets[query + 1]]

    def lengths(self) -> Ids:
        """Return the (Q,) lengths of the lists."""
        return np.diff(self.offsets)

    def queries(self) -> Ids:
        """Return (n,) the list each value belongs to: with `values`, the coordinates of a (Q, E) mask."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths())


@dataclass(frozen=True)
class Side:
    """Answers by pair, one direction; its arrays are only read, so files may be mapped in their place.

    An answer is stored as `pair index * size + answer`, not as `pair key * size + answer`: the latter would
    pass 2^63 at 90 M entities and 1,400 relations.
    """

    pairs: Ids  # (P,) distinct pair keys, ascending
    offsets: Ids  # (P+1,) where the answers of each pair begin
    codes: Ids  # (T,) pair index * size + answer, ascending
    size: int  # answers are in [0, size)

    @classmethod
    def build(cls, pair_keys: Ids, answers: Ids, size: int) -> "Side":
        """Sort answers (T,) by their pairs; duplicates count once."""
        pairs, index = np.unique(pair_keys, return_inverse=True)
        codes = index.astype(np.int64, copy=False) * size + answers
        del index
        # In place: `np.unique` would hold a hash table of all codes beside them.
        codes.sort()
        is_new = np.ones(len(codes), dtype=np.bool_)
        np.not_equal(codes[1:], codes[:-1], out=is_new[1:])
        codes = codes[is_new]
        offsets = np.searchsorted(codes, np.arange(len(pairs) + 1, dtype=np.int64) * size)
        return cls(pairs, offsets.astype(np.int64, copy=False), codes, size)

    def find(self, pair_keys: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """Return (Q,) pair index and whether the pair occurs; the index is 0 where it does not."""
        if not len(self.pairs):
            return np.zeros(len(pair_keys), dtype=np.int64), np.zeros(len(pair_keys), dtype=np.bool_)
        index = np.minimum(np.searchsorted(self.pairs, pair_keys), len(self.pairs) - 1)
        found = self.pairs[index] == pair_keys
        return np.where(found, index, 0), found

    def gather(self, pair_keys: Ids) -> Ragged:
        """Return the answers of Q pairs, ascending."""
        index, found = self.find(pair_keys)
        if not len(self.pairs):
            return Ragged(np.zeros(len(pair_keys) + 1, dtype=np.int64), np.empty(0, dtype=np.int64))
        starts = self.offsets[index]
        lengths = np.where(found, self.offsets[index + 1] - starts, 0)
        offsets = _offsets(lengths)
        # Position in the result, moved by how far each list lies from its place in `codes`.
        positions = np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], lengths)
        return Ragged(offsets, self.codes[positions] - np.repeat(index * self.size, lengths))

    def contains(self, pair_keys: Ids, answers: Ids) -> NDArray[np.bool_]:
        """Return (Q,) whether each answer is one of its pair's."""
        index, found = self.find(pair_keys)
        if not len(self.codes):
            return found
        codes = index * self.size + answers
        position = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return found & (self.codes[position] == codes)

    def count_by_relation(self, num_relations: int) -> Ids:
        """Return (R,) the distinct pairs of each relation."""
        counts = np.zeros(num_relations, dtype=np.int64)
        for begin in range(0, len(self.pairs), _PAIRS_AT_A_TIME):
            relations = self.pairs[begin : begin + _PAIRS_AT_A_TIME] % num_relations
            counts += np.bincount(relations, minlength=num_relations)
        return counts


@dataclass(frozen=True)
class TruthIndex:
    """Known-true triples, readable from either side.

    Queries must hold ids of the graph (entity in [0, E), relation in [0, R)): an id outside would alias
    another pair, and callers check ids once, where they enter, not at every lookup.

    Attributes:
        num_entities: E.
        num_relations: R.
        by_head: tails by (head, relation).
        by_tail: heads by (relation, tail).
    """

    num_entities: int
    num_relations: int
    by_head: Side
    by_tail: Side

    @classmethod
    def build(cls, triples: Ids, num_entities: int, num_relations: int) -> "TruthIndex":
        """Build the index in memory by sorting: O(T log T) time, 6 int64 a triple at most, 11 while it is built.

        Args:
            triples: (T, 3) int64, columns head, relation, tail; duplicates are allowed and count once.
            num_entities: E.
            num_relations: R.

        Raises:
            DataError: an id is out of range.
        """
        refuse_foreign(triples, num_entities, num_relations)
        heads, relations, tails = triples[:, 0], triples[:, 1], triples[:, 2]
        by_head = Side.build(heads * num_relations + relations, tails, num_entities)
        by_tail = Side.build(tails * num_relations + relations, heads, num_entities)
        return cls(num_entities, num_relations, by_head, by_tail)

    @property
    def num_triples(self) -> int:
        """Distinct triples in the index."""
        return len(self.by_head.codes)

    def tails(self, heads: Ids, relations: Ids) -> Ragged:
        """Return, for each of Q (head, relation), the known tails, ascending."""
        return self.by_head.gather(heads * self.num_relations + relations)

    def heads(self, relations: Ids, tails: Ids) -> Ragged:
        """Return, for each of Q (relation, tail), the known heads, ascending."""
        return self.by_tail.gather(tails * self.num_relations + relations)

    def answers(self, triples: Ids, find_tail: NDArray[np.bool_]) -> Ragged:
        """Return the known answers of queries of mixed direction, the triple's own included if known.

        Args:
            triples: (Q, 3) int64.
            find_tail: (Q,) True where the tail is to be found, False where the head is.
        """
        known_tails = self.tails(triples[find_tail, 0], triples[find_tail, 1])
        known_heads = self.heads(triples[~find_tail, 1], triples[~find_tail, 2])
        lengths = np.empty(len(triples), dtype=np.int64)
        lengths[find_tail] = known_tails.lengths()
        lengths[~find_tail] = known_heads.lengths()
        from_tails = np.repeat(find_tail, lengths)
        values = np.empty(len(from_tails), dtype=np.int64)
        values[from_tails] = known_tails.values
        values[~from_tails] = known_heads.values
        return Ragged(_offsets(lengths), values)

    def contains(self, heads: Ids, relations: Ids, tails: Ids) -> NDArray[np.bool_]:
        """Return (Q,) whether each triple is known; exact, no hashing."""
        return self.by_head.contains(heads * self.num_relations + relations, tails)

    def bernoulli_tail_share(self) -> NDArray[np.float64]:
        """Return (R,) the probability to corrupt the tail of a triple of each relation.

        P = hpt / (hpt + tph), with hpt the triples per distinct tail and tph the triples per distinct head of
        the relation. Both have the relation's number of triples on top, so P = heads / (heads + tails),
        counted distinct. A relation without triples has 0.5.

        Source: Wang et al., TransH (AAAI 2014), "Reducing false negative labels"; SNAG's released sampler.
        """
        num_heads = self.by_head.count_by_relation(self.num_relations)
        num_tails = self.by_tail.count_by_relation(self.num_relations)
        total = num_heads + num_tails
        share = np.full(self.num_relations, 0.5, dtype=np.float64)
        np.divide(num_heads, total, out=share, where=total > 0)
        return share


def refuse_foreign(triples: Ids, num_entities: int, num_relations: int, first: int = 0) -> None:
    """Refuse triples that are not of the graph.

    Args:
        triples: (T, 3) int64, columns head, relation, tail.
        num_entities: E.
        num_relations: R.
        first: number of the first of them, for the message.

    Raises:
        DataError: an id is out of range.
    """
    bad = find_bad_id(triples, num_entities, num_relations)
    if bad is not None:
        row, column = bad
        raise DataError(
            f"triple {first + row}: {COLUMNS[column]} id {triples[row, column]} is not in the graph of "
            f"{num_entities} entities and {num_relations} relations; build the index from its own triples"
        )


def _offsets(lengths: Ids) -> Ids:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
