"""AdaMF-MAT through a step: two players on one batch, each with its own gradient, at any number of workers."""

from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.config import validate
from snag_dist.kg.truth import TruthIndex
from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.facts import GraphFacts
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.random import Moment
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.partition import Partition
from snag_dist.shard.row_optimizers import LazyAdamConfig
from snag_dist.shard.table import EntityTable
from snag_dist.task.completion import assemble
from snag_dist.training.batches import MemoryTriples
from snag_dist.training.completion import DistributedCompletion
from snag_dist.training.engine import DTYPES, EngineConfig
from snag_dist.training.second_player import SecondPlayer
from snag_dist.training.step import Stepper, StepResult, Stopwatch

NUM_ENTITIES, NUM_RELATIONS, WIDTH, BATCH = 60, 3, 8, 21
WIDTHS = {"text": 5, "vision": 3}
# mu of 1, so that what the model's loss would do to the generators is as large as what their own does.
ADVERSARY = {"weight": 1.0, "lr": 1e-2, "generator": {"noise_width": 4, "hidden_width": 10}}
BETA1 = 0.9
SIZES = (1, 2, 4)


class ArrayFeatures:
    """Feature rows from an array, in the place of the mapped ones."""

    def __init__(self, vectors: NDArray[np.float32]):
        self._vectors = vectors

    def gather(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return self._vectors[rows], np.ones(len(rows), dtype=np.bool_)


class Run:
    """A run of AdaMF-MAT on a random graph, as a worker sets it up, in float64."""

    def __init__(self, group: Group, adversary: dict[str, Any] | None):
        draw = np.random.default_rng(0)
        columns = [draw.integers(0, limit, 200) for limit in (NUM_ENTITIES, NUM_RELATIONS, NUM_ENTITIES)]
        triples = np.unique(np.stack(columns, axis=1), axis=0)
        self.vectors = {
            name: draw.standard_normal((NUM_ENTITIES, width)).astype(np.float32) for name, width in WIDTHS.items()
        }
        facts = GraphFacts(
            NUM_ENTITIES,
            NUM_RELATIONS,
            {
                name: ModalityFacts(width, ColumnStatistics(torch.zeros(width), torch.ones(width)))
                for name, width in WIDTHS.items()
            },
        )
        tree = {"encoder": {"width": WIDTH}, "negatives": {"num": 8, "chunk": 10}, "adversary": adversary}
        config = validate(AdamfConfig, tree, "test")
        self.task = config.build_completion(facts, 1)
        engine = EngineConfig(precision="float64")
        self.player: SecondPlayer | None = None
        if (built := config.build_adversary(facts, 1)) is not None:
            self.player = SecondPlayer(built, group, DTYPES[engine.precision])
        self._partition = Partition(NUM_ENTITIES, 8, group.size)
        start = InitialRows("uniform", self.task.scorer.entity_bound)
        self.table = EntityTable(
            LazyAdamConfig(), self._partition, group, width=WIDTH, start=start, seed=1, dtype=torch.float64
        )
        module = DistributedCompletion(
            self.task, Exchange(group, self._partition), Stopwatch(group.device), self.player
        )
        features: Any = {name: ArrayFeatures(values) for name, values in self.vectors.items()}
        self.stepper = Stepper(module, self.table, features, group, engine, clip_norm=0.5, micro_batch=BATCH)
        self._sampler = config.build_sampler(TruthIndex.build(triples, NUM_ENTITIES, NUM_RELATIONS))
        self._source = MemoryTriples(triples, BATCH, group, seed=1)

    def batch(self, number: int) -> tuple[Any, Moment]:
        """This worker's slice of global batch `number`, counted over epochs."""
        epoch, step = divmod(number, self._source.steps_per_epoch)
        part, moment = next(self._source.epoch(epoch, step)), Moment(1, epoch, number)
        return assemble(self._sampler.draw(part.positives, part.first, moment), part.global_triples), moment

    def step(self, number: int) -> StepResult:
        return self.stepper.step(*self.batch(number), 0.01)

    def kept(self) -> dict[str, dict[str, Tensor]]:
        """Copies of all that a checkpoint keeps, of one worker."""
        assert self.player is not None
        rows = {
            f"{shard}/{name}": value.clone()
            for shard in self._partition.shards(0)
            for name, value in self.table.shard_state(shard).items()
        }
        return {"dense": self.stepper.engine.state(), "rows": rows, "player": self.player.state()}

    def take_up(self, kept: dict[str, dict[str, Tensor]]) -> None:
        assert self.player is not None
        self.stepper.engine.load_state(kept["dense"])
        self.player.load_state(kept["player"])
        for shard in self._partition.shards(0):
            state = {name.split("/")[1]: value for name, value in kept["rows"].items() if name.startswith(f"{shard}/")}
            self.table.load_shard_state(shard, state)


def first_gradient(player: SecondPlayer) -> dict[str, NDArray[np.float64]]:
    """The gradient the generators' first step took: Adam's mean is 1 - beta1 of it."""
    mark = "generators/exp_avg/"
    return {
        name.removeprefix(mark): (value / (1.0 - BETA1)).numpy()
        for name, value in player.state().items()
        if name.startswith(mark)
    }


def play(group: Group, steps: int) -> dict[str, Any]:
    """Play on; return what every step cost, the first gradient, and the weights at the end."""
    run = Run(group, ADVERSARY)
    assert run.player is not None
    costs: list[list[float]] = []
    gradient: dict[str, NDArray[np.float64]] = {}
    for number in range(steps):
        result = run.step(number)
        costs.append([result.loss, result.gradient_norm, *(result.terms[name] for name in sorted(result.terms))])
        gradient = gradient or first_gradient(run.player)
    return {
        "costs": np.array(costs),
        "gradient": gradient,
        "rows": run.table.rows.numpy(),
        "player": {name: value.numpy() for name, value in run.player.state().items()},
        "dense": {name: value.numpy() for name, value in run.stepper.engine.state().items()},
    }


def gradient_in_one_place(group: Group) -> dict[str, NDArray[np.float64]]:
    """The gradient of the generators' loss over the first batch by autograd, without step, exchange and table."""
    run = Run(group, ADVERSARY)
    assert run.player is not None
    adversary, task, ids = run.player.adversary, run.task, torch.arange(NUM_ENTITIES)
    batch, moment = run.batch(0)
    features = {name: torch.from_numpy(values) for name, values in run.vectors.items()}
    present = {name: torch.ones(NUM_ENTITIES, dtype=torch.bool) for name in WIDTHS}
    fused = task.encode(EntityInputs(ids, run.table.rows, features, present), moment)
    fakes = adversary.generators.codes(task.encoder.fusion, fused, ids, moment)
    loss = adversary.generator_loss(task, fused.codes[batch.entities], fakes[batch.entities], batch).loss
    names, parameters = zip(*adversary.named_parameters(), strict=True)
    return {name: grad.numpy() for name, grad in zip(names, torch.autograd.grad(loss, list(parameters)), strict=True)}


@pytest.fixture(scope="module")
def runs() -> dict[int, list[dict[str, Any]]]:
    return {size: run_distributed(play, size, 20) for size in SIZES}


@pytest.mark.distributed
@pytest.mark.parametrize("size", SIZES)
def test_generators_learn_from_their_own_loss_alone(runs: Any, group: Group, size: int) -> None:
    expected = gradient_in_one_place(group)
    assert all(np.abs(value).max() > 1e-6 for value in expected.values())
    for worker in runs[size]:
        assert worker["gradient"].keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(worker["gradient"][name], value, rtol=1e-8, atol=1e-12, err_msg=name)


@pytest.mark.distributed
@pytest.mark.parametrize("size", SIZES[1:])
def test_both_players_are_the_same_at_any_number_of_workers(runs: Any, size: int) -> None:
    alone = runs[1][0]
    assert alone["costs"].shape == (20, 6)
    assert alone["player"]["generators/step"] == 20.0
    for worker in runs[size]:
        np.testing.assert_allclose(worker["costs"], alone["costs"], rtol=1e-5)
        for part in ("player", "dense"):
            for name, value in alone[part].items():
                np.testing.assert_allclose(worker[part][name], value, rtol=1e-4, atol=1e-9, err_msg=name)
    rows = np.concatenate([worker["rows"] for worker in runs[size]])
    np.testing.assert_allclose(rows, alone["rows"], rtol=1e-4, atol=1e-9)
    # Replicas of the generators, which no engine keeps together.
    one, *others = (worker["player"] for worker in runs[size])
    assert all(np.array_equal(value, other[name]) for other in others for name, value in one.items())


def test_the_model_learns_nothing_from_the_loss_of_the_generators(group: Group) -> None:
    # With mu of 0 nothing but that loss could tell the two models apart.
    with_player, without = Run(group, {**ADVERSARY, "weight": 0.0}), Run(group, None)
    for number in range(5):
        one, other = with_player.step(number), without.step(number)
        assert (one.loss, one.gradient_norm) == (other.loss, other.gradient_norm)
        assert one.terms["generator"] > 0
    assert torch.equal(with_player.table.rows, without.table.rows)
    expected = without.stepper.engine.state()
    for name, value in with_player.stepper.engine.state().items():
        assert torch.equal(value, expected[name]), name


def test_the_fakes_reach_the_model_by_their_weight(group: Group) -> None:
    results = [Run(group, {**ADVERSARY, "weight": weight}).step(0) for weight in (0.0, 1.0)]
    assert results[1].loss - results[0].loss == pytest.approx(results[1].terms["fakes"], rel=1e-9)
    assert results[1].gradient_norm != results[0].gradient_norm


def test_a_run_goes_on_bit_by_bit_from_its_state(group: Group) -> None:
    whole = Run(group, ADVERSARY)
    for number in range(4):
        whole.step(number)
    middle = whole.kept()
    later = [whole.step(number) for number in range(4, 8)]
    resumed = Run(group, ADVERSARY)
    resumed.take_up(middle)
    assert [resumed.step(number) for number in range(4, 8)] == later
    expected = whole.kept()
    for part, tensors in resumed.kept().items():
        assert tensors.keys() == expected[part].keys()
        for name, value in tensors.items():
            assert torch.equal(value, expected[part][name]), name
    assert not torch.equal(middle["rows"]["0/rows"], expected["rows"]["0/rows"])


def test_state_is_a_copy_and_there_before_the_first_step(group: Group) -> None:
    run = Run(group, ADVERSARY)
    assert run.player is not None
    before = run.player.state()
    assert before["generators/step"] == 0.0
    assert not any(value.any() for name, value in before.items() if "exp_avg" in name)
    kept = {name: value.clone() for name, value in before.items()}
    run.step(0)
    assert all(torch.equal(value, kept[name]) for name, value in before.items())
    moved = run.player.state()
    assert all(not torch.equal(moved[name], value) for name, value in kept.items())


def test_a_step_that_is_not_finite_leaves_the_generators_as_they_were(group: Group) -> None:
    run = Run(group, ADVERSARY)
    assert run.player is not None
    run.step(0)
    before = run.player.state()
    run.table.rows[:] = torch.nan
    assert not np.isfinite(run.step(1).loss)
    assert all(torch.equal(value, before[name]) for name, value in run.player.state().items())
