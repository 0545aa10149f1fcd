"""Every method and every variant that the recipes compare trains on one worker and on two, to the same test ranks."""

import json
import tomllib
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from distributed import run_distributed
from small_pair import write_pair

import snag_dist
from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.choices import AlignmentMethod, CompletionMethod
from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.worker import Worker, WorkerContext

pytestmark = [pytest.mark.ray, pytest.mark.distributed, pytest.mark.usefixtures("local_ray")]

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
TINY = {
    "completion": (
        "world.toml",
        (
            "ingest.source.num_entities=300",
            "method.encoder.width=32",
            "train.batch_size=256",
            "method.negatives.num=16",
        ),
    ),
    "alignment": (
        "zh_en.toml",
        ("links.train_share=0.5", "links.dev_share=0.2", "method.encoder.width=16", "train.batch_size=16"),
    ),
}
METHODS = {"completion": CompletionMethod, "alignment": AlignmentMethod}
Case = tuple[str, tuple[str, ...]]
# Methods of alignment with either structure encoder, on the graph alone: the bags of the small pair tell its entities
# apart by themselves. These have eight neighbours on average, of which a few or more than all are drawn.
SAMPLED = {"snag_alignment": "gat", "eva": "gcn"}
FANOUTS = (2, 100)


def listed_variants() -> dict[str, Case]:
    """Name the methods, sampled ones, and the variants of the recipes that compare methods; equal ones once.

    Returns:
        Task and overrides.
    """
    found: dict[str, Case] = {}
    for task, methods in METHODS.items():
        for config in get_args(methods):
            kind = config.model_fields["kind"].default
            found[kind] = (task, (f"method.kind={kind}",))
    for kind, fanout in product(SAMPLED, FANOUTS):
        overrides = (f"method.kind={kind}", "modalities=[]", f"train.fanout={fanout}")
        found[f"{kind}, fanout {fanout}"] = ("alignment", overrides)
    for path in sorted(RECIPES.rglob("*_methods.toml")):
        task = load_recipe(path).task
        for name, changes in tomllib.loads(path.read_text())["variants"].items():
            case = (task, tuple(f"{key}={json.dumps(value)}" for key, value in changes.items()))
            if case not in found.values():
                found[f"{path.name}: {name}"] = case
    return found


VARIANTS = listed_variants()


def recipe(folder: Path, case: str, num_workers: int) -> Recipe:
    task, overrides = VARIANTS[case]
    file, sizes = TINY[task]
    # Another kind of method begins its section anew, so sizes come after it, and what a variant asks for last.
    kind = [change for change in overrides if change.startswith("method.kind=")]
    return load_recipe(
        RECIPES / file,
        [
            *(f"{name}={folder}/{place}" for name, place in (("store", task), ("runs", f"runs-{num_workers}"))),
            *((f"data={folder}/raw",) if task == "alignment" else ()),
            f"name=case-{sorted(VARIANTS).index(case)}",
            "ingest.virtual_shards=8",
            "variants={}",
            "train.epochs=2",
            "train.evaluate_every=1",
            # Ranks of a model in float32 depend on the order of its sums where candidates are nearly equal.
            "train.engine.precision=float64",
            *kind,
            *sizes,
            *(change for change in overrides if change not in kind),
        ],
    )


def test_variants_keep_what_they_ask_for(tmp_path: Path) -> None:
    files = {case.split(":")[0] for case in VARIANTS if ":" in case}
    assert {"db15k_methods.toml", "fr_en_methods.toml"} <= files
    assert len(set(VARIANTS.values())) == len(VARIANTS)
    adversary = recipe(tmp_path, "db15k_methods.toml: adamf-mat", 1).method
    assert isinstance(adversary, AdamfConfig)
    assert (adversary.encoder.width, adversary.negatives.num) == (32, 512)
    assert adversary.adversary is not None
    for kind, structure in SAMPLED.items():
        sampled = recipe(tmp_path, f"{kind}, fanout 2", 2)
        assert isinstance(sampled.method, AlignmentMethod)
        assert (sampled.method.encoder.structure.kind, sampled.train.fanout) == (structure, 2)


def train_all(group: Group, folder: Path) -> dict[str, Any]:
    """Train every case as the worker of a run does; the reports by case."""
    found: dict[str, Any] = {}
    for case, (task, _) in VARIANTS.items():
        triples = open_store(folder / task).triples("train") if task == "completion" else None
        worker = Worker(recipe(folder, case, group.size), WorkerContext(group=group, report=ignore, triples=triples))
        found[case] = worker.train()
    return found


def ignore(metrics: dict[str, Any]) -> None:
    """Report to nobody."""


def figures_of(report: dict[str, Any]) -> list[float]:
    """MRR of every way of ranking, in the order of the report."""
    if "results" in report:
        return [result["metrics"]["realistic"]["mrr"] for result in report["results"]]
    return [report["metrics"]["realistic"]["mrr"]]


@pytest.fixture(scope="module")
def reports(group: Group, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("methods")
    (folder / "raw").mkdir()
    write_pair(folder / "raw")
    for kind in ("snag", "snag_alignment"):
        snag_dist.ingest(recipe(folder, kind, 1))
    return {1: train_all(group, folder), 2: run_distributed(train_all, 2, folder)[0]}


@pytest.mark.parametrize("case", VARIANTS)
def test_it_trains_on_one_worker_and_on_two(reports: dict[int, dict[str, Any]], case: str) -> None:
    alone, both = (figures_of(reports[size][case]) for size in (1, 2))
    assert all(0 < figure <= 1 for figure in alone)
    assert both == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("kind", SAMPLED)
def test_sampled_neighbours_make_another_model(reports: dict[int, dict[str, Any]], kind: str) -> None:
    few, everyone = (figures_of(reports[1][f"{kind}, fanout {fanout}"]) for fanout in FANOUTS)
    assert few != everyone
