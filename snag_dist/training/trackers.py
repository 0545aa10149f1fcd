"""Experiment trackers beside TensorBoard: MLflow and Weights & Biases, where a recipe asks for them.

Neither package is imported otherwise. Keys and passwords come from the environment that the packages read themselves
(MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, WANDB_API_KEY); a recipe, which is printed and kept with the run,
must not hold them.
"""

import importlib.util
import json
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import field_validator

from snag_dist.config import Config
from snag_dist.errors import ConfigError
from snag_dist.redaction import hide_secrets, is_secret_name
from snag_dist.training.recorder import Recorder, flatten
from snag_dist.training.run_folder import RunFolder, write_json

logger = logging.getLogger("snag_dist")

_MAX_PARAMETERS, _MAX_TEXT = 100, 500
"""What MLflow takes in one call, and in one value."""


class MlflowConfig(Config):
    """Record to an MLflow server or database."""

    tracking_uri: str
    """Of the server, http://host:5000, or of a database, sqlite:////shared/mlflow.db; without user, password, token."""
    experiment: str = "snag_dist"
    """Made where it is not there."""

    @field_validator("tracking_uri")
    @classmethod
    def _refuse_secrets(cls, uri: str) -> str:
        parts = urlsplit(uri)
        named = [key for key, _ in parse_qsl(f"{parts.query}&{parts.fragment}", keep_blank_values=True)]
        if parts.password is not None or parts.username is not None or any(map(is_secret_name, named)):
            # Not a ValueError: its message would show the value.
            raise ConfigError(
                f"telemetry.mlflow.tracking_uri: expected a URI without user, password and token, got "
                f"{hide_secrets(uri)!r}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN, where the workers run"
            )
        return uri


class WandbConfig(Config):
    """Record to Weights & Biases."""

    project: str
    """Of the account that WANDB_API_KEY belongs to."""
    mode: Literal["online", "offline"] = "online"
    """offline keeps the record in the run folder, for `wandb sync`."""


class TelemetryConfig(Config):
    """Where the numbers of a run go, beside its log, TensorBoard and the cluster's gauges."""

    mlflow: MlflowConfig | None = None
    """MLflow; unset leaves it alone."""
    wandb: WandbConfig | None = None
    """Weights & Biases; unset leaves it alone."""


def check_packages(config: TelemetryConfig) -> None:
    """Look for the packages that a recipe asks for, without importing them.

    Raises:
        ConfigError: one is not installed.
    """
    for name, section in (("mlflow", config.mlflow), ("wandb", config.wandb)):
        if section is not None and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"telemetry.{name}: expected the package {name}, found none; pip install 'snag-dist[{name}]' on every "
                f"node, or leave telemetry.{name} out"
            )


def open_trackers(config: TelemetryConfig, folder: RunFolder, recipe: Mapping[str, Any]) -> list[Recorder]:
    """Open what a recipe asks for; a run that goes on is taken up where its tracker has it.

    Args:
        config: section `telemetry` of the recipe.
        folder: of the run; its name is that of the run in the tracker.
        recipe: resolved, kept with the run.

    Raises:
        ConfigError: a package is not installed, or the tracker cannot be reached.
    """
    check_packages(config)
    trackers: list[Recorder] = []
    if config.mlflow is not None:
        trackers.append(MlflowTracker(config.mlflow, folder, recipe))
    if config.wandb is not None:
        trackers.append(WandbTracker(config.wandb, folder, recipe))
    return trackers


class MlflowTracker(Recorder):
    """A run in MLflow."""

    def __init__(self, config: MlflowConfig, folder: RunFolder, recipe: Mapping[str, Any]):
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._metric, self._error = Metric, MlflowException
        self._warned = False
        known = _Identities(folder.path / "trackers.json")
        try:
            self._client: Any = MlflowClient(tracking_uri=config.tracking_uri)
            self._run: str = known.get("mlflow") or self._begin(config, folder, recipe, Param)
        except MlflowException as error:
            raise ConfigError(
                f"telemetry.mlflow.tracking_uri: expected MLflow at {config.tracking_uri!r}, got: "
                f"{str(error).splitlines()[0]}; mend the URI or leave telemetry.mlflow out"
            ) from error
        known.put("mlflow", self._run)

    def _begin(self, config: MlflowConfig, folder: RunFolder, recipe: Mapping[str, Any], param: Any) -> str:
        client = self._client
        found = client.get_experiment_by_name(config.experiment)
        experiment = client.create_experiment(config.experiment) if found is None else found.experiment_id
        run: str = client.create_run(experiment, run_name=folder.path.name).info.run_id
        parameters = [param(name, text[:_MAX_TEXT]) for name, text in _leaves(recipe).items() if text]
        for start in range(0, len(parameters), _MAX_PARAMETERS):
            client.log_batch(run, params=parameters[start : start + _MAX_PARAMETERS])
        return run

    def record(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Recorder.record`. A tracker that is out of reach ends no run: the log has the numbers too."""
        moment = int(values["time"] * 1000)
        numbers = {**flatten(values), "epoch": float(epoch)}
        metrics = [self._metric(name, value, moment, step) for name, value in numbers.items()]
        try:
            self._client.log_batch(self._run, metrics=metrics)
        except self._error as error:
            if not self._warned:
                logger.warning("telemetry.mlflow: numbers are missing there: %s", str(error).splitlines()[0])
            self._warned = True

    def close(self) -> None:
        """See `Recorder.close`."""
        try:
            self._client.set_terminated(self._run)
        except self._error as error:
            logger.warning("telemetry.mlflow: the run was left open there: %s", str(error).splitlines()[0])


class WandbTracker(Recorder):
    """A run in Weights & Biases; it takes no step twice, so those taken again after a restart are not shown."""

    def __init__(self, config: WandbConfig, folder: RunFolder, recipe: Mapping[str, Any]):
        import wandb
        from wandb.errors import Error

        known = _Identities(folder.path / "trackers.json")
        identity = known.get("wandb") or secrets.token_hex(8)
        try:
            self._run: Any = wandb.init(
                project=config.project,
                name=folder.path.name,
                id=identity,
                resume="allow",
                mode=config.mode,
                dir=str(folder.path),
                config=json.loads(hide_secrets(json.dumps(recipe))),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Error as error:
            raise ConfigError(
                f"telemetry.wandb: expected Weights & Biases to take the run, got: {str(error).splitlines()[0]}; set "
                "WANDB_API_KEY where the workers run, or telemetry.wandb.mode = 'offline'"
            ) from error
        known.put("wandb", identity)

    def record(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Recorder.record`."""
        self._run.log({**flatten(values), "epoch": epoch}, step=step)

    def close(self) -> None:
        """See `Recorder.close`."""
        self._run.finish()


class _Identities:
    """What the trackers call a run, kept in its folder so that a run which goes on stays one run."""

    def __init__(self, path: Path):
        self._path = path

    def get(self, tracker: str) -> str | None:
        return self._read().get(tracker)

    def put(self, tracker: str, identity: str) -> None:
        write_json(self._path, {**self._read(), tracker: identity})

    def _read(self) -> dict[str, str]:
        return json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else {}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the values of a tree as text by dotted path, without secrets of URLs."""
    leaves: dict[str, str] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        leaves |= _leaves(value, f"{path}.") if isinstance(value, Mapping) else {path: hide_secrets(str(value))}
    return leaves
