"""Alignment trains the same at any number of workers, and bit for bit at the same number; every method."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from distributed import run_distributed
from numpy.typing import NDArray

from snag_dist.config import validate
from snag_dist.method.choices import AlignmentMethod
from snag_dist.method.facts import GraphFacts
from snag_dist.model.encoder import ModalityFacts
from snag_dist.model.features import ColumnStatistics
from snag_dist.random import Moment, Stream
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.group import Group
from snag_dist.shard.initial_rows import InitialRows
from snag_dist.shard.neighbours import OwnedEdges
from snag_dist.shard.partition import Partition
from snag_dist.shard.row_optimizers import AdamConfig, LazyAdamConfig
from snag_dist.shard.table import EntityTable
from snag_dist.task.alignment import assemble_pairs
from snag_dist.training.alignment import DistributedAlignment
from snag_dist.training.engine import DTYPES, EngineConfig
from snag_dist.training.step import Stepper, Stopwatch

pytestmark = pytest.mark.distributed
Ids = NDArray[np.int64]
NUM_ENTITIES, WIDTH = 150, 8
WIDTHS = {"text": 6, "vision": 4}
# 53 pairs: the last batch of an epoch has 3, so at 4 workers one has none.
NUM_PAIRS, BATCH = 53, 25
SIZES = (1, 2, 4)
METHODS: dict[str, Any] = {config.model_fields["kind"].default: config for config in get_args(AlignmentMethod)}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"method": name, "steps": 40} for name in METHODS},
    **{
        f"{name}, 2 neighbours": {"method": name, "steps": 12, "fanout": 2, "clip": 0.5, "table": AdamConfig()}
        for name in METHODS
    },
}
TWICE = ("snag_alignment", "eva, 2 neighbours")
QUIET = {"kind": "none"}


class ArrayFeatures:
    """Feature rows from an array, in the place of the mapped ones."""

    def __init__(self, vectors: NDArray[np.float32], present: NDArray[np.bool_]):
        self._vectors, self._present = vectors, present

    def gather(self, rows: Ids) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return self._vectors[rows], self._present[rows]


def draw_graph() -> tuple[Ids, Ids]:
    """Triples of two graphs, which keep to even and to odd row ids, and pairs between them."""
    draw = np.random.default_rng(0)
    ends = 2 * draw.integers(0, NUM_ENTITIES // 2, (400, 2)) + draw.integers(0, 2, (400, 1))
    sides = [2 * draw.permutation(NUM_ENTITIES // 2)[:NUM_PAIRS] + side for side in (0, 1)]
    return np.insert(ends, 1, 0, axis=1), np.stack(sides, axis=1)


def build_stepper(
    group: Group,
    method: str,
    *,
    fanout: int | None = None,
    clip: float = 0.0,
    table: Any = None,
    noise: Any = None,
    changes: dict[str, Any] | None = None,
) -> Stepper:
    """Set a method up as a worker of a run does, in float64; the method's sizes are small and its noise is on."""
    draw = np.random.default_rng(1)
    features: dict[str, Any] = {}
    modalities: dict[str, ModalityFacts] = {}
    for name, width in WIDTHS.items():
        vectors = draw.standard_normal((NUM_ENTITIES, width)).astype(np.float32)
        features[name] = ArrayFeatures(vectors, draw.random(NUM_ENTITIES) < 0.8)
        statistics = ColumnStatistics(torch.from_numpy(vectors.mean(0)), torch.from_numpy(vectors.std(0)))
        modalities[name] = ModalityFacts(width, statistics)
    tree: dict[str, Any] = {"encoder": {"width": WIDTH}, "noise": noise or {"kind": "gaussian"}, **(changes or {})}
    if "attention" in METHODS[method].model_fields:
        tree["attention"] = {"feed_forward_width": 12}
    config = validate(METHODS[method], tree, "test")
    task = config.build_alignment(GraphFacts(NUM_ENTITIES, 1, modalities), 1)
    partition = Partition(NUM_ENTITIES, 8, group.size)
    engine = EngineConfig(precision="float64")
    rows = EntityTable(
        table or LazyAdamConfig(),
        partition,
        group,
        width=WIDTH,
        start=InitialRows("normal", task.row_std),
        seed=1,
        dtype=DTYPES[engine.precision],
    )
    edges = OwnedEdges.build(draw_graph()[0], NUM_ENTITIES, *partition.rows(group.rank))
    module = DistributedAlignment(task, edges, Exchange(group, partition), Stopwatch(group.device), fanout)
    return Stepper(module, rows, features, group, engine, clip_norm=clip, micro_batch=BATCH)


def train(group: Group, steps: int, **options: Any) -> dict[str, Any]:
    """Return losses and numbers of encoded rows by step, the rows this worker owns, and the dense weights."""
    stepper, pairs = build_stepper(group, **options), draw_graph()[1]
    losses: list[float] = []
    counts: list[tuple[int, int]] = []
    epoch = 0
    while len(losses) < steps:
        stepper.begin_epoch()
        order = Stream(1, "epoch/order").at(epoch=epoch).permute(torch.arange(NUM_PAIRS), NUM_PAIRS).numpy()
        for start in range(0, NUM_PAIRS, BATCH):
            batch = pairs[order[start : start + BATCH]]
            first, stop = (len(batch) * rank // group.size for rank in (group.rank, group.rank + 1))
            result = stepper.step(assemble_pairs(batch, first, stop), Moment(1, epoch, len(losses)), 0.01)
            losses.append(result.loss)
            counts.append((stop - first, result.num_rows))
        epoch += 1
    weights = {name: value.numpy() for name, value in stepper.engine.state().items()}
    return {"losses": np.array(losses), "counts": counts, "rows": stepper.table.rows.numpy(), "weights": weights}


def cases_at(size: int) -> list[str]:
    """All cases; at 4 workers one with drawn neighbours, since processes share this machine's cores."""
    return [name for name in CASES if size < 4 or name in METHODS or name == "eva, 2 neighbours"]


def train_all(group: Group) -> dict[str, dict[str, Any]]:
    found = {name: train(group, **CASES[name]) for name in cases_at(group.size)}
    if group.size < 4:
        found |= {f"again: {name}": train(group, **CASES[name]) for name in TWICE}
    if group.size == 1:
        found |= {f"quiet: {name}": train(group, method=name, steps=3, noise=QUIET) for name in METHODS}
    return found


@pytest.fixture(scope="module")
def runs(group: Group) -> dict[int, list[dict[str, dict[str, Any]]]]:
    return {1: [train_all(group)]} | {size: run_distributed(train_all, size) for size in SIZES[1:]}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_rows_agree_at_any_number_of_workers(runs: Any, case: str) -> None:
    alone = runs[1][0][case]
    assert len(alone["losses"]) >= CASES[case]["steps"]
    for size in (size for size in SIZES[1:] if case in cases_at(size)):
        workers = [worker[case] for worker in runs[size]]
        for worker in workers:
            np.testing.assert_allclose(worker["losses"], alone["losses"], rtol=1e-5)
            assert [num for _, num in worker["counts"]] == [num for _, num in alone["counts"]]
            for name, value in alone["weights"].items():
                np.testing.assert_allclose(worker["weights"][name], value, rtol=1e-4, atol=1e-7, err_msg=name)
        rows = np.concatenate([worker["rows"] for worker in workers])
        np.testing.assert_allclose(rows, alone["rows"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("case", TWICE)
def test_same_workers_same_bits(runs: Any, case: str, size: int) -> None:
    for worker in runs[size]:
        first, second = worker[case], worker[f"again: {case}"]
        assert np.array_equal(first["losses"], second["losses"])
        assert np.array_equal(first["rows"], second["rows"])
        assert all(np.array_equal(value, second["weights"][name]) for name, value in first["weights"].items())


def test_a_short_batch_leaves_a_worker_without_pairs(runs: Any) -> None:
    slices = [[num for num, _ in worker["eva"]["counts"]] for worker in runs[4]]
    assert [part[2] for part in slices] == [0, 1, 1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_noise_and_sampling_are_at_work(runs: Any, method: str) -> None:
    full, drawn, quiet = (runs[1][0][name] for name in (method, f"{method}, 2 neighbours", f"quiet: {method}"))
    assert not np.allclose(full["losses"][:3], quiet["losses"][:3], rtol=1e-4)
    assert drawn["counts"][2][1] < full["counts"][2][1]


@pytest.mark.parametrize("method", METHODS)
def test_training_learns(runs: Any, method: str) -> None:
    # Whole batches only: losses of the short ones are of fewer rivals.
    losses = runs[1][0][method]["losses"].reshape(-1, 3)[:, :2]
    assert losses[-3:].mean() < 0.8 * losses[:2].mean()


@pytest.mark.parametrize("scale", [None, 2.0])
@pytest.mark.parametrize("method", [name for name in METHODS if "uncertainty_lr_scale" in METHODS[name].model_fields])
def test_uncertainty_weights_have_a_learning_rate_of_their_own(group: Group, method: str, scale: float | None) -> None:
    stepper = build_stepper(group, method, changes={} if scale is None else {"uncertainty_lr_scale": scale})
    expected = {
        name: (5.0 if scale is None else scale) if name.endswith("log_variances") else 1.0
        for name, _ in stepper.module.named_parameters()
    }
    assert set(expected.values()) == {1.0, 5.0 if scale is None else scale}
    assert {name: stepper.module.lr_scale(name) for name in expected} == expected
    before = {name: value.detach().clone() for name, value in stepper.module.named_parameters()}
    stepper.begin_epoch()
    pairs = draw_graph()[1][:BATCH]
    stepper.step(assemble_pairs(pairs, 0, BATCH), Moment(1, 0, 0), 0.01)
    # The first step of Adam is the learning rate, in the direction of the gradient.
    for name, value in stepper.module.named_parameters():
        assert (value - before[name]).abs().max().item() == pytest.approx(0.01 * expected[name], rel=1e-3), name
