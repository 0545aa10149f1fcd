"""The whole path on a small world: raw graph to test ranks, through Ray Data, Ray Train and DeepSpeed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import snag_dist
from snag_dist.errors import CheckpointError, ConfigError, DataError, NumericError, ResourceError
from snag_dist.training.checkpoint_files import read_pointer
from snag_dist.training.cursor import read_cursor
from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

RECIPE = Path(__file__).parents[1] / "jobs" / "recipes" / "world.toml"


def recipe(folder: Path, *overrides: str) -> Any:
    return load_recipe(
        RECIPE,
        [
            f"store={folder}/store",
            f"runs={folder}/runs",
            "ingest.source.num_entities=300",
            "train.epochs=2",
            "train.evaluate_every=1",
            "train.batch_size=256",
            "train.log_every=2",
            # A schedule over another number of epochs would be another training.
            "train.schedule.kind=constant",
            "method.encoder.width=32",
            "variants={}",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a store and one finished run, `world`."""
    folder = tmp_path_factory.mktemp("world")
    snag_dist.train(recipe(folder))
    return folder


def test_a_run_leaves_everything_behind(world: Path) -> None:
    folder = RunFolder(world / "runs" / "world")
    report = json.loads(folder.metrics("test").read_text())
    assert report["protocol"]["split"] == "test"
    assert report["protocol"]["filtered_by"] == ["train", "valid", "test"]
    assert "dev" in report["protocol"]["selection"]
    status = folder.read_status()
    assert (status["state"], status["ended_by"]) == ("finished", "epochs")
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert set(steps[0]["seconds"]) == {"data", "exchange", "encode", "score", "backward", "step"}
    assert sum("dev" in line for line in lines) == 2
    assert list(folder.tensorboard.glob("events*"))
    best = max(line["dev"]["mrr"] for line in lines if "dev" in line)
    cursor = read_cursor(folder.checkpoints)
    assert cursor is not None
    assert cursor.best_mrr == pytest.approx(best)
    assert read_pointer(folder.checkpoints / "BEST") == f"step-{status['best_step']:08d}"


def test_ranks_on_disk_give_the_metrics_of_the_report(world: Path) -> None:
    folder = RunFolder(world / "runs" / "world")
    table = pq.read_table(folder.ranks("test"))
    report = json.loads(folder.metrics("test").read_text())
    ranks = table["rank_realistic"].to_numpy()
    assert report["metrics"]["realistic"]["mrr"] == pytest.approx(float(np.mean(1 / ranks)))
    assert table.num_rows == 2 * report["protocol"]["num_triples"]


def test_evaluate_repeats_the_figures_of_training_at_another_number_of_workers(world: Path) -> None:
    folder = RunFolder(world / "runs" / "world")
    before = json.loads(folder.metrics("test").read_text())
    for part in folder.ranks("test").glob("*"):
        part.unlink()
    after = snag_dist.evaluate(folder.path, overrides=["cluster.num_workers=1"])
    assert after["metrics"] == before["metrics"]
    dev = snag_dist.evaluate(folder.path, "valid")
    assert dev["protocol"]["split"] == "valid"


def test_an_interrupted_evaluation_goes_on_with_the_block_that_is_missing(world: Path) -> None:
    folder = RunFolder(world / "runs" / "world")
    before = json.loads(folder.metrics("test").read_text())
    for part in folder.ranks("test").glob("*"):
        part.unlink()
    small = ["evaluate.budget_bytes=20000"]
    snag_dist.evaluate(folder.path, overrides=small)
    parts = sorted(folder.ranks("test").glob("part-*"))
    assert len(parts) > 3
    made = {part: part.stat().st_mtime_ns for part in parts}
    for part in parts[-2:]:
        part.unlink()
    assert snag_dist.evaluate(folder.path, overrides=small)["metrics"] == before["metrics"]
    again = [part for part in parts if part.stat().st_mtime_ns != made[part]]
    assert again == parts[-2:]


def rank_anew(folder: RunFolder, precision: str, first_pass: str) -> pa.Table:
    for part in folder.ranks("valid").glob("*"):
        part.unlink()
    overrides = [f"evaluate.precision={precision}", f"evaluate.first_pass={first_pass}"]
    assert snag_dist.evaluate(folder.path, "valid", overrides=overrides)["protocol"]["score_dtype"] == precision
    return pq.read_table(folder.ranks("valid"))


def test_a_first_pass_changes_no_rank(world: Path) -> None:
    folder = RunFolder(world / "runs" / "world")
    assert rank_anew(folder, "float64", "float32").equals(rank_anew(folder, "float64", "exact"))


def test_a_first_pass_in_bfloat16_changes_no_rank(world: Path) -> None:
    snag_dist.train(recipe(world, "name=products", "method.scorer.kind=complex"))
    folder = RunFolder(world / "runs" / "products")
    for precision in ("float32", "float64"):
        assert rank_anew(folder, precision, "bfloat16").equals(rank_anew(folder, precision, "exact"))


@pytest.mark.parametrize(
    ("changes", "first_pass"),
    [(("method.scorer.norm=frobenius", "evaluate.precision=float64"), "float32"), ((), "bfloat16")],
)
def test_a_first_pass_without_a_bound_is_refused(world: Path, changes: tuple[str, ...], first_pass: str) -> None:
    message = rf"evaluate\.first_pass: expected a scorer with a bound on its rounding in {first_pass}, got RotatE"
    with pytest.raises(ConfigError, match=message):
        snag_dist.train(recipe(world, f"name=rootless-{first_pass}", f"evaluate.first_pass={first_pass}", *changes))


def test_the_same_recipe_gives_the_same_ranks(world: Path) -> None:
    first = json.loads(RunFolder(world / "runs" / "world").metrics("test").read_text())
    second = snag_dist.train(recipe(world, "name=again"))["again"]
    assert second["metrics"] == first["metrics"]


def test_a_run_goes_on_where_it_stopped(world: Path) -> None:
    whole = snag_dist.train(recipe(world, "name=whole", "train.epochs=3"))["whole"]
    snag_dist.train(recipe(world, "name=parts", "train.epochs=2"))
    # As an interruption after two epochs leaves it: the longer recipe, unfinished.
    folder = RunFolder(world / "runs" / "parts")
    longer = recipe(world, "name=parts", "train.epochs=3")
    folder.config.write_text(json.dumps(longer.to_tree()))
    folder.write_status(state="failed")
    for part in folder.ranks("test").glob("*"):
        part.unlink()
    assert snag_dist.train(longer)["parts"]["metrics"] == whole["metrics"]


def test_streamed_triples_train_as_well(world: Path) -> None:
    report = snag_dist.train(recipe(world, "name=streamed", "train.residency.kind=stream"))["streamed"]
    losses = [json.loads(line) for line in RunFolder(world / "runs" / "streamed").log.read_text().splitlines()]
    losses = [line["loss"] for line in losses if "loss" in line]
    assert losses[-1] < losses[0]
    assert report["metrics"]["num_queries"] > 0


def test_variants_share_the_store_and_differ_where_they_say(world: Path) -> None:
    varied = recipe(
        world,
        "name=varied",
        "train.epochs=1",
        'variants={"graph-only"={modalities=[], "method.encoder.fusion.kind"="graph"}}',
    )
    reports = snag_dist.train(varied)
    assert list(reports) == ["varied", "varied-graph-only"]
    assert reports["varied-graph-only"]["protocol"]["channels"] == {}
    assert set(reports["varied"]["protocol"]["channels"]) == {"text", "vision"}


def test_a_used_name_is_refused(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"run name 'world' is already used by a finished run; choose another"):
        snag_dist.train(recipe(world))
    with pytest.raises(ConfigError, match=r"run name 'world' is already used by a run with another recipe"):
        snag_dist.train(recipe(world, "train.lr=0.5"))


def test_more_workers_than_the_cluster_has(world: Path) -> None:
    with pytest.raises(ResourceError, match=r"cluster\.num_workers: 40 workers of 0\.5 CPUs need 20 CPUs, .* has 4"):
        snag_dist.train(recipe(world, "name=many", "cluster.num_workers=40"))
    streamed = ("train.residency.kind=stream", "cluster.num_workers=4", "cluster.cpus_per_worker=1.0")
    with pytest.raises(ResourceError, match=r"and 1 for Ray Data need 5 CPUs"):
        snag_dist.train(recipe(world, "name=starved", *streamed))
    assert not (world / "runs" / "many").exists()
    assert not (world / "runs" / "starved").exists()


def test_a_loss_that_is_not_finite_ends_the_run_in_one_line(world: Path) -> None:
    with pytest.raises(NumericError, match=r"epoch \d+ step \d+: expected a finite loss .* lower train\.lr"):
        snag_dist.train(recipe(world, "name=burnt", "train.lr=1e25", "train.epochs=5"))
    assert RunFolder(world / "runs" / "burnt").read_status()["state"] == "failed"


def test_a_modality_the_store_lacks(world: Path) -> None:
    with pytest.raises(DataError, match=r"modality 'sound' is not in the store \(it has: text, vision\)"):
        snag_dist.train(recipe(world, "name=deaf", 'modalities=["sound"]'))


def test_a_store_that_changed_under_a_run(world: Path, tmp_path: Path) -> None:
    other = recipe(tmp_path, "ingest.seed=1")
    snag_dist.ingest(other)
    tree = {**recipe(world).to_tree(), "store": str(tmp_path / "store")}
    folder = RunFolder(tmp_path / "runs" / "world")
    folder.path.mkdir(parents=True)
    folder.config.write_text(json.dumps({**tree, "runs": str(tmp_path / "runs")}))
    folder.write_status(store_fingerprint=RunFolder(world / "runs" / "world").read_status()["store_fingerprint"])
    with pytest.raises(CheckpointError, match=r"fingerprint .* differs from .* began on"):
        snag_dist.evaluate(folder.path)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a run folder with config\.json, found none"):
        snag_dist.evaluate(tmp_path)
