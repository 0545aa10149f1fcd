"""A plan's counts by hand: bytes a worker holds, bytes that travel, what counts come from, and every refusal."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from snag_dist.errors import ConfigError, ResourceError
from snag_dist.store.opened import Store
from snag_dist.training.plan.activations import (
    bytes_per_link_pair,
    encoding_each,
    evaluated_each,
    kept_pair,
    saved_bytes,
    scoring_ways,
)
from snag_dist.training.plan.calibration import calibrate
from snag_dist.training.plan.live_bytes import LiveBytes, Way
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.plan.memory import PROCESS_BYTES, WorkerMemory, build_adversary, build_task, plan_memory
from snag_dist.training.plan.report import RunPlan
from snag_dist.training.plan.sizes import GraphSizes, ModalitySize, distinct
from snag_dist.training.plan.traffic import Traffic
from snag_dist.training.plan.verdict import Machines, Verdict, check_fits, gigabytes, host_bytes
from snag_dist.training.recipe import Recipe

SIZES = GraphSizes(
    num_entities=1000,
    num_relations=4,
    num_triples=300,
    num_ranked=20,
    num_filtered=340,
    num_links=0,
    virtual_shards=10,
    modalities={"text": ModalitySize(5, 2)},
)
LINKED = replace(SIZES, num_links=100, num_triples=2000)


def make(**changes: Any) -> Recipe:
    """A recipe of completion, D = 8, W = 2, B = 64, K = 16."""
    tree: dict[str, Any] = {
        "name": "planned",
        "store": "nowhere",
        "ingest": {"source": {"kind": "world"}},
        "modalities": ["text"],
        "method": {"encoder": {"width": 8}, "negatives": {"num": 16, "chunk": 32}},
        "train": {"batch_size": 64},
        "cluster": {"num_workers": 2},
    }
    return Recipe.model_validate({**tree, **changes})


ALIGNMENT = {"method": {"kind": "snag_alignment", "encoder": {"width": 8}}}


def items(memory: WorkerMemory) -> dict[str, tuple[int, str]]:
    held = [*memory.resident, *(item for phase in memory.phases.values() for item in phase)]
    return {item.name: (item.num_bytes, item.where) for item in held}


@pytest.mark.parametrize(
    ("table", "state"),
    [
        ("adam", 500 * 2 * 8 * 4),
        ("lazy_adam", 500 * (2 * 8 * 4 + 4)),
        ("rowwise_adagrad", 500 * 4),
    ],
)
def test_bytes_by_hand(table: str, state: int) -> None:
    found = items(plan_memory(make(table={"kind": table}), SIZES))
    assert found["rows"] == (500 * 8 * 4, "host")
    assert found["row optimiser state"] == (state, "host")
    assert found["features, mapped"] == (500 * 5 * 2, "mapped")
    assert found["presence of features"] == (500, "host")
    assert found["known-true index"] == (300 * 48, "host")
    # Train and the largest other split.
    assert found["known-true index of train and dev"] == (320 * 48, "host")
    assert found["known-true index of all splits"] == (340 * 48, "host")
    # Codes and, for two tokens, their weight and presence.
    assert found["codes of all rows"] == (500 * 8 * 4 + 500 * 2 * 5, "host")
    assert found["scores of a block of queries"] == (2 * 20 * 500 * 4, "host")
    assert found["copy of rows and state"] == (500 * (8 * 4 + state // 500), "host")
    assert found["file of a virtual shard"] == (100 * (8 * 4 + state // 500), "host")


def test_a_known_true_index_in_memory_is_counted_while_it_is_built_and_while_it_stays() -> None:
    memory = plan_memory(make(), SIZES)
    stays = {item.name: item.num_bytes for item in memory.resident}
    assert (stays["known-true index"], stays["known-true index of train and dev"]) == (300 * 48, 320 * 48)
    building = memory.phases["sorting of the known-true index"]
    assert sum(item.num_bytes for item in building) == 340 * (48 + 24 + 37)
    # 1,000 triples of all splits without store: none is counted twice.
    alone = plan_memory(make(), replace(SIZES, num_triples=1000, num_ranked=1000, num_filtered=1000))
    assert items(alone)["known-true index of train and dev"] == (1000 * 48, "host")
    assert "sorting of the known-true index" not in plan_memory(make(**ALIGNMENT), LINKED).phases


@pytest.mark.parametrize("residency", [{"kind": "stream"}, {"budget_bytes": 300 * 24 - 1}])
def test_a_stream_holds_no_triples_and_no_index(residency: dict[str, Any]) -> None:
    recipe = make(train={"batch_size": 64, "residency": {**residency, "window_rows": 100}})
    memory = plan_memory(recipe, SIZES)
    found = items(memory)
    assert found["known-true indexes, mapped once a host"] == ((300 + 320 + 340) * 48, "mapped")
    assert found["known-true index of all splits"] == (0, "host")
    assert {"known-true index", "known-true index of train and dev"}.isdisjoint(found)
    assert "sorting of the known-true index" not in memory.phases
    # Ten times the triples take no more memory of a host.
    more = replace(SIZES, num_triples=3000, num_filtered=3400)
    assert plan_memory(recipe, more).peak("host") == memory.peak("host")
    verdicts = [Verdict.of(recipe, sizes, Machines(1, 1 << 40, None)) for sizes in (SIZES, more)]
    assert [verdict.shared_bytes for verdict in verdicts] == [100 * 100, 100 * 100]
    assert Verdict.of(make(), SIZES, Machines(1, 1 << 40, None)).shared_bytes == 300 * 24


def test_float64_doubles_rows_and_codes() -> None:
    found = items(plan_memory(make(train={"engine": {"precision": "float64"}, "batch_size": 64}), SIZES))
    assert found["rows"] == (500 * 8 * 8, "host")
    # Scored in float32: a copy of the codes in it.
    assert found["codes of all rows"] == (500 * 8 * (8 + 4) + 500 * 2 * 9, "host")


def test_a_first_pass_keeps_codes_in_its_format() -> None:
    double = {"precision": "float64", "first_pass": "float32"}
    # Encoded in float32, which the first pass takes; scored in float64.
    found = items(plan_memory(make(evaluate=double), SIZES))
    assert found["codes of all rows"] == (500 * 8 * (4 + 8) + 500 * 2 * 5, "host")
    train = {"engine": {"precision": "float64"}, "batch_size": 64}
    found = items(plan_memory(make(evaluate=double, train=train), SIZES))
    assert found["codes of all rows"] == (500 * 8 * (8 + 4) + 500 * 2 * 9, "host")


def test_the_budget_bounds_the_scores() -> None:
    found = items(plan_memory(make(evaluate={"budget_bytes": 4000}), SIZES))
    assert found["scores of a block of queries"] == (4000, "host")


@pytest.mark.parametrize(("placement", "where"), [("device", "device"), ("host", "host"), ("disk", "mapped")])
def test_placement_says_where_rows_lie(placement: str, where: str) -> None:
    table = {"kind": "lazy_adam", "placement": placement}
    found = items(plan_memory(make(table=table, cluster={"num_workers": 2, "use_gpu": True}), SIZES))
    assert found["rows"][1] == found["row optimiser state"][1] == where
    assert found["activations of the encoder"][1] == "device"


def test_rows_on_disk_are_not_copied_for_a_checkpoint() -> None:
    found = items(plan_memory(make(table={"kind": "lazy_adam", "placement": "disk"}), SIZES))
    assert found["copy of rows and state"] == (0, "host")
    assert found["rows"] == (16000, "mapped")


def test_the_peak_is_what_stays_and_the_largest_phase() -> None:
    memory = plan_memory(make(), SIZES)
    sums = {
        name: sum(item.num_bytes for item in phase if item.where == "host") for name, phase in memory.phases.items()
    }
    resident = sum(item.num_bytes for item in memory.resident if item.where == "host")
    assert resident > PROCESS_BYTES
    assert memory.peak("host") == resident + max(sums.values())
    sizes = [item.num_bytes for item in memory.peak_items("host")]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == memory.peak("host")


def test_saved_bytes_by_hand() -> None:
    left, right = (torch.randn(10, 3, requires_grad=True) for _ in range(2))
    assert saved_bytes(lambda: left * right) == 2 * 10 * 3 * 4
    # The same tensor twice counts once.
    assert saved_bytes(lambda: left * left) == 10 * 3 * 4
    assert saved_bytes(lambda: left + right) == 0


def test_live_bytes_by_hand() -> None:
    weight = torch.randn(3, 3, requires_grad=True)

    def way(num: int) -> Any:
        inputs = torch.randn(num, 3)
        weight.grad = None
        return lambda: (inputs @ weight).tanh().exp()

    # Kept: tanh and exp. On the way back the gradient of ones, and those of exp and tanh in turn.
    assert Way.of(way(10)) == Way(2 * 10 * 3 * 4, 5 * 10 * 3 * 4)
    each, rest = Way.of_each(way, 100)
    assert (each.kept, each.peak) == (2 * 3 * 4, 5 * 3 * 4)
    assert rest == Way(0, 0)
    with LiveBytes() as live:
        first = torch.zeros(5)
        second = first.view(5) + 1
        del first
        assert live.now == 20
        del second
    assert (live.now, live.peak) == (0, 40)


def test_activations_grow_with_width() -> None:
    def encode(**encoder: Any) -> Way:
        task: Any = build_task(make(method={"encoder": encoder}), SIZES)
        assert evaluated_each(task, SIZES, torch.float32) < encoding_each(task, SIZES, torch.float32).peak
        return encoding_each(task, SIZES, torch.float32)

    narrow, wide = encode(width=8), encode(width=64)
    assert 8 * 4 < narrow.kept < wide.kept
    assert narrow.kept < narrow.peak < wide.peak
    assert encode(width=8, fusion={"kind": "graph"}).kept < narrow.kept


def test_generators_hold_more() -> None:
    recipe = make(method={"kind": "adamf", "encoder": {"width": 8}, "adversary": {}})
    task: Any = build_task(recipe, SIZES)
    alone = encoding_each(task, SIZES, torch.float32)
    played = encoding_each(task, SIZES, torch.float32, build_adversary(recipe, SIZES))
    # 512 columns between the two maps of a generator, before and after what bends them.
    assert played.kept - alone.kept > 2 * 512 * 4


def test_the_modulus_keeps_nothing_of_a_pair_and_a_product_of_own_candidates_does() -> None:
    rotate: Any = build_task(make(), SIZES)
    assert kept_pair(rotate, torch.float32) == 4

    def kept(candidates: int, **method: Any) -> float:
        task: Any = build_task(make(method={"encoder": {"width": 8}, **method}), SIZES)
        each, _ = scoring_ways(task, torch.float32, candidates=candidates, own=True, codes_each=2.0, adversary=None)
        return each.kept

    product = {"scorer": {"kind": "distmult"}}
    assert kept(20, **product) - kept(10, **product) > 10 * 8 * 4
    assert kept(20) - kept(10) < 10 * 8 * 4


def test_contrasts_keep_numbers_of_every_pair() -> None:
    task: Any = build_task(make(**ALIGNMENT), LINKED)
    assert bytes_per_link_pair(task, torch.float32) >= 4


def test_distinct() -> None:
    assert distinct(0, 10) == 0
    assert distinct(10, 10**12) == 10
    assert distinct(10**9, 50) == 50
    assert distinct(100, 100) == 63  # 100 (1 - 1/e)


def test_load_of_completion_by_hand() -> None:
    recipe = make()
    load = StepLoad.of(recipe, replace(SIZES, num_entities=10**12, num_triples=6400), build_task(recipe, SIZES))
    # 64 triples, two chunks of 32 with 16 candidates each; half of all is a worker's.
    assert load.encoded == load.rows == (2 * 64 + 2 * 16) // 2
    assert load.arrived == 2 * 32 + 16
    assert load.pairs == 32 * 16
    assert load.steps == 100
    both = make(method={"encoder": {"width": 8}, "negatives": {"kind": "per_triple", "num": 3, "sides": "both"}})
    load = StepLoad.of(both, replace(SIZES, num_entities=10**12), build_task(both, SIZES))
    assert load.arrived == 2 * 32 + 32 * 2 * 3
    assert load.pairs == 32 * 2 * 3


def test_load_of_a_loss_over_all_entities_by_hand() -> None:
    loss = {"kind": "all_entities", "block": 32}
    for candidates in ("fresh", "cached"):
        recipe = make(
            method={"encoder": {"width": 8}, "loss": {**loss, "candidates": candidates}}, train={"batch_size": 32}
        )
        sizes = replace(SIZES, num_entities=1000)
        load = StepLoad.of(recipe, sizes, build_task(recipe, sizes))
        known = distinct(64, 1000)
        assert load.rows == (500 if candidates == "fresh" else -(-known // 2))
        assert load.encoded == (32 if candidates == "fresh" else 32 + -(-known // 2))
        assert load.own_codes == 500
        assert load.queries == 32 * 2
        assert load.pairs == 32 * 2 * 32
        found = items(plan_memory(recipe, sizes))
        assert found["touched rows"] == (load.rows * 8 * 4, "host")
        assert found["codes of own rows"] == ((1 if candidates == "fresh" else 2) * 500 * 8 * 4, "host")
        # Four bytes a score of 64 queries with 500 rows, four numbers of those of a block, and the codes' gradients.
        scored = 64 * 500 * 4 + 64 * 32 * 4 * 4 + 500 * 8 * 4
        assert found["kept scores, or gradients of codes"][0] >= scored


def test_load_of_alignment_by_hand() -> None:
    recipe = make(**ALIGNMENT)
    task = build_task(recipe, LINKED)
    load = StepLoad.of(recipe, LINKED, task)
    # 27 training pairs of 100 links; every worker sees them all.
    assert load.arrived == 54
    assert load.encoded == 27
    assert load.pairs == 14 * 27
    # Two tokens before and after attention, weight and presence of each.
    assert load.code_width == 2 * 2 * 8 + 2 * 2
    assert load.owned_edges == (2 * 2000 + 1000) // 2
    # Four neighbours and the entity itself, twice.
    once = distinct(54 * 5, 1000)
    assert load.rows == -(-distinct(once * 5, 1000) // 2)
    # Below the last layer; edges into the pairs' entities and into those.
    assert load.inner == -(-once // 2)
    assert load.halo == load.inner + load.rows
    # Of a worker's own: four neighbours of the pairs' entities, five of those that are reached by an edge.
    assert load.asked == distinct(27 * 4, 1000) + distinct((54 * 4 + (once - 54) * 5) / 2, 1000)
    assert load.edges == -(-(54 * 5 + once * 5) // 2)
    drawn = StepLoad.of(make(**ALIGNMENT, train={"batch_size": 64, "fanout": 1}), LINKED, task)
    once = distinct(54 * 2, 1000)
    assert drawn.rows == -(-distinct(once * 2, 1000) // 2)
    assert drawn.inner == -(-once // 2)
    assert drawn.edges == 54 + once


def test_bytes_of_a_full_graph_and_of_drawn_neighbours_by_hand() -> None:
    plain = {"method": {"kind": "eva", "encoder": {"width": 8}}, "cluster": {"num_workers": 1}}
    found: dict[int | None, dict[str, tuple[int, str]]] = {}
    for fanout in (None, 3, 1):
        recipe = make(**plain, train={"batch_size": 64, "fanout": fanout})
        load = StepLoad.of(recipe, LINKED, build_task(recipe, LINKED))
        found[fanout] = items(plan_memory(recipe, LINKED))
        # Rows, what enters the first layer, and the gradients of both.
        assert found[fanout]["touched rows and gradients"] == (load.rows * 8 * 4 * 4, "host")
        # Sums of messages and the output of a GCN's layer, 8 numbers each; of an edge its value and where it runs.
        assert found[fanout]["activations of neighbours"] == (load.inner * (2 * 8 * 4 + 4) + load.edges * 60, "host")
    # Of four neighbours.
    for name in ("touched rows and gradients", "activations of neighbours", "touched rows, gradients and state"):
        assert found[1][name] < found[3][name] < found[None][name]
    assert "activations of neighbours" not in [item.name for item in plan_memory(make(), SIZES).peak_items("host")]


def test_codes_of_other_owners_are_copies() -> None:
    alone, apart = (make(**ALIGNMENT, cluster={"num_workers": num}) for num in (1, 4))
    loads = [StepLoad.of(recipe, LINKED, build_task(recipe, LINKED)) for recipe in (alone, apart)]
    assert loads[1].inner < loads[0].inner
    many = replace(LINKED, num_entities=10**6, num_links=10**4)
    one, four = (items(plan_memory(recipe, many))["activations of neighbours"][0] for recipe in (alone, apart))
    assert one / 4 < four < one


def test_traffic_by_hand() -> None:
    recipe = make()
    task = build_task(recipe, SIZES)
    load = StepLoad(
        rows=1,
        encoded=1,
        own_codes=0,
        arrived=100,
        queries=0,
        pairs=1,
        code_width=8,
        halo=0,
        asked=0,
        inner=0,
        edges=0,
        owned_edges=0,
        steps=1,
    )
    traffic = Traffic.of(recipe, SIZES, load, task)
    parameters = sum(parameter.numel() for parameter in task.parameters())
    assert (traffic.ids, traffic.codes, traffic.gradients) == (400, 1600, 1600)
    assert traffic.dense == 2 * 4 * parameters // 2
    assert traffic.total == 3600 + traffic.dense
    assert traffic.seconds(traffic.total / 2, 4) == pytest.approx(2.0)
    assert traffic.seconds(1.0, 1) == 0.0
    alone = Traffic.of(make(cluster={"num_workers": 1}), SIZES, load, task)
    assert alone.total == 0


class TestSizes:
    def test_counts_that_a_person_gives(self) -> None:
        plan = {"num_entities": 50, "num_relations": 3, "num_triples": 70, "widths": {"text": 9}}
        sizes = GraphSizes.of(make(plan=plan), None)
        assert (sizes.num_entities, sizes.num_relations, sizes.num_triples, sizes.num_links) == (50, 3, 70, 0)
        assert sizes.modalities == {"text": ModalitySize(9, 2)}
        assert sizes.most_rows(7) >= 8

    def test_counts_of_a_store(self) -> None:
        manifest = SimpleNamespace(num_triples={"train": 9, "valid": 2, "test": 3}, num_links=5)
        feature = SimpleNamespace(width=6, dtype="float32")
        store = SimpleNamespace(
            manifest=manifest,
            num_entities=40,
            num_relations=2,
            virtual_shards=8,
            modalities=lambda: ("text",),
            feature=lambda name: feature,
        )
        sizes = GraphSizes.of(make(), cast(Store, store))
        assert (sizes.num_triples, sizes.num_ranked, sizes.num_filtered, sizes.num_links) == (9, 3, 14, 5)
        assert sizes.modalities == {"text": ModalitySize(6, 4)}

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({}, "plan.widths.text: expected the columns of modality 'text'"),
            (
                {"modalities": []},
                "plan.num_triples: expected a number, since there is no store at nowhere yet, got none",
            ),
            ({"modalities": [], "plan": {"num_triples": 5}}, "plan.num_entities: expected a number"),
            ({**ALIGNMENT, "modalities": [], "plan": {"num_triples": 5}}, "plan.num_links: expected a number"),
        ],
    )
    def test_what_is_not_known_is_named(self, changes: Any, field: str) -> None:
        with pytest.raises(ConfigError) as caught:
            GraphSizes.of(make(**changes), None)
        assert str(caught.value).startswith(field)
        assert "pass --set plan." in str(caught.value)
        assert "\n" not in str(caught.value)


LARGE = replace(SIZES, num_entities=50_000_000, num_triples=1_000_000, num_filtered=1_000_000, modalities={})
GPU = {"num_workers": 2, "use_gpu": True}
REFUSALS = {
    "state": (
        make(modalities=[], plan={"host_bytes": 2 << 30}),
        LARGE,
        "table.kind: expected at most 2.15 GB of host memory, got ",
        "row optimiser state 1.6 GB",
        "set table.kind=rowwise_adagrad (one number a row), or table.placement=disk with lazy_adam",
    ),
    "rows": (
        make(
            modalities=[],
            table={"kind": "rowwise_adagrad", "placement": "host"},
            cluster={"num_workers": 2, "use_gpu": True},
            plan={"host_bytes": 2 << 30},
        ),
        LARGE,
        "table.placement: expected at most 2.15 GB",
        "for 2 workers on a host (each: copy of rows and state 900 MB, rows 800 MB",
        "set table.placement=disk (with table.kind=rowwise_adagrad), or use more hosts",
    ),
    "codes": (
        make(modalities=[], table={"kind": "rowwise_adagrad"}, plan={"host_bytes": 2 << 30}),
        LARGE,
        "method.encoder.width: expected at most 2.15 GB",
        "codes of all rows 925 MB",
        "lower method.encoder.width, or use more hosts, each of which then holds fewer rows",
    ),
    "process": (
        make(plan={"host_bytes": 1 << 20}),
        SIZES,
        "cluster.num_workers: expected at most 1.05 MB",
        "process 367 MB",
        "use fewer workers on each host: each has a process of its own, or more hosts",
    ),
    "budget": (
        make(evaluate={"budget_bytes": 8 << 30}, plan={"host_bytes": 3 << 30}),
        replace(SIZES, num_entities=1_000_000, num_ranked=1_000_000, modalities={}),
        "evaluate.budget_bytes: expected at most 3.22 GB",
        "scores of a block of queries 8.59 GB",
        "lower evaluate.budget_bytes",
    ),
    "triples": (
        make(plan={"host_bytes": 1 << 30}),
        replace(SIZES, num_triples=50_000_000),
        "train.residency.kind: expected at most 1.07 GB",
        "known-true index 2.4 GB",
        "set train.residency.kind=stream, which maps one index for all workers of a host, or use fewer workers on each "
        "host",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_refused_with_the_field_to_change(case: str) -> None:
    recipe, sizes, start, middle, end = REFUSALS[case]
    with pytest.raises(ResourceError) as caught:
        check_fits(recipe, sizes)
    message = str(caught.value)
    assert message.startswith(start)
    assert middle in message
    assert message.endswith(end)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        (
            "adam",
            "table.kind: expected at most 1 GB on a GPU, got ",
            "set table.kind=rowwise_adagrad (one number a row), or table.placement=host",
        ),
        (
            "rowwise_adagrad",
            "method.encoder.width: expected at most 1 GB on a GPU, got ",
            "raise cluster.num_workers: each GPU then owns fewer rows; or lower method.encoder.width",
        ),
    ],
)
def test_a_gpu_that_is_too_small_is_refused(kind: str, start: str, end: str) -> None:
    plan = {"host_bytes": 1 << 50, "device_bytes": 10**9}
    with pytest.raises(ResourceError) as caught:
        check_fits(make(modalities=[], table={"kind": kind}, cluster=GPU, plan=plan), LARGE)
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(end)


class TestFanout:
    """A graph with twenty neighbours an entity: a batch of 1000 pairs reaches nearly all of it."""

    SIZES = replace(LINKED, num_entities=200_000, num_triples=2_000_000, num_links=10_000, modalities={})

    @staticmethod
    def refuse(megabytes: float, fanout: int | None = None) -> str:
        recipe = TestFanout.recipe(fanout, host_bytes=1 << 50, device_bytes=round(megabytes * 1e6))
        with pytest.raises(ResourceError) as caught:
            check_fits(recipe, TestFanout.SIZES)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @staticmethod
    def recipe(fanout: int | None, **plan: int) -> Recipe:
        return make(
            modalities=[],
            method={"kind": "snag_alignment", "encoder": {"width": 64}},
            train={"batch_size": 1000, "fanout": fanout},
            evaluate={"budget_bytes": 32 << 20},
            cluster=GPU,
            plan=plan,
        )

    def test_a_full_graph_that_does_not_fit_is_refused_with_the_fanout_that_does(self) -> None:
        message = self.refuse(280)
        assert message.startswith("train.fanout: expected at most 280 MB on a GPU, got 3")
        assert "touched rows and gradients" in message
        found = re.search(r"; set train\.fanout=(\d+), so that a step draws so many neighbours", message)
        assert found is not None
        most, limit = int(found[1]), 280_000_000
        assert 1 < most < 19
        # It fits, and is the largest that does.
        check_fits(self.recipe(most, host_bytes=1 << 50, device_bytes=limit), self.SIZES)
        assert plan_memory(self.recipe(most + 1), self.SIZES).peak("device") > limit
        # So does a run that draws more than that already.
        assert f"; set train.fanout={most}, " in self.refuse(280, fanout=most + 3)

    def test_where_no_fanout_is_small_enough_a_smaller_batch_is_named(self) -> None:
        # All entities are evaluated over all neighbours, whatever a step draws.
        assert plan_memory(self.recipe(1), self.SIZES).peak("device") > 200_000_000
        message = self.refuse(200)
        assert message.startswith("train.batch_size: expected at most 200 MB on a GPU")
        assert message.endswith("; lower train.batch_size, or raise cluster.num_workers")

    def test_completion_has_no_fanout(self) -> None:
        machines = Machines(1, 1000, None)
        assert Verdict.of(make(), SIZES, machines).fanout is None
        assert not Verdict.of(make(), SIZES, machines).fits


def test_rows_on_the_host_or_on_disk_fit_where_those_on_the_gpu_do_not() -> None:
    plan = {"host_bytes": 1 << 50, "device_bytes": 3 * 10**9}
    for placement, fits in (("device", False), ("host", True), ("disk", True)):
        table = {"kind": "lazy_adam", "placement": placement}
        recipe = make(modalities=[], table=table, cluster=GPU, plan=plan)
        assert Verdict.of(recipe, replace(LARGE, num_ranked=1), Machines.of(recipe)).fits == fits


def test_what_fits_is_let_through() -> None:
    check_fits(make(), SIZES)
    check_fits(make(**ALIGNMENT), LINKED)


def test_machines() -> None:
    assert Machines.of(make()) == Machines(1, host_bytes(), None)
    assert Machines.of(make(), [7, 5, 6]) == Machines(2, 5, None)
    assert Machines.of(make(plan={"num_hosts": 4, "host_bytes": 9})) == Machines(4, 9, None)
    verdict = Verdict.of(make(cluster={"num_workers": 5}), SIZES, Machines(2, 10**12, None))
    assert verdict.workers_per_host == 3
    assert verdict.host_peak == 3 * verdict.memory.peak("host") + 300 * 24
    assert 1 << 28 < host_bytes() < 1 << 50


def test_bytes_for_a_person() -> None:
    assert [gigabytes(num) for num in (12, 1500, 2.5e6, 25.3e9)] == ["12 B", "1.5 kB", "2.5 MB", "25.3 GB"]


COUNTS = {"num_entities": 3000, "num_triples": 4000, "num_links": 600, "widths": {"text": 6}, "calibration_steps": 2}


ALL_ENTITIES = {"method": {"encoder": {"width": 8}, "loss": {"kind": "all_entities"}}}


@pytest.mark.parametrize(
    "changes", [{}, {"table": {"kind": "lazy_adam", "placement": "disk"}}, ALL_ENTITIES, ALIGNMENT]
)
def test_a_plan_is_printed_with_the_time_of_real_steps(changes: Any) -> None:
    plan = RunPlan.of(make(plan=COUNTS, **changes), None, timed=True)
    timed = plan.calibration
    assert timed is not None
    assert timed.compute_seconds > 0
    assert timed.epoch_seconds == pytest.approx(timed.steps * timed.step_seconds)
    text = "\n".join(plan.lines())
    for part in ("a worker holds", "while: evaluation", "at its peak: ", "sends ", "ms here", "a host of 2 workers: "):
        assert part in text
    assert text.endswith("it fits")


def test_a_run_that_does_not_fit_is_not_tried() -> None:
    plan = RunPlan.of(make(plan={**COUNTS, "host_bytes": 1000}), None, timed=True)
    assert plan.calibration is None
    assert plan.lines()[-1] == "it does not fit"


def test_the_network_adds_its_time_between_hosts() -> None:
    recipe = make(plan={**COUNTS, "network_bytes_per_second": 1000.0})
    sizes = GraphSizes.of(recipe, None)
    timed = calibrate(recipe, sizes, 2)
    task = build_task(recipe, sizes)
    sent = Traffic.of(recipe, sizes, StepLoad.of(recipe, sizes, task), task).total
    assert timed.network_seconds == pytest.approx(sent / 1000.0)
    assert timed.step_seconds == pytest.approx(timed.compute_seconds + timed.network_seconds)


def test_a_store_that_is_not_there_is_not_opened(tmp_path: Path) -> None:
    from snag_dist import api

    plan = api.plan(make(store=str(tmp_path / "none"), plan=COUNTS), timed=False)
    assert plan.sizes.num_entities == 3000
    assert plan.calibration is None
