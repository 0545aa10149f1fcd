"""What a run records: the log, gauges by rank, and trackers that are asked for."""

import json
import logging
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from snag_dist.errors import ConfigError
from snag_dist.method.snag import SnagConfig
from snag_dist.shard.group import Group
from snag_dist.training.completion import count_candidates
from snag_dist.training.gauges import GAUGES, read_gauges
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.recorder import flatten
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.telemetry import Telemetry
from snag_dist.training.trackers import TelemetryConfig, check_packages, open_trackers

WORLD = Path(__file__).parents[2] / "jobs" / "recipes" / "world.toml"
INTERVAL = {
    "loss": 2.5,
    "terms": {"positive": 1.0, "negative": 1.5},
    "gradient_norm": 0.5,
    "rows_encoded": 900.0,
    "triples_per_second": 1000.0,
    "steps": 4,
    "elapsed_seconds": 2.0,
    "lr": 1e-3,
    "seconds": {"exchange": 0.4, "encode": 1.2},
}
EVALUATION = {"stage": "plain", "dev": {"mrr": 0.25, "hits@1": 0.1}, "best_dev_mrr": 0.3, "evaluation_seconds": 1.5}


def recipe_with(*overrides: str) -> Recipe:
    return load_recipe(WORLD, list(overrides))


def lines_of(folder: RunFolder) -> list[dict[str, object]]:
    return [json.loads(line) for line in folder.log.read_text().splitlines()]


def test_numbers_of_a_tree_by_path() -> None:
    assert flatten({"a": 1, "b": {"c": 2.5, "d": {"e": 3}}, "word": "x", "flag": True}) == {
        "a": 1,
        "b/c": 2.5,
        "b/d/e": 3,
    }


def test_an_interval_is_joined_by_bytes_and_candidates(tmp_path: Path) -> None:
    folder, group = RunFolder(tmp_path / "run"), Group()
    group.bytes_sent = 100
    telemetry = Telemetry(folder, group, recipe_with(), num_candidates=256)
    group.bytes_sent += 4000
    telemetry.log(4, 0, INTERVAL)
    telemetry.log(4, 1, EVALUATION)
    telemetry.log(8, 1, INTERVAL)
    telemetry.close()
    first, evaluation, second = lines_of(folder)
    assert (first["step"], first["exchange_bytes"], first["candidates_per_second"]) == (4, 4000, 256_000.0)
    assert second["exchange_bytes"] == 0
    assert "exchange_bytes" not in evaluation
    assert evaluation["dev"] == EVALUATION["dev"]
    assert list(folder.tensorboard.glob("events.*"))


def test_half_a_line_of_a_process_that_was_killed_goes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for step in (4, 8, 12):
        telemetry = Telemetry(folder, Group(), recipe_with())
        telemetry.log(step, 0, INTERVAL)
        telemetry.close()
        folder.log.write_bytes(folder.log.read_bytes()[: -20 if step == 8 else None])
    assert [line["step"] for line in lines_of(folder)] == [4, 12]
    assert folder.whole_log_bytes() == folder.log.stat().st_size


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["method.negatives.num=64", "method.negatives.sides=bernoulli"], 64),
        (["method.negatives.num=64", "method.negatives.sides=both"], 128),
        (["method.loss.kind=all_entities"], 2000),
        (["method.loss.kind=all_entities", "method.loss.sides=bernoulli"], 1000),
    ],
)
def test_candidates_of_a_triple(overrides: list[str], expected: int) -> None:
    method = recipe_with(*overrides).method
    assert isinstance(method, SnagConfig)
    assert count_candidates(method, 1000) == expected


def test_only_rank_0_writes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    telemetry = Telemetry(folder, Group(rank=1, size=2), recipe_with())
    telemetry.log(4, 0, INTERVAL)
    telemetry.close()
    assert not folder.path.exists()


def test_gauges_of_rank_0() -> None:
    record = {**INTERVAL, "exchange_bytes": 4000, "candidates_per_second": 256_000.0}
    read = {(reading.name, *reading.tags.values()): reading.value for reading in read_gauges(4, 2, record, 0)}
    assert read[("snag_dist_step",)] == 4
    assert read[("snag_dist_epoch",)] == 2
    assert read[("snag_dist_loss",)] == 2.5
    assert read[("snag_dist_loss_term", "negative")] == 1.5
    assert read[("snag_dist_examples_per_second", "triples")] == 1000.0
    assert read[("snag_dist_candidates_per_second",)] == 256_000.0
    assert read[("snag_dist_rows_touched",)] == 900.0
    # By step, so that the length of an interval does not show.
    assert read[("snag_dist_phase_seconds", "encode", "0")] == pytest.approx(0.3)
    assert read[("snag_dist_exchange_bytes", "0")] == 1000
    evaluation = {reading.name: reading.value for reading in read_gauges(4, 2, EVALUATION, 0)}
    assert (evaluation["snag_dist_dev_mrr"], evaluation["snag_dist_best_dev_mrr"]) == (0.25, 0.3)


def test_gauges_of_other_ranks_are_their_own() -> None:
    readings = read_gauges(4, 2, {**INTERVAL, "exchange_bytes": 40}, 3)
    assert {reading.name for reading in readings} == {"snag_dist_phase_seconds", "snag_dist_exchange_bytes"}
    assert {reading.tags["rank"] for reading in readings} == {"3"}
    assert read_gauges(4, 2, EVALUATION, 3) == []


def test_readings_have_the_tags_that_were_declared() -> None:
    readings = read_gauges(4, 2, {**INTERVAL, **EVALUATION, "exchange_bytes": 1, "candidates_per_second": 1.0}, 0)
    assert all(set(reading.tags) == set(GAUGES[reading.name].tags) for reading in readings)
    by_folder = {"snag_dist_checkpoint_time", "snag_dist_restarts"}
    assert {reading.name for reading in readings} | by_folder == set(GAUGES)


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_named_with_the_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    section = {"mlflow": {"tracking_uri": "http://host"}, "wandb": {"project": "x"}}[package]
    config = TelemetryConfig.model_validate({package: section})
    with pytest.raises(ConfigError) as caught:
        check_packages(config)
    assert str(caught.value) == (
        f"telemetry.{package}: expected the package {package}, found none; pip install 'snag-dist[{package}]' on every "
        f"node, or leave telemetry.{package} out"
    )


def test_no_package_is_imported_unless_asked_for(tmp_path: Path) -> None:
    before = {name for name in ("mlflow", "wandb") if name in sys.modules}
    check_packages(TelemetryConfig())
    assert open_trackers(TelemetryConfig(), RunFolder(tmp_path), {}) == []
    assert {name for name in ("mlflow", "wandb") if name in sys.modules} == before


@pytest.mark.parametrize(
    "uri",
    [
        "https://me:hunter2@host/x",
        "postgresql://hunter2@db/mlflow",
        "https://host/?token=hunter2",
        "https://host/x?a=1&access_token=hunter2&b=2",
        "https://host/?api%5Fkey=hunter2",
        "https://host/?X-Amz-Signature=hunter2#x",
        "https://host/#Password=hunter2",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(
        ConfigError, match=r"expected a URI without user, password and token, got .*MLFLOW_TRACKING_TOKEN"
    ) as caught:
        recipe_with(f"telemetry.mlflow.tracking_uri={uri}")
    assert "hunter2" not in str(caught.value)


def test_a_uri_with_harmless_keys_is_taken() -> None:
    uri = "http://host:5000/?workspace=a&page=2"
    taken = recipe_with(f"telemetry.mlflow.tracking_uri={uri}").telemetry.mlflow
    assert taken is not None and taken.tracking_uri == uri


def test_mlflow_keeps_one_run_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path}/mlruns"
    recipe = recipe_with(f"telemetry.mlflow.tracking_uri={uri}", "telemetry.mlflow.experiment=trial")
    folder = RunFolder(tmp_path / "world")
    for step in (4, 8):
        telemetry = Telemetry(folder, Group(), recipe)
        telemetry.log(step, 1, {**INTERVAL, "loss": 1.0 / step})
        telemetry.close()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("trial")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.run_name for run in runs] == ["world"]
    losses = client.get_metric_history(runs[0].info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in losses] == [(4, 0.25), (8, 0.125)]
    assert runs[0].data.params["method.kind"] == "snag"
    assert runs[0].data.metrics["seconds/encode"] == 1.2


def test_a_tracker_out_of_reach_is_one_line(tmp_path: Path) -> None:
    recipe = recipe_with("telemetry.mlflow.tracking_uri=nonsense://nowhere")
    with pytest.raises(
        ConfigError, match=r"tracking_uri: expected MLflow at 'nonsense://nowhere', got: .*; mend"
    ) as caught:
        Telemetry(RunFolder(tmp_path / "run"), Group(), recipe)
    assert "\n" not in str(caught.value)


def test_mlflow_that_fails_later_is_a_warning_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = RunFolder(tmp_path / "run")
    telemetry = Telemetry(folder, Group(), recipe_with(f"telemetry.mlflow.tracking_uri=file://{tmp_path}/mlruns"))
    next((tmp_path / "mlruns").glob("*/*/meta.yaml")).parent.rename(tmp_path / "gone")
    with caplog.at_level(logging.WARNING, logger="snag_dist"):
        telemetry.log(4, 0, INTERVAL)
        telemetry.log(8, 0, INTERVAL)
    assert sum("numbers are missing there" in message for message in caplog.messages) == 1
    assert [line["step"] for line in lines_of(folder)] == [4, 8]


def test_wandb_offline_keeps_the_record_in_the_run_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    telemetry = Telemetry(folder, Group(), recipe_with("telemetry.wandb={project='x', mode='offline'}"))
    telemetry.log(4, 0, INTERVAL)
    telemetry.close()
    assert list((folder.path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(json.loads((folder.path / "trackers.json").read_text())["wandb"]) == 16


def test_trackers_are_told_no_secret_of_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path}/mlruns"
    recipe = recipe_with(
        "data=https://me:hunter2@host/graph?token=hunter2",
        f"telemetry.mlflow.tracking_uri={uri}",
        "telemetry.wandb={project='x', mode='offline'}",
    )
    telemetry = Telemetry(RunFolder(tmp_path / "run"), Group(), recipe)
    telemetry.log(4, 0, INTERVAL)
    telemetry.close()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"https://...@host/graph?token=..." in content for content in written)
    assert not any(b"hunter2" in content for content in written)
