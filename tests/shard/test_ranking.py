"""Exact ranks: by hand, against a plain ranking in numpy, and the same bits at every number of workers."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import NumericError, ResourceError, ShapeError
from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig
from snag_dist.model.scorer import ComplExConfig, RotatEConfig, Scorer, TransEConfig, TuckERConfig
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.questions import Questions
from snag_dist.ranking.ranks import RankTable
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.ranking import plan_blocks, rank_triples
from snag_dist.task.completion import CompletionTask

Ids = NDArray[np.int64]
WIDTH, NUM_ENTITIES, NUM_RELATIONS, SHARDS = 32, 203, 6, 8


class FirstColumn(Scorer):
    """A candidate's score is the first number of its code, whatever is asked."""

    relation_width, relation_bound, entity_bound = WIDTH // 2, 1.0, 1.0

    def tail_query(self, heads: Tensor, relations: Tensor) -> Tensor:
        return heads

    def head_query(self, relations: Tensor, tails: Tensor) -> Tensor:
        return tails

    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        return candidates[:, 0].expand(len(queries), len(candidates))

    def score_own(self, queries: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        return candidates[:, 0][index]


class Product(FirstColumn):
    """An inner product: matrix products round differently in other shapes, which the tiles must keep away."""

    def score(self, queries: Tensor, candidates: Tensor) -> Tensor:
        return queries @ candidates.T


# Scorers that multiply matrices, for queries (tucker) or scores (the others); the whole method each belongs to.
METHODS: dict[str, dict[str, Any]] = {
    "rotate": {},
    "frobenius": {"scorer": RotatEConfig(norm="frobenius")},
    "transe_l2": {"scorer": TransEConfig(norm="l2")},
    "tucker": {"scorer": TuckERConfig(relation_width=4)},
    "complex": {"scorer": ComplExConfig(), "reciprocal": True},
}


def make_task(
    num_relations: int = NUM_RELATIONS, scorer: Scorer | None = None, method: str = "rotate"
) -> CompletionTask:
    facts = GraphFacts(NUM_ENTITIES, num_relations, {})
    task = SnagConfig(encoder=EncoderConfig(width=WIDTH), **METHODS[method]).build_completion(facts, seed=1)
    if scorer is not None:
        task.scorer = scorer
    return task


def draw_graph() -> tuple[Ids, Ids]:
    """Known-true triples (many share a question), and those of them that are ranked."""
    draw = np.random.default_rng(0)
    columns = [draw.integers(0, limit, 900) for limit in (40, NUM_RELATIONS, NUM_ENTITIES)]
    known = np.unique(np.stack(columns, axis=1), axis=0)
    return known, draw.permutation(known)[:150]


def draw_codes(dtype: torch.dtype = torch.float32) -> Tensor:
    codes = torch.randn(NUM_ENTITIES, WIDTH, generator=torch.Generator().manual_seed(2), dtype=dtype)
    # Twins: rows 150 to 199 repeat rows 0 to 49, on other workers, so every one of these answers has one equal.
    codes[150:200] = codes[:50]
    return codes


def rank(triples: Ids, known: Ids, codes: Tensor, group: Group | None = None, **options: Any) -> RankTable:
    """Rank on one worker of a group, which owns its rows of `codes` (E, D)."""
    group = group or Group()
    partition = Partition(len(codes), min(SHARDS, len(codes)), group.size)
    first, last = partition.rows(group.rank)
    settings: dict[str, Any] = {"task": make_task(), "budget_bytes": 1 << 30, **options}
    truth = TruthIndex.build(known, len(codes), max(NUM_RELATIONS, int(known[:, 1].max(initial=0)) + 1))
    return rank_triples(triples, codes=codes[first:last], truth=truth, partition=partition, group=group, **settings)


def columns_of(table: RankTable) -> list[list[int]]:
    fields = (table.head, table.relation, table.tail, table.find_tail, table.better, table.equal)
    return [np.asarray(field).tolist() for field in fields]


def plain_ranks(triples: Ids, known: Ids, codes: NDArray[np.float64], phases: NDArray[np.float64]) -> dict[Any, Any]:
    """RotatE's filtered counts one query at a time, in complex numbers: (head, relation, tail, find_tail) to counts."""
    vectors = codes[:, : WIDTH // 2] + 1j * codes[:, WIDTH // 2 :]
    true = {tuple(triple) for triple in known.tolist()}
    counts: dict[Any, Any] = {}
    for head, relation, tail in triples.tolist():
        turned = vectors[head] * np.exp(1j * phases[relation])
        scores = -np.abs(turned - vectors).sum(axis=1)
        rivals = [e for e in range(len(vectors)) if e != tail and (head, relation, e) not in true]
        counts[head, relation, tail, True] = int((scores[rivals] > scores[tail]).sum())
        scores = -np.abs(vectors * np.exp(1j * phases[relation]) - vectors[tail]).sum(axis=1)
        rivals = [e for e in range(len(vectors)) if e != head and (e, relation, tail) not in true]
        counts[head, relation, tail, False] = int((scores[rivals] > scores[head]).sum())
    return counts


def test_three_entities_by_hand() -> None:
    # Scores by entity: 1, 2, 1. Query (0, r, ?) with answer 2: entity 1 is better, entity 0 ties.
    codes = torch.tensor([[1.0], [2.0], [1.0]]).repeat(1, WIDTH)
    triples = np.array([[0, 0, 2]], dtype=np.int64)
    alone = rank(triples, triples, codes, task=make_task(scorer=FirstColumn()))
    # In the order of the questions: (?, r, 2) with answer 0, then (0, r, ?) with answer 2.
    assert columns_of(alone) == [[0, 0], [0, 0], [2, 2], [False, True], [1, 1], [1, 1]]
    # With (0, r, 1) known as well, the better candidate for the tail falls away.
    known = np.array([[0, 0, 2], [0, 0, 1]], dtype=np.int64)
    filtered = rank(triples, known, codes, task=make_task(scorer=FirstColumn()))
    assert (filtered.better.tolist(), filtered.equal.tolist()) == ([1, 0], [1, 1])
    assert filtered.realistic.tolist() == [2.5, 1.5]


def test_constant_scores_stand_in_the_middle() -> None:
    triples = draw_graph()[1]
    ranks = rank(triples, triples[:0], torch.ones(NUM_ENTITIES, WIDTH), task=make_task(scorer=FirstColumn()))
    assert set(ranks.realistic.tolist()) == {(NUM_ENTITIES + 1) / 2}
    assert RankMetrics.of(ranks).mrr == pytest.approx(2 / (NUM_ENTITIES + 1))
    assert RankMetrics.of(ranks).optimistic.mrr == 1.0


@pytest.mark.parametrize("code_dtype", [torch.float32, torch.float64])
def test_equals_a_plain_ranking_in_double(code_dtype: torch.dtype) -> None:
    known, triples = draw_graph()
    codes = draw_codes(code_dtype)
    task = make_task()
    phases = task.relations.detach().double().numpy() * np.pi / task.scorer.relation_bound
    expected = plain_ranks(triples, known, codes.double().numpy(), phases)
    ranks = rank(triples, known, codes, task=task, dtype=torch.float64)
    assert len(ranks) == len(expected) == 2 * len(triples)
    found = dict(zip(zip(*columns_of(ranks)[:4], strict=True), ranks.better.tolist(), strict=True))
    assert found == expected
    mrr = np.mean([1 / (better + 1) for better in expected.values()])
    assert RankMetrics.of(ranks).optimistic.mrr == pytest.approx(mrr, abs=1e-9)


def test_equal_codes_tie() -> None:
    triples = draw_graph()[1]
    ranks = rank(triples, triples[:0], draw_codes())
    twins = (ranks.answer < 50) | ((ranks.answer >= 150) & (ranks.answer < 200))
    assert ranks.equal.tolist() == twins.astype(int).tolist()
    assert 0 < twins.sum() < len(ranks)


def test_reciprocal_relations_rank_heads_as_tails_of_the_inverse() -> None:
    """The same ranks as a plain task over twice the relations that is asked for the tails of inverted triples."""
    known, triples = draw_graph()
    found = rank(triples, known, draw_codes(), task=make_task(method="complex"))
    facts = GraphFacts(NUM_ENTITIES, 2 * NUM_RELATIONS, {})
    plain = SnagConfig(encoder=EncoderConfig(width=WIDTH), scorer=ComplExConfig()).build_completion(facts, seed=1)

    def invert(rows: Ids) -> Ids:
        return rows[:, ::-1] + np.array([0, NUM_RELATIONS, 0])

    both = np.concatenate([known, invert(known)])
    expected = rank(np.concatenate([triples, invert(triples)]), both, draw_codes(), task=plain)
    tails = {row[:3]: row[4:] for row in zip(*columns_of(expected), strict=True) if row[3]}
    for head, relation, tail, find_tail, *counts in zip(*columns_of(found), strict=True):
        triple = (head, relation, tail) if find_tail else (tail, relation + NUM_RELATIONS, head)
        assert tails[triple] == tuple(counts)


def test_a_repeated_triple_is_ranked_as_often() -> None:
    known, triples = draw_graph()
    once, twice = (rank(part, known, draw_codes()) for part in (triples[:1], triples[[0, 0]]))
    assert twice.better.tolist() == np.repeat(once.better, 2).tolist()
    assert len(twice) == 4


def test_blocks_cover_the_questions_and_a_stopped_ranking_resumes() -> None:
    known, triples = draw_graph()
    blocks: list[tuple[int, int, RankTable]] = []
    budget = NUM_ENTITIES * 4 * 40  # 32 questions a block, in calls of 32
    whole = rank(triples, known, draw_codes(), budget_bytes=budget, on_block=lambda *block: blocks.append(block))
    edges = [0, *range(32, len(Questions.of(triples)), 32), len(Questions.of(triples))]
    assert [block[:2] for block in blocks] == list(pairwise(edges))
    assert columns_of(RankTable.concatenate([block[2] for block in blocks])) == columns_of(whole)
    # Goes on with a budget of other blocks, from an edge of the first.
    rest = rank(triples, known, draw_codes(), budget_bytes=NUM_ENTITIES * 4 * 80, start=32)
    joined = RankTable.concatenate([blocks[0][2], rest])
    assert columns_of(joined) == columns_of(whole)
    assert len(rank(triples, known, draw_codes(), start=edges[-1])) == 0


def test_blocks_planned_from_a_budget() -> None:
    # 1000 rows of 4 bytes: 100 questions alone, so calls of 64; the largest of 3 workers has 375 rows.
    budget = 1000 * 4 * 100
    assert plan_blocks(Partition(1000, 8, 1), torch.float32, budget) == (64, 64)
    assert plan_blocks(Partition(1000, 8, 3), torch.float32, budget) == (256, 64)
    assert plan_blocks(Partition(1000, 8, 1), torch.float64, budget) == (32, 32)
    # Room for 5 questions: fewer than the smallest call, so a power of two below.
    assert plan_blocks(Partition(1000, 8, 1), torch.float32, 1000 * 4 * 5) == (4, 4)
    assert plan_blocks(Partition(1000, 8, 8), torch.float32, 1000 * 4 * 5) == (32, 16)
    assert plan_blocks(Partition(10, 8, 1), torch.float32, 1 << 20) == (25 * 1024, 1024)


def test_a_budget_without_room_for_one_question_is_refused() -> None:
    known, triples = draw_graph()
    with pytest.raises(ResourceError, match=r"at least 812 bytes, the scores of one question.*got 811; raise"):
        rank(triples, known, draw_codes(), budget_bytes=811)


def test_codes_of_other_rows_are_refused() -> None:
    known, triples = draw_graph()
    partition = Partition(NUM_ENTITIES, SHARDS, 2)
    truth = TruthIndex.build(known, NUM_ENTITIES, NUM_RELATIONS)
    with pytest.raises(ShapeError, match="codes"):
        rank_triples(
            triples,
            codes=draw_codes(),
            task=make_task(),
            truth=truth,
            partition=partition,
            group=Group(0, 2),
            budget_bytes=1 << 20,
        )


def test_nan_is_an_error_that_names_the_question() -> None:
    known, triples = draw_graph()
    codes = draw_codes()
    codes[77, 3] = torch.nan
    with pytest.raises(NumericError, match=r"ranking, question \(head \?, relation \d+, tail row \d+\): .*NaN"):
        rank(triples, known, codes)


def rank_on_workers(group: Group) -> dict[str, Any]:
    """What one worker of a group finds; a NaN lies on the last worker only."""
    known, triples = draw_graph()
    codes = draw_codes()
    budget = NUM_ENTITIES * 4 * 20  # calls of 16 questions, blocks of 16 to 64 depending on the workers
    found: dict[str, Any] = {}
    tasks = {name: make_task(method=name) for name in METHODS} | {"product": make_task(scorer=Product())}
    for name, task in tasks.items():
        found[name] = columns_of(rank(triples, known, codes, group, task=task, budget_bytes=budget))
    broken = codes.clone()
    broken[-1] = torch.nan
    try:
        rank(triples, known, broken, group, budget_bytes=budget)
    except NumericError as error:
        found["error"] = str(error)
    return found


@pytest.fixture(scope="module")
def runs() -> dict[int, list[dict[str, Any]]]:
    return {1: [rank_on_workers(Group())]} | {size: run_distributed(rank_on_workers, size) for size in (2, 4)}


@pytest.mark.distributed
@pytest.mark.parametrize("scorer", [*METHODS, "product"])
def test_ranks_are_equal_at_every_number_of_workers(runs: dict[int, list[dict[str, Any]]], scorer: str) -> None:
    reference = runs[1][0][scorer]
    assert sum(reference[5]) > 0 or scorer != "rotate"
    assert len(set(reference[4])) > 50
    for size in (2, 4):
        for worker in runs[size]:
            assert worker[scorer] == reference


@pytest.mark.distributed
def test_nan_on_one_worker_is_the_same_error_on_all(runs: dict[int, list[dict[str, Any]]]) -> None:
    for size in (2, 4):
        messages = {worker["error"] for worker in runs[size]}
        assert len(messages) == 1
        assert "NaN" in messages.pop()


def read_published(folder: Path, split: str) -> Ids:
    lines = np.loadtxt(folder / f"{split}2id.txt", skiprows=1, dtype=np.int64)
    return lines[:, [0, 2, 1]]


@pytest.mark.data
@pytest.mark.parametrize(("name", "num_entities"), [("MKG-W", 15000), ("DB15K", 12842)])
def test_score_minus_id_ranks_as_counted_by_hand(data_root: Path, name: str, num_entities: int) -> None:
    """The published golden ranking: with score = -id, the rank is the id less the known-true ids below it, plus one."""
    splits = {split: read_published(data_root / name, split) for split in ("train", "valid", "test")}
    known = np.concatenate(list(splits.values()))
    tails, heads = defaultdict(set), defaultdict(set)
    for head, relation, tail in known.tolist():
        tails[head, relation].add(tail)
        heads[relation, tail].add(head)
    expected = {}
    for head, relation, tail in splits["test"].tolist():
        expected[head, relation, tail, True] = tail - sum(other < tail for other in tails[head, relation]) + 1
        expected[head, relation, tail, False] = head - sum(other < head for other in heads[relation, tail]) + 1
    codes = -torch.arange(num_entities, dtype=torch.float32).unsqueeze(1).repeat(1, WIDTH)
    task = make_task(int(known[:, 1].max()) + 1, FirstColumn())
    ranks = rank(splits["test"], known, codes, task=task, budget_bytes=64 << 20)
    assert not ranks.equal.any()
    found = dict(zip(zip(*columns_of(ranks)[:4], strict=True), ranks.optimistic.tolist(), strict=True))
    assert found == expected
