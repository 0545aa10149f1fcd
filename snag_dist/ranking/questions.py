"""What a ranking asks: the tail and the head of every triple, each distinct question once.

Triples that share (head, relation) ask the same question and differ in the answer whose rank is wanted. The
scores of all candidates depend on the question alone, so they are computed once: DB15K's test split has
19,804 queries and 14,303 questions, FB15k-237's 40,932 and 22,850.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.truth import Ragged

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Questions:
    """N distinct questions, in ascending order of (head is asked before tail, known entity, relation).

    Attributes:
        known: (N,) the given entity: the head where the tail is asked for, else the tail.
        relation: (N,).
        find_tail: (N,) what is asked for.
        answers: N lists, Q answers in all, the other entity of each triple; a repeated triple is there twice.
    """

    known: Ids
    relation: Ids
    find_tail: Flags
    answers: Ragged

    @classmethod
    def of(cls, triples: Ids) -> "Questions":
        """Ask for both sides of every triple.

        Args:
            triples: (T, 3) int64, columns head, relation, tail.

        Returns:
            Questions with Q = 2 T answers.
        """
        heads, relations, tails = triples[:, 0], triples[:, 1], triples[:, 2]
        known = np.concatenate([tails, heads])
        relation = np.concatenate([relations, relations])
        find_tail = np.arange(2 * len(triples)) >= len(triples)
        answer = np.concatenate([heads, tails])
        order = np.lexsort((answer, relation, known, find_tail))
        known, relation, find_tail = known[order], relation[order], find_tail[order]
        differs = (np.diff(known) != 0) | (np.diff(relation) != 0) | (np.diff(find_tail.view(np.int8)) != 0)
        first = np.concatenate([np.zeros(min(1, len(known)), dtype=np.int64), np.flatnonzero(differs) + 1])
        offsets = np.concatenate([first, np.array([len(known)], dtype=np.int64)])
        return cls(known[first], relation[first], find_tail[first], Ragged(offsets, answer[order]))

    def __len__(self) -> int:
        return len(self.known)

    @property
    def num_queries(self) -> int:
        """Q: answers over all questions."""
        return len(self.answers.values)

    def part(self, start: int, stop: int) -> "Questions":
        """Return questions [start, stop)."""
        offsets = self.answers.offsets[start : stop + 1]
        answers = Ragged(offsets - offsets[0], self.answers.values[offsets[0] : offsets[-1]])
        return Questions(self.known[start:stop], self.relation[start:stop], self.find_tail[start:stop], answers)

    def triples(self) -> Ids:
        """Return (Q, 3) the triple behind every answer, question after question."""
        question = self.answers.queries()
        known, answer = self.known[question], self.answers.values
        find_tail = self.find_tail[question]
        heads, tails = np.where(find_tail, known, answer), np.where(find_tail, answer, known)
        return np.stack([heads, self.relation[question], tails], axis=1)

    def describe(self, question: int) -> str:
        """Name a question in words, for a message."""
        known, relation = self.known[question], self.relation[question]
        head, tail = (f"row {known}", "?") if self.find_tail[question] else ("?", f"row {known}")
        return f"question (head {head}, relation {relation}, tail {tail})"
