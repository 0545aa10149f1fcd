"""Knowledge-graph completion (MKGC): true triples must score above triples with a replaced head or tail.

The task is split where the network of workers lies: `encode` runs at the owner of the entities, `loss` at the worker
that has the triples; the codes travel in between.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from snag_dist.errors import ConfigError
from snag_dist.model.encoder import Encoder
from snag_dist.model.features import EntityInputs
from snag_dist.model.fusion import Fused
from snag_dist.model.scorer import Factorisation, Scorer
from snag_dist.objective.all_entities import AllEntitiesLoss, AllScores
from snag_dist.objective.cubes import CubePenalty
from snag_dist.objective.losses import LossReport, RankingLoss
from snag_dist.objective.score_statistics import Excluded
from snag_dist.random import Moment, Stream
from snag_dist.sampling.negatives import CorruptedTriples


@dataclass(frozen=True)
class CandidateBlock:
    """Candidates of queries [start, stop), as positions among the batch's entities.

    Attributes:
        start, stop: queries covered, q of them.
        index: (K,) shared or (q, K) own, int64 positions in the entities of the batch.
        excluded: (q, K) bool.
    """

    start: int
    stop: int
    index: Tensor
    excluded: Tensor


@dataclass(frozen=True)
class CompletionBatch:
    """A slice of a batch, with entities named once.

    Attributes:
        entities: (N,) distinct row ids, ascending.
        known: (Q,) position of the given entity of each query.
        answer: (Q,) position of the true answer.
        relations: (Q,) relation ids.
        find_tail: (Q,) bool.
        blocks: candidates, covering the queries in order.
        share: weight of this slice's summed loss, 1 / (queries of the global batch).
        excluded: pairs of query and row id that a loss over all entities leaves out; on the host, like `entities`.
    """

    entities: Tensor
    known: Tensor
    answer: Tensor
    relations: Tensor
    find_tail: Tensor
    blocks: tuple[CandidateBlock, ...]
    share: float
    excluded: Excluded | None = None

    def to(self, device: torch.device) -> "CompletionBatch":
        """Return the batch on a device; what the exchange routes from the host stays."""
        if device.type == "cpu":
            return self

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        blocks = tuple(CandidateBlock(b.start, b.stop, move(b.index), move(b.excluded)) for b in self.blocks)
        return CompletionBatch(
            self.entities,
            move(self.known),
            move(self.answer),
            move(self.relations),
            move(self.find_tail),
            blocks,
            self.share,
            self.excluded,
        )


def assemble(corrupted: CorruptedTriples, global_triples: int) -> CompletionBatch:
    """Name the distinct entities of a corrupted slice and point at them.

    Args:
        corrupted: this worker's slice, which may be empty.
        global_triples: triples in the global batch, over all workers.
    """
    heads, tails = corrupted.positives[:, 0], corrupted.positives[:, 2]
    parts = [heads, tails, *(block.ids.reshape(-1) for block in corrupted.negatives)]
    entities, positions = np.unique(np.concatenate(parts), return_inverse=True)
    pieces = np.split(positions, np.cumsum([len(part) for part in parts])[:-1])
    head_position, tail_position = pieces[0][corrupted.triple], pieces[1][corrupted.triple]
    blocks = tuple(
        CandidateBlock(
            block.start,
            block.stop,
            torch.as_tensor(piece.reshape(block.ids.shape)),
            torch.as_tensor(block.excluded),
        )
        for block, piece in zip(corrupted.negatives, pieces[2:], strict=True)
    )
    queries_per_triple = len(corrupted.triple) / max(1, len(corrupted.positives))
    return CompletionBatch(
        entities=torch.as_tensor(entities),
        known=torch.as_tensor(np.where(corrupted.find_tail, head_position, tail_position)),
        answer=torch.as_tensor(np.where(corrupted.find_tail, tail_position, head_position)),
        relations=torch.as_tensor(corrupted.positives[corrupted.triple, 1]),
        find_tail=torch.as_tensor(corrupted.find_tail),
        blocks=blocks,
        share=1.0 / (global_triples * max(1.0, queries_per_triple)),
        excluded=_exclude_known(corrupted),
    )


def _exclude_known(corrupted: CorruptedTriples) -> Excluded | None:
    # All known answers but the query's own, ascending by row.
    if corrupted.known is None:
        return None
    queries, rows = corrupted.known.queries(), corrupted.known.values
    triples = corrupted.positives[corrupted.triple]
    answers = np.where(corrupted.find_tail, triples[:, 2], triples[:, 0])
    others = (rows != answers[queries]).nonzero()[0]
    ascending = others[np.argsort(rows[others], kind="stable")]
    return Excluded(torch.as_tensor(queries[ascending]), torch.as_tensor(rows[ascending]))


class CompletionTask(nn.Module):
    """Encoder, relation rows, scorer and loss of MKGC. The entity rows live outside, in the sharded table.

    Args:
        num_relations: R.
        seed: of the run.
        reciprocal: every relation r has an inverse, row R + r, and the head of (?, r, t) is asked for as the tail of
            (t, R + r, ?), in training and ranking alike. Source: Lacroix et al., ICML 2018.
        penalty: on the factors of the score.

    Raises:
        ConfigError: the penalty does not go with the scorer.
    """

    def __init__(
        self,
        encoder: Encoder,
        scorer: Scorer,
        loss: RankingLoss | AllEntitiesLoss,
        num_relations: int,
        seed: int,
        *,
        reciprocal: bool = False,
        penalty: CubePenalty | None = None,
    ):
        super().__init__()
        if penalty is not None and not isinstance(scorer, Factorisation):
            raise ConfigError(
                "method.penalty: expected a scorer that multiplies codes coordinate by coordinate (complex, distmult), "
                f"got {type(scorer).__name__}; remove the penalty or set method.scorer.kind"
            )
        self.encoder = encoder
        self.scorer = scorer
        self.loss_function = loss
        self.penalty = penalty
        self._seed = seed
        self._num_inverted = num_relations if reciprocal else 0
        rows = torch.arange(num_relations + self._num_inverted)
        drawn = Stream(seed, "init/relations").uniform(rows, scorer.relation_width)
        self.relations = nn.Parameter((2.0 * drawn - 1.0) * scorer.relation_bound)

    def encode(self, inputs: EntityInputs, moment: Moment | None) -> Fused:
        """Encode entities at their owner; `moment` None means evaluation, without noise and dropout."""
        fused: Fused = self.encoder(inputs, self._seed, moment)
        return fused

    def codes(self, inputs: EntityInputs, moment: Moment) -> Tensor:
        """Codes (N, D) of entities at their owner, in training, where only they are asked for."""
        return self.encoder.codes(inputs, self._seed, moment)

    def queries(self, known: Tensor, relations: Tensor, find_tail: Tensor) -> Tensor:
        """Queries (Q, D) from codes (Q, D) of the given entities and relation ids (Q,)."""
        rows = self.relation_rows(relations, find_tail).to(known.dtype)
        if self._num_inverted:
            return self.scorer.tail_query(known, rows)
        return self.scorer.query(known, rows, find_tail)

    def relation_rows(self, relations: Tensor, find_tail: Tensor) -> Tensor:
        """Rows (Q, relation_width) of relation ids (Q,); the inverse ones where a head is sought and there are such."""
        inverted = (~find_tail).to(relations.dtype) * self._num_inverted
        return self.relations.index_select(0, relations + inverted)

    def penalise(self, known: Tensor, relations: Tensor, find_tail: Tensor, answers: Tensor) -> LossReport:
        """Penalty on true triples, summed over queries; zero without terms where the task has none.

        Args:
            known: (Q, D) codes of the given entities.
            relations: (Q,) ids.
            find_tail: (Q,) bool.
            answers: (Q, D) codes of the right answers.
        """
        if self.penalty is None or not isinstance(self.scorer, Factorisation):
            return LossReport(known.new_zeros(()))
        rows = self.relation_rows(relations, find_tail).to(known.dtype)
        cost: Tensor = self.penalty([self.scorer.moduli(factors) for factors in (known, rows, answers)])
        return LossReport(cost, {"n3": cost.detach()})

    def loss(self, codes: Tensor, batch: CompletionBatch) -> LossReport:
        """Cost of a slice, scaled so that the slices of all workers add up to the mean over the global batch.

        Args:
            codes: (N, D) of `batch.entities`.
            batch: with indices on the device of `codes`.
        """
        assert isinstance(self.loss_function, RankingLoss)
        known = codes.index_select(0, batch.known)
        queries = self.queries(known, batch.relations, batch.find_tail)
        true_scores = self.scorer.score_own(queries, codes, batch.answer.unsqueeze(1)).squeeze(1)
        penalty = self.penalise(known, batch.relations, batch.find_tail, codes.index_select(0, batch.answer))
        total = codes.sum() * 0.0 + penalty.loss
        terms: dict[str, Tensor] = dict(penalty.terms)
        for block in batch.blocks:
            part = queries[block.start : block.stop]
            if block.index.ndim == 1:
                false_scores = self.scorer.score(part, codes.index_select(0, block.index))
            else:
                false_scores = self.scorer.score_own(part, codes, block.index)
            report: LossReport = self.loss_function(true_scores[block.start : block.stop], false_scores, block.excluded)
            total = total + report.loss
            for name, term in report.terms.items():
                terms[name] = terms.get(name, torch.zeros_like(term)) + term
        return LossReport(total * batch.share, {name: term * batch.share for name, term in terms.items()})

    def loss_over_all(self, scores: AllScores, codes: Tensor, batch: CompletionBatch) -> LossReport:
        """Cost of a slice whose queries were scored with all entities, scaled as by `loss`.

        Args:
            scores: of the Q queries of the slice.
            codes: (N, D) of `batch.entities`, for the penalty.
            batch: with indices on the device of `codes`.
        """
        assert isinstance(self.loss_function, AllEntitiesLoss)
        report: LossReport = self.loss_function(scores)
        known, answers = codes.index_select(0, batch.known), codes.index_select(0, batch.answer)
        penalty = self.penalise(known, batch.relations, batch.find_tail, answers)
        terms = {**report.terms, **penalty.terms}
        loss = report.loss + penalty.loss
        return LossReport(loss * batch.share, {name: term * batch.share for name, term in terms.items()})
