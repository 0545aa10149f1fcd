"""Alignment on two small graphs: raw files to ranks, through Ray Data, Ray Train and DeepSpeed, both stages."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_pair import NUM_LINKS as NUM
from small_pair import write_pair

import snag_dist
from snag_dist.errors import ConfigError, DataError
from snag_dist.evaluation.alignment_report import read_alignment_report
from snag_dist.evaluation.modality_weights import read_weights
from snag_dist.training.checkpoint import best_of, read_pointer
from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

RECIPE = Path(__file__).parents[1] / "jobs" / "recipes" / "zh_en.toml"


def recipe(folder: Path, *overrides: str) -> Any:
    return load_recipe(
        RECIPE,
        [
            f"data={folder}/raw",
            f"store={folder}/store",
            f"runs={folder}/runs",
            "name=pair",
            "variants={}",
            "ingest.virtual_shards=8",
            "links.train_share=0.5",
            "links.dev_share=0.2",
            "method.encoder.width=16",
            "method.attention.feed_forward_width=24",
            "train.epochs=12",
            "train.lr=0.02",
            "train.batch_size=30",
            "train.evaluate_every=4",
            "iterative={epochs=4, every=1, checks=2, lr_factor=0.5}",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with raw files, a store and one finished run, `pair`."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "raw").mkdir()
    write_pair(folder / "raw")
    snag_dist.train(recipe(folder))
    return folder


def test_both_stages_are_reported(pair: Path) -> None:
    folder = RunFolder(pair / "runs" / "pair")
    plain = read_alignment_report(folder.metrics("test-plain"))
    iterative = read_alignment_report(folder.metrics("test"))
    assert (plain.protocol.stage, iterative.protocol.stage) == ("plain", "iterative")
    assert plain.mining is None
    assert iterative.mining is not None
    assert [record.check for record in iterative.mining] == [1, 2, 3, 4][: len(iterative.mining)]
    assert len(plain.results) == 8
    # 60 pairs, of which chance finds one in sixty first.
    assert plain.protocol.num_pairs == 60
    assert plain.headline.metrics.realistic.mrr > 0.3
    assert plain.find("all", "csls", "left_to_right").num_candidates == NUM
    assert plain.find("all", "csls", "left_to_right").metrics.realistic.mrr <= plain.headline.metrics.realistic.mrr
    assert read_pointer(folder.checkpoints / best_of("plain")) != read_pointer(folder.checkpoints / "BEST")


def test_ranks_on_disk_give_the_metrics_of_the_report(pair: Path) -> None:
    folder = RunFolder(pair / "runs" / "pair")
    report = read_alignment_report(folder.metrics("test"))
    table = pq.read_table(folder.ranks("test-all-csls")).to_pandas()
    for direction, asked in (("left_to_right", "tail"), ("right_to_left", "head")):
        ranks = table.loc[table["direction"] == asked, "rank_realistic"]
        found = report.find("all", "csls", direction).metrics.realistic.mrr  # pyright: ignore[reportArgumentType]
        assert found == pytest.approx(float((1 / ranks).mean()))


def test_the_log_tells_of_stages_and_mining(pair: Path) -> None:
    lines = [json.loads(line) for line in RunFolder(pair / "runs" / "pair").log.read_text().splitlines()]
    assert [line["stage"] for line in lines if "dev" in line] == ["plain"] * 3 + ["iterative"]
    assert sum("mining" in line for line in lines) == 4
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]


def test_weights_of_the_modalities(pair: Path) -> None:
    weights = read_weights(RunFolder(pair / "runs" / "pair").weights)
    assert weights.names == ("graph", "attribute", "relation")
    assert sum(pattern.num_entities for pattern in weights.patterns) == 2 * NUM
    assert all(sum(pattern.mean.values()) == pytest.approx(1.0) for pattern in weights.patterns)


def test_evaluate_repeats_the_figures_at_another_number_of_workers(pair: Path) -> None:
    folder = RunFolder(pair / "runs" / "pair")
    before = read_alignment_report(folder.metrics("test"))
    for part in folder.ranks(".").glob("test-*/part-*"):
        part.unlink()
    snag_dist.evaluate(folder.path, overrides=["cluster.num_workers=1"])
    assert read_alignment_report(folder.metrics("test")) == before
    dev = snag_dist.evaluate(folder.path, "valid")
    assert dev["protocol"]["num_pairs"] == 12
    with pytest.raises(ConfigError, match=r"--split: expected one of test, valid, new, got 'train'"):
        snag_dist.evaluate(folder.path, "train")


def test_an_evaluation_goes_on_with_the_list_of_candidates_that_is_missing(pair: Path) -> None:
    folder = RunFolder(pair / "runs" / "pair")
    before = read_alignment_report(folder.metrics("test"))
    made = {
        part: part.stat().st_mtime_ns for part in folder.ranks(".").glob("test-*/part-*") if "plain" not in str(part)
    }
    assert len(made) == 4
    gone = folder.ranks("test-all-cosine")
    next(part for part in made if part.parent == gone).unlink()
    snag_dist.evaluate(folder.path)
    assert read_alignment_report(folder.metrics("test")) == before
    again = {part for part, time in made.items() if part.stat().st_mtime_ns != time}
    assert {part.parent.name for part in again} == {"test-all-cosine", "test-all-csls"}
    # Ranks under other neighbours are of another evaluation.
    snag_dist.evaluate(folder.path, overrides=["evaluate.k_csls=1"])
    assert all(part.stat().st_mtime_ns != time for part, time in made.items())


def test_a_run_goes_on_in_the_iterative_stage(pair: Path) -> None:
    longer = ("iterative={epochs=6, every=1, checks=2, lr_factor=0.5}", "train.schedule.kind=constant")
    shorter = ("iterative={epochs=4, every=1, checks=2, lr_factor=0.5}", "train.schedule.kind=constant")
    whole = snag_dist.train(recipe(pair, "name=whole", *longer))["whole"]
    snag_dist.train(recipe(pair, "name=parts", *shorter))
    # As an interruption after four epochs of the stage leaves it: the longer recipe, unfinished.
    folder = RunFolder(pair / "runs" / "parts")
    resumed = recipe(pair, "name=parts", *longer)
    folder.config.write_text(json.dumps(resumed.to_tree()))
    folder.write_status(state="failed")
    parts = snag_dist.train(resumed)["parts"]
    assert parts["results"] == whole["results"]
    assert parts["mining"] == whole["mining"]


def test_missing_values_are_laid_over_the_store(pair: Path) -> None:
    report = snag_dist.train(recipe(pair, "name=sparse", "missing.attribute=0.25", "train.epochs=4"))["sparse"]
    assert report["protocol"]["missing"] == {"attribute": 0.25}
    weights = read_weights(RunFolder(pair / "runs" / "sparse").weights)
    having = sum(p.num_entities for p in weights.patterns if "attribute" in p.present)
    assert having == 60


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (("links.train_share=0.001",), ConfigError, r"train_share, dev_share: expected links for train and for test"),
        (
            ("missing.names=0.5",),
            ConfigError,
            r"missing\.names: expected a modality that the run uses \(attribute, rel",
        ),
        (("ingest.repair={dev_share=0.1}",), ConfigError, r"expected no repair beside an alignment source"),
        (("method.kind=snag",), ConfigError, r"iterative: expected a method of alignment, got 'snag'"),
        (('modalities=["sound"]',), DataError, r"modality 'sound' is not in the store"),
    ],
)
def test_what_cannot_be_aligned_is_told_in_one_line(
    pair: Path, overrides: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        snag_dist.train(recipe(pair, "name=wrong", *overrides))
    assert not (pair / "runs" / "wrong").exists()


def test_a_store_of_one_graph_has_no_links(tmp_path: Path) -> None:
    world = RECIPE.with_name("world.toml")
    places = [f"store={tmp_path}/store", f"runs={tmp_path}/runs", "variants={}", "ingest.source.num_entities=200"]
    with pytest.raises(DataError, match=r"expected a store of two graphs with links, .* kind 'alignment'"):
        snag_dist.train(load_recipe(world, [*places, "method.kind=mclea"]))
