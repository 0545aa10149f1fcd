"""Ranks with a first pass in a coarser format are those of the exact path, for codes chosen against it."""

from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed
from numpy.typing import NDArray
from scorer_variants import variants
from torch import Tensor

from snag_dist.errors import ConfigError, NumericError
from snag_dist.kg.truth import TruthIndex
from snag_dist.method.facts import GraphFacts
from snag_dist.method.snag import SnagConfig
from snag_dist.model.encoder import EncoderConfig
from snag_dist.ranking.ranks import RankTable
from snag_dist.shard.block_ranking import BlockRanker
from snag_dist.shard.group import Group
from snag_dist.shard.mixed_calls import score_single
from snag_dist.shard.partition import Partition
from snag_dist.shard.ranking import rank_triples
from snag_dist.task.completion import CompletionTask

Ids = NDArray[np.int64]
WIDTH, NUM_ENTITIES, NUM_RELATIONS, SHARDS = 32, 403, 6, 8
CONFIGS = variants()
BOUNDED = [name for name, config in CONFIGS.items() if config.build(WIDTH).rounding is not None]
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def make_task(name: str) -> CompletionTask:
    config = SnagConfig(encoder=EncoderConfig(width=WIDTH), scorer=CONFIGS[name])
    torch.manual_seed(4)
    return config.build_completion(GraphFacts(NUM_ENTITIES, NUM_RELATIONS, {}), seed=1)


def passes(name: str) -> list[tuple[str, str]]:
    """(precision, first pass) of a scorer."""
    rounding = CONFIGS[name].build(WIDTH).rounding
    offered = [name for name, dtype in FORMATS.items() if dtype in rounding.first_passes]
    return [(exact, coarse) for exact in ("float32", "float64") for coarse in offered if coarse != exact]


CASES = [(name, *formats) for name in BOUNDED for formats in passes(name)]


def draw_graph() -> tuple[Ids, Ids]:
    """Known-true triples, and those of them that are ranked; several share a question."""
    draw = np.random.default_rng(0)
    columns = [draw.integers(0, limit, 900) for limit in (40, NUM_RELATIONS, NUM_ENTITIES)]
    known = np.unique(np.stack(columns, axis=1), axis=0)
    return known, draw.permutation(known)[:150]


def draw_codes() -> dict[str, Tensor]:
    """Codes by what is hard about them."""
    codes = torch.randn(NUM_ENTITIES, WIDTH, generator=torch.Generator().manual_seed(2))
    twins, near, uneven, lone = (codes.clone() for _ in range(4))
    twins[200:400] = codes[:200]
    # One step of float32 apart in a coordinate, up or down, so that scores differ in their last bits or not at all.
    near[200:400] = codes[:200]
    near[200:300, 0] = torch.nextafter(codes[:100, 0], torch.tensor(torch.inf))
    near[300:400, 1] = torch.nextafter(codes[100:200, 1], torch.tensor(-torch.inf))
    uneven *= 2.0 ** torch.randint(-12, 12, (NUM_ENTITIES, 1), generator=torch.Generator().manual_seed(3))
    lone[77] *= 1e25
    return {
        "drawn": codes,
        "twins": twins,
        "near ties": near,
        "uneven norms": uneven,
        "large": codes * 1e9,
        "denormal": codes * 1e-40,
        "zero": torch.zeros_like(codes),
        "constant": codes[:1].repeat(NUM_ENTITIES, 1),
        "a row whose square overflows": lone,
    }


def rank(codes: Tensor, task: CompletionTask, precision: str, first_pass: str = "", group: Group | None = None) -> Any:
    group = group or Group()
    known, triples = draw_graph()
    partition = Partition(len(codes), SHARDS, group.size)
    first, last = partition.rows(group.rank)
    return rank_triples(
        triples,
        codes=codes[first:last],
        task=task,
        truth=TruthIndex.build(known, len(codes), NUM_RELATIONS),
        partition=partition,
        group=group,
        budget_bytes=NUM_ENTITIES * 8 * 70,
        dtype=FORMATS[precision],
        first_pass=FORMATS.get(first_pass),
    )


def counts(table: RankTable) -> list[list[int]]:
    return [table.better.tolist(), table.equal.tolist()]


@pytest.mark.parametrize(("name", "precision", "first_pass"), CASES)
@pytest.mark.parametrize("kind", draw_codes())
def test_counts_are_those_of_the_exact_path(name: str, precision: str, first_pass: str, kind: str) -> None:
    task, codes = make_task(name), draw_codes()[kind]
    assert counts(rank(codes, task, precision, first_pass)) == counts(rank(codes, task, precision))


@pytest.mark.parametrize(("name", "precision", "first_pass"), CASES)
@pytest.mark.parametrize("kind", ["drawn", "twins", "near ties"])
def test_the_exact_path_is_not_called_for(
    name: str, precision: str, first_pass: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is equal above was found by the first pass."""
    whole: list[int] = []
    by_exact_path = BlockRanker.rank

    def count(self: BlockRanker, *arguments: Any) -> RankTable:
        whole.append(1)
        return by_exact_path(self, *arguments)

    task = make_task(name)
    monkeypatch.setattr(BlockRanker, "rank", count)
    ranks = rank(draw_codes()[kind], task, precision, first_pass)
    assert not whole
    assert ranks.better.max() > 200


@pytest.mark.parametrize(("name", "precision", "first_pass"), CASES)
def test_nan_is_the_same_error(name: str, precision: str, first_pass: str) -> None:
    codes = draw_codes()["drawn"]
    codes[77, 3] = torch.nan
    messages: list[str] = []
    for coarse in ("", first_pass):
        with pytest.raises(NumericError, match="expected numbers as scores, got NaN") as caught:
            rank(codes, make_task(name), precision, coarse)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(BOUNDED)))
def test_a_scorer_without_a_bound_is_refused(name: str) -> None:
    kind = type(CONFIGS[name].build(WIDTH)).__name__
    message = rf"evaluate.first_pass: expected .* in float32, got {kind} .*; set evaluate.first_pass to 'exact'"
    with pytest.raises(ConfigError, match=message):
        rank(draw_codes()["drawn"], make_task(name), "float64", "float32")


def test_a_format_without_a_bound_is_refused() -> None:
    with pytest.raises(ConfigError, match="rounding in bfloat16, got RotatE as method.scorer sets it"):
        rank(draw_codes()["drawn"], make_task("rotate-modulus"), "float32", "bfloat16")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_scores_have_the_bits_of_whole_calls(name: str, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    scorer = CONFIGS[name].build(WIDTH)
    queries, codes = (torch.randn(num, WIDTH, generator=draw, dtype=torch.float64).to(dtype) for num in (150, 230))
    cuts = (
        [slice(row, min(row + 64, 150)) for row in range(0, 150, 64)],
        [slice(start, stop) for start, stop in ((0, 50), (50, 101), (101, 151), (151, 202), (202, 230))],
    )
    whole = torch.empty(150, 230, dtype=dtype)
    with torch.no_grad():
        for rows in cuts[0]:
            for columns in cuts[1]:
                whole[rows, columns] = scorer.score(queries[rows], codes[columns])
        for num in (1, 40, 5000):
            query = np.random.default_rng(num).integers(0, 150, num)
            candidate = np.random.default_rng(num + 1).integers(0, 230, num)
            found = score_single(scorer, queries, codes, cuts, query, candidate)
            assert torch.equal(found, whole[torch.from_numpy(query), torch.from_numpy(candidate)])


def test_few_scores_of_many_calls_share_one() -> None:
    calls: list[tuple[int, int]] = []
    scorer = CONFIGS["complex"].build(WIDTH)
    score = scorer.score
    scorer.score = lambda left, right: calls.append((len(left), len(right))) or score(left, right)
    cuts = [[slice(row, row + 16) for row in range(0, 320, 16)] for _ in range(2)]
    query = np.arange(20) * 16 + np.arange(20) % 16
    numbers = torch.randn(320, WIDTH)
    score_single(scorer, numbers, numbers, (cuts[0], cuts[1]), query, query)
    assert calls == [(16, 16), (16, 16)]


def rank_on_workers(group: Group) -> dict[str, Any]:
    """Counts of one worker by scorer, formats and codes; a NaN lies on the last worker only."""
    every = draw_codes()
    found: dict[str, Any] = {}
    for name, precision, first_pass in CASES:
        if name not in ("rotate-modulus", "complex"):
            continue
        task = make_task(name)
        for kind in ("twins", "near ties", "constant"):
            key = f"{name} {precision} {first_pass} {kind}"
            found[key] = counts(rank(every[kind], task, precision, first_pass, group))
            found[f"{key} exact"] = counts(rank(every[kind], task, precision, "", group))
    broken = every["drawn"]
    broken[-1] = torch.nan
    try:
        rank(broken, make_task("complex"), "float64", "float32", group)
    except NumericError as error:
        found["error"] = str(error)
    return found


@pytest.mark.distributed
def test_counts_are_equal_at_every_number_of_workers() -> None:
    alone = rank_on_workers(Group())
    assert "NaN" in alone.pop("error")
    for key in [key for key in alone if f"{key} exact" in alone]:
        assert alone[key] == alone[f"{key} exact"]
    for size in (2, 4):
        workers = run_distributed(rank_on_workers, size)
        # How many questions a block has, which the message counts, goes with the number of workers.
        errors = {worker.pop("error") for worker in workers}
        assert len(errors) == 1
        assert "NaN" in errors.pop()
        for worker in workers:
            assert worker == alone
