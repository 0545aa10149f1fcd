"""A worker's step against all entities, next to encoding everything at once and torch's own cross-entropy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig, ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.model.scorer import ComplExConfig
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.objective.cubes import CubePenaltyConfig
from snag_dist.random import Moment
from snag_dist.shard.exchange import Consultation
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable, InitialRows, LazyAdamConfig
from snag_dist.task.completion import CompletionBatch, CompletionTask, assemble
from snag_dist.training.all_entities import DistributedAllEntities
from snag_dist.training.step import StepInputs, Stopwatch, gather_features

NUM_ENTITIES, NUM_RELATIONS, WIDTH, TEXT = 40, 3, 8, 5
MOMENT = Moment(1, 0, 3)


class ArrayFeatures:
    """Feature rows from an array, in the place of the mapped ones."""

    def __init__(self, vectors: np.ndarray, present: np.ndarray):
        self._vectors, self._present = vectors, present

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._vectors[rows], self._present[rows]


@dataclass
class Place:
    """A graph, a task on it, and a step of it."""

    task: CompletionTask
    module: DistributedAllEntities
    table: EntityTable
    features: Any
    statistics: ColumnStatistics
    batch: CompletionBatch
    triples: np.ndarray
    positives: np.ndarray

    def step(self, moment: Moment) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, ids of the rows that learn, and their gradient."""
        plan = Consultation(self.module.meet(self.batch, moment)).conclude()
        rows = self.table.lookup(plan.rows)
        features, present = gather_features(plan.encode, self.features, rows.device)
        report = self.module(plan, StepInputs(rows, features, present, self.statistics), self.batch, moment)
        self.task.zero_grad()
        report.loss.backward()
        assert rows.grad is not None
        return report.loss.detach(), plan.rows, rows.grad

    def encode(self, rows: Tensor, moment: Moment) -> Tensor:
        """Codes of all entities at once."""
        ids = torch.arange(NUM_ENTITIES)
        vectors, present = gather_features(ids, self.features, rows.device)
        return self.task.codes(EntityInputs(ids, rows, vectors, present, self.statistics), moment)

    def plain_loss(self, codes: Tensor, candidates: Tensor, loss: AllEntitiesConfig) -> Tensor:
        """The same by full logits (Q, E), a mask and cross-entropy, with N3 where the task has it."""
        costs: list[Tensor] = []
        for head, relation, tail in self.positives:
            for known, answer, find_tail in ((head, tail, True), (tail, head, False)):
                query = self.task.queries(codes[[known]], torch.tensor([relation]), torch.tensor([find_tail]))
                logits = self.task.scorer.score(query, candidates)[0]
                kept = np.ones(NUM_ENTITIES, dtype=bool)
                if loss.mask_known:
                    side, other = (0, 2) if find_tail else (2, 0)
                    same = (self.triples[:, side] == known) & (self.triples[:, 1] == relation)
                    kept[self.triples[same, other]] = False
                kept[answer] = True
                target = torch.tensor(kept[:answer].sum())
                costs.append(
                    functional.cross_entropy(logits[kept], target, label_smoothing=loss.label_smoothing)
                    + self.task.penalise(
                        codes[[known]], torch.tensor([relation]), torch.tensor([find_tail]), codes[[answer]]
                    ).loss
                )
        return torch.stack(costs).mean()


def make(loss: AllEntitiesConfig, **method: Any) -> Place:
    draw = np.random.default_rng(0)
    triples = np.stack([draw.integers(0, n, 300) for n in (12, NUM_RELATIONS, NUM_ENTITIES)], axis=1)
    triples = np.unique(triples, axis=0)
    vectors = draw.standard_normal((NUM_ENTITIES, TEXT)).astype(np.float32)
    features = {"text": ArrayFeatures(vectors, draw.random(NUM_ENTITIES) < 0.8)}
    columns = ColumnStatistics(torch.from_numpy(vectors.mean(0)), torch.from_numpy(vectors.std(0)))
    config = SnagConfig(encoder=EncoderConfig(width=WIDTH), loss=loss, **method)
    task = config.build_completion(GraphFacts(NUM_ENTITIES, NUM_RELATIONS, {"text": ModalityFacts(TEXT, columns)}), 1)
    task = task.double()
    group, partition = Group(), Partition(NUM_ENTITIES, 4, 1)
    start = InitialRows("uniform", task.scorer.entity_bound)
    table = EntityTable(LazyAdamConfig(), partition, group, width=WIDTH, start=start, seed=1, dtype=torch.float64)
    module = DistributedAllEntities(task, loss, table, features, partition, group, Stopwatch(group.device))  # type: ignore[arg-type]
    sampler = config.build_sampler(TruthIndex.build(triples, NUM_ENTITIES, NUM_RELATIONS))
    positives = triples[::17]
    batch = assemble(sampler.draw(positives, 0, MOMENT), len(positives))
    assert batch.blocks == ()
    return Place(task, module, table, features, table.column_statistics(), batch, triples, positives)


COMPLEX_N3 = {"scorer": ComplExConfig(), "reciprocal": True, "penalty": CubePenaltyConfig(weight=0.1)}


# Nothing kept for the way back, some of it, everything.
BLOCKS = ({"block": 7, "kept_rows": 0, "kept_scores": 0}, {"block": 7, "kept_rows": 20, "kept_scores": 500}, {})


@pytest.mark.parametrize("blocks", BLOCKS, ids=["anew", "mixed", "kept"])
@pytest.mark.parametrize("mask_known", [False, True])
@pytest.mark.parametrize("method", [{}, COMPLEX_N3], ids=["rotate", "complex"])
def test_fresh_candidates_equal_the_full_logits(
    method: dict[str, Any], mask_known: bool, blocks: dict[str, Any]
) -> None:
    loss = AllEntitiesConfig(mask_known=mask_known, label_smoothing=0.1, **blocks)
    place = make(loss, **method)
    rows = place.table.rows.clone().requires_grad_()
    codes = place.encode(rows, MOMENT)
    expected = place.plain_loss(codes, codes, loss)
    parameters = list(place.task.parameters())
    wanted = torch.autograd.grad(expected, [rows, *parameters])
    found, ids, grad = place.step(MOMENT)
    torch.testing.assert_close(found, expected.detach())
    assert ids.tolist() == list(range(NUM_ENTITIES))
    torch.testing.assert_close(grad, wanted[0])
    for parameter, want in zip(parameters, wanted[1:], strict=True):
        torch.testing.assert_close(parameter.grad, want)


def test_cached_candidates_are_constants_but_for_the_batch() -> None:
    loss = AllEntitiesConfig(block=7, candidates="cached", refresh_every=4)
    place = make(loss)
    rows = place.table.rows.clone().requires_grad_()
    codes = place.encode(rows, MOMENT)
    own = place.batch.entities
    assert len(own) < NUM_ENTITIES
    candidates = codes.detach().index_copy(0, own, codes[own])
    expected = place.plain_loss(codes, candidates, loss)
    wanted = torch.autograd.grad(expected, rows)[0]
    found, ids, grad = place.step(MOMENT)
    torch.testing.assert_close(found, expected.detach())
    assert ids.tolist() == own.tolist()
    torch.testing.assert_close(grad, wanted[own])


def test_cached_codes_are_made_anew_after_some_steps_and_with_an_epoch() -> None:
    place = make(AllEntitiesConfig(candidates="cached", refresh_every=4), noise={"kind": "none"})
    begun = place.step(MOMENT)[0]
    absent = np.setdiff1d(np.arange(NUM_ENTITIES), place.batch.entities)
    place.table.rows[absent] += 3.0
    held = [place.step(Moment(1, 0, step))[0] for step in (4, 5, 6)]
    # Dropout is drawn anew with a step, so held losses differ a little; what rows moved by would be seen at once.
    moved = make(AllEntitiesConfig(), noise={"kind": "none"})
    moved.table.rows[absent] += 3.0
    for step, loss in zip((4, 5, 6), held, strict=True):
        assert abs(loss - begun) < 0.5 * abs(moved.step(Moment(1, 0, step))[0] - begun)
    torch.testing.assert_close(place.step(Moment(1, 0, 7))[0], moved.step(Moment(1, 0, 7))[0])
    place.table.rows[absent] -= 3.0
    moved.table.rows[absent] -= 3.0
    torch.testing.assert_close(place.step(Moment(1, 1, 8))[0], moved.step(Moment(1, 1, 8))[0])
    # A run that goes on from a checkpoint has no cache, so one that took it lets go of its own.
    place.table.rows[absent] += 3.0
    moved.table.rows[absent] += 3.0
    place.module.forget_cache()
    torch.testing.assert_close(place.step(Moment(1, 1, 9))[0], moved.step(Moment(1, 1, 9))[0])


@pytest.mark.parametrize(("kept_rows", "num_encoded"), [(0, 80), (13, 68), (1000, 40)])
def test_no_more_than_a_block_is_encoded_at_a_time(
    kept_rows: int, num_encoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make(AllEntitiesConfig(block=6, kept_rows=kept_rows))
    sizes: list[int] = []
    encode = place.task.encoder.codes

    def counted(inputs: EntityInputs, seed: int, moment: Moment) -> Tensor:
        sizes.append(len(inputs.ids))
        return encode(inputs, seed, moment)

    monkeypatch.setattr(place.task.encoder, "codes", counted)
    place.step(MOMENT)
    # There and back, but for whole blocks that are kept.
    assert max(sizes) == 6
    assert sum(sizes) == num_encoded


def test_memory_is_that_of_a_block_and_what_is_kept() -> None:
    """Bytes that autograd keeps for the backward pass, of the encoder's inner values and of scores."""

    def kept_bytes(**settings: Any) -> int:
        place = make(AllEntitiesConfig(block=6, **settings))
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        plan = Consultation(place.module.meet(place.batch, MOMENT)).conclude()
        rows = place.table.lookup(plan.rows)
        features, present = gather_features(plan.encode, place.features, rows.device)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            place.module(plan, StepInputs(rows, features, present, place.statistics), place.batch, MOMENT)
        return total

    nothing, whole = kept_bytes(kept_rows=0, kept_scores=0), kept_bytes(kept_rows=1000, kept_scores=0)
    two_blocks = kept_bytes(kept_rows=12, kept_scores=0)
    # Of 40 rows in blocks of 6, twelve.
    assert two_blocks - nothing == pytest.approx((whole - nothing) * 12 / 40, rel=0.1)
