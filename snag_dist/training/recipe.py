"""Everything a person chooses for a run, in one tree; a recipe file holds the part that differs from the defaults."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from snag_dist.config import Config, read_recipe, set_path, validate
from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.choices import AlignmentMethod, MethodConfig
from snag_dist.method.snag import SnagConfig
from snag_dist.shard.row_optimizers import AdamConfig, TableConfig
from snag_dist.store.extract import FeatureConfig
from snag_dist.store.holdout import HoldoutConfig
from snag_dist.store.ingest import IngestConfig
from snag_dist.store.missing import MissingConfig
from snag_dist.store.stream import ResidencyConfig, choose_residency
from snag_dist.training.checkpoint import CheckpointConfig
from snag_dist.training.engine import EngineConfig
from snag_dist.training.plan.config import PlanConfig
from snag_dist.training.schedule import ScheduleConfig
from snag_dist.training.trackers import TelemetryConfig

NEW = "new"
"""What is scored of the entities that were held out, beside the splits of the store."""
TUNE_SECTION = "tune"
"""Section of a recipe file that is not the run's: how it is searched around (see snag_dist.tune)."""


class TrainConfig(Config):
    """How long and how fast to learn."""

    epochs: int = Field(default=50, ge=1)
    """Passes over the training triples, at most; early stopping or `max_minutes` may end sooner."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Minutes of steps and dev evaluations, by the first worker's clock, after which the run ends with the step it is
    in, as if that were the last: dev is evaluated once more, and the best checkpoint scored. They count on where a run
    goes on; starts of workers are not in them. Where it ends depends on the machine, and a schedule goes by `epochs`:
    `cosine` does not come down to zero unless they are chosen for it. Unset does not limit. Not with `iterative`."""
    batch_size: int = Field(default=1024, ge=1)
    """Triples in the global batch, over all workers."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the dense parameters; rows use it times `table.lr_scale`."""
    schedule: ScheduleConfig = ScheduleConfig()
    """Learning rate over the run."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest norm of the gradient over dense parameters and rows together; 0 leaves it alone."""
    engine: EngineConfig = EngineConfig()
    """DeepSpeed, precision and the dense optimiser."""
    residency: ResidencyConfig = ResidencyConfig()
    """Triples in memory, once a node, or streamed from the store."""
    evaluate_every: int = Field(default=5, ge=1)
    """Epochs between evaluations of the dev split; each writes a checkpoint."""
    patience: int = Field(default=10, ge=1)
    """Evaluations without a better dev MRR after which the run stops."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints between evaluations, and how many stay."""
    log_every: int = Field(default=20, ge=1)
    """Steps in a log interval."""
    verify_store: bool = True
    """Hash what a run reads of the store whenever its workers start, each its own share, and refuse a file that was
    changed since it was written. Takes a second for every 1 to 2 GB of a worker's features; false opens the store at
    once, and a byte that a disk has changed is trained on."""
    fanout: int | None = Field(default=None, ge=1)
    """Neighbours that each layer of a structure encoder draws for an entity, anew every step; unset takes all. For
    alignment on graphs whose neighbourhoods do not fit; evaluation always takes all."""


class LinksConfig(Config):
    """Which links between two graphs are for training, dev and test."""

    train_share: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Part of all links that train and dev get together; published .3 (DBP15K) and .2 (OpenEA)."""
    dev_share: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Part of those that dev gets; the published code selects on test instead."""
    seed: int | None = Field(default=None, ge=0)
    """Of the split; unset takes the seed of the run."""


class IterativeConfig(Config):
    """The iterative stage of alignment: pairs that stay mutual nearest neighbours join the training links."""

    epochs: int = Field(default=250, ge=1)
    """Epochs after those of `train`."""
    every: int = Field(default=5, ge=1)
    """Epochs between checks, K_e."""
    checks: int = Field(default=10, ge=1)
    """Checks a pair must stay mutual before it joins, K_s; 10 in the paper, 5 in the released code."""
    lr_factor: float = Field(default=0.2, gt=0)
    """On the learning rate of `train`."""


class EvaluateConfig(Config):
    """Exact ranking."""

    budget_bytes: int = Field(default=256 << 20, gt=0)
    """Memory of a worker for scores."""
    precision: Literal["float32", "float64"] = "float32"
    """Number format of scores; float64 takes twice to three times as long and makes ties exact."""
    first_pass: Literal["exact", "float32", "bfloat16"] = "exact"
    """Of completion: a coarser format than `precision` that scores all candidates first; near ties are scored again as
    `precision` says, so the ranks are the same. "float32" beside float64 takes little more than the time of float32;
    not with the scorers that are Euclidean distances. "bfloat16" is for scorers that are products (ComplEx, DistMult,
    TuckER) and machines with a unit for it: where there is none, and where codes are so close together that most
    candidates are near ties, it is slower than "exact"."""
    max_dev_triples: int = Field(default=0, ge=0)
    """Triples of the dev split that select the checkpoint, drawn by seed; 0 takes all."""
    max_new_triples: int = Field(default=10_000, ge=0)
    """With `holdout`: triples of entities held out that are ranked, drawn by seed; 0 takes all."""
    k_csls: int = Field(default=3, ge=1)
    """Neighbours that CSLS corrects similarities by, in alignment."""

    @model_validator(mode="after")
    def _check_first_pass(self) -> Self:
        if self.first_pass == self.precision:
            raise ValueError(
                f"first_pass: expected a coarser format than precision, got {self.first_pass!r} for both; "
                "set precision to 'float64' or first_pass to 'exact'"
            )
        return self


class ClusterConfig(Config):
    """Where the work runs."""

    num_workers: int | tuple[int, int] = 1
    """W, training workers; or the fewest and the most, between which a run takes as many as the cluster has room for.
    The global batch, and all that is drawn, is the same at any W."""
    resize_seconds: float = Field(default=60.0, gt=0)
    """Of an elastic run: seconds between two looks whether the cluster has room for more workers. Workers then begin
    anew from the last checkpoint."""
    cpus_per_worker: float = Field(default=0.5, gt=0)
    """CPUs a worker reserves in Ray. Below one by default: Ray Data must have room beside the workers."""
    threads_per_worker: int = Field(default=0, ge=0)
    """Threads of a worker's arithmetic; 0 shares the node's CPUs among its workers."""
    max_failures: int = Field(default=3, ge=0)
    """Times that dead workers are started anew, from the last checkpoint, before the run fails. Nodes that a cloud
    takes back with a notice are not counted."""
    timeout_seconds: int = Field(default=1800, ge=1)
    """Longest wait of a worker for the others, in any exchange between them."""
    use_gpu: bool = False
    """One GPU a worker."""
    address: str | None = None
    """Ray cluster to join; unset joins the one of the environment, or starts a local one."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def _check_workers(cls, number: Any) -> Any:
        numbers = list(number) if isinstance(number, list | tuple) and len(number) == 2 else [number]
        whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in numbers)
        if not whole or numbers != sorted(numbers):
            raise ValueError("expected a number from 1, or the fewest and the most workers, as in [2, 8]")
        return number

    @property
    def fewest_workers(self) -> int:
        """W at least: what a run needs to begin, and where a worker owns most rows."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def most_workers(self) -> int:
        """W at most."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def is_elastic(self) -> bool:
        """Whether workers come and go with the nodes of the cluster."""
        return self.fewest_workers < self.most_workers

    @property
    def how_many_workers(self) -> str:
        """W in words: "2", or "2 to 4"."""
        return f"{self.fewest_workers} to {self.most_workers}" if self.is_elastic else f"{self.fewest_workers}"


class Recipe(Config):
    """A run, from raw files to ranks."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its folder is `runs/name`."""
    seed: int = Field(default=0, ge=0)
    """Keys every random draw of training."""
    store: Path
    """Folder of the feature store; made from `ingest` and `features` where it does not exist."""
    runs: Path = Path("runs")
    """Folder of run folders."""
    data: str = ""
    """Folder of the raw data; `{data}` in any other value of the recipe stands for it."""
    ingest: IngestConfig
    """The raw graph."""
    features: dict[str, FeatureConfig] = Field(default_factory=dict)
    """Raw features by modality."""
    licences: dict[str, str] = Field(default_factory=dict)
    """By modality, the licence of its raw vectors: of the model that made them, or of the file they are from. Told by
    an export, and by nothing else."""
    missing: dict[str, MissingConfig] = Field(default_factory=dict)
    """Modalities that some entities lose: the share that keeps each, or who and how."""
    modalities: tuple[str, ...] | None = None
    """Modalities of the store that the encoder uses; unset uses every one in `features`."""
    holdout: HoldoutConfig | None = None
    """Of completion: entities that training never sees. Their triples are ranked at the end, with codes from their
    modalities alone, as an export encodes new entities; a run without modalities has no codes for them, and ranks none.
    Unset trains on all."""
    method: MethodConfig = SnagConfig()
    """What is trained."""
    links: LinksConfig = LinksConfig()
    """Of alignment: the split of the links."""
    iterative: IterativeConfig | None = None
    """Of alignment: a second stage that mines links; none stops after `train.epochs`."""
    table: TableConfig = AdamConfig()
    """Optimiser of the entity rows."""
    train: TrainConfig = TrainConfig()
    """How long and how fast."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Exact ranking."""
    cluster: ClusterConfig = ClusterConfig()
    """Where it runs."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """Where its numbers go, beside the run folder."""
    plan: PlanConfig = PlanConfig()
    """Facts for jobs/plan.py, and the machines a run is checked against."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Runs beside this one, by name: dotted field to value. Each is trained as `name-variant`, on the same store."""

    @model_validator(mode="after")
    def _check_licences(self) -> Self:
        for name in self.licences:
            if name not in self.features:
                known = ", ".join(self.features) or "none"
                raise ValueError(f"licences.{name}: expected a modality of `features` ({known}), got {name!r}")
        return self

    @field_validator("variants")
    @classmethod
    def _check_variants(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for variant, changes in variants.items():
            for path in changes:
                if path.split(".")[0] in ("store", "ingest", "features", "variants", "name", "runs"):
                    raise ValueError(f"variant {variant!r} changes {path!r}, which all variants share")
        return variants

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        if self.iterative is not None and self.task == "completion":
            raise ValueError(f"iterative: expected a method of alignment, got {self.method.kind!r}")
        if self.iterative is not None and self.train.max_minutes is not None:
            raise ValueError(
                f"train.max_minutes: expected none beside `iterative`, whose stage would have no time of its own, got "
                f"{self.train.max_minutes:g}; leave one of them out"
            )
        if self.evaluate.first_pass != "exact" and self.task == "alignment":
            raise ValueError(
                f"evaluate.first_pass: expected 'exact' with a method of alignment, which ranks in one pass, "
                f"got {self.evaluate.first_pass!r}; leave it out"
            )
        if self.holdout is not None and self.task == "alignment":
            raise ValueError(f"holdout: expected a method of completion, got {self.method.kind!r}; remove holdout")
        adversary = isinstance(self.method, AdamfConfig) and self.method.adversary is not None
        if adversary and self.train.engine.precision == "bfloat16":
            raise ValueError("train.engine.precision: the generators of an adversary are trained in float32 or float64")
        return self

    @property
    def task(self) -> Literal["completion", "alignment"]:
        """What the method is for."""
        return "alignment" if isinstance(self.method, AlignmentMethod) else "completion"

    def with_variants(self) -> list["Recipe"]:
        """Return this run and every variant of it, as recipes without variants of their own.

        Raises:
            ConfigError: a variant changes a field that does not exist, or to a wrong value.
        """
        tree = self.model_dump(mode="json", exclude={"variants"}, exclude_unset=True)
        runs = [validate(Recipe, tree, f"recipe {self.name}")]
        for variant, changes in self.variants.items():
            changed = {**copy.deepcopy(tree), "name": f"{self.name}-{variant}"}
            for path, value in changes.items():
                set_path(changed, path, value, f"variants.{variant}")
            runs.append(validate(Recipe, changed, f"variants.{variant}"))
        return runs

    def streams(self, num_triples: int) -> bool:
        """Whether so many training triples are streamed, not held; alignment holds them always."""
        return self.task == "completion" and choose_residency(self.train.residency, num_triples) == "stream"

    @property
    def ranks_new(self) -> bool:
        """Whether entities were held out, and have modalities to get codes from."""
        return self.holdout is not None and bool(self.used_modalities)

    @property
    def used_modalities(self) -> tuple[str, ...]:
        """Modalities the encoder sees, sorted."""
        return tuple(sorted(self.features if self.modalities is None else self.modalities))

    @property
    def run_path(self) -> Path:
        """Folder of this run, absolute."""
        return (self.runs / self.name).absolute()

    def to_tree(self) -> dict[str, Any]:
        """Return a plain tree with absolute paths, as workers, checkpoints and JSON take it."""
        tree = self.model_dump(mode="json")
        return {**tree, "store": str(self.store.absolute()), "runs": str(self.runs.absolute())}


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, with overrides `a.b.c=value` laid over it.

    Raises:
        ConfigError: the file is missing or not TOML, or a field is unknown or has a wrong value.
    """
    tree = read_recipe(path, overrides)
    tree.pop(TUNE_SECTION, None)
    return validate(Recipe, _fill_in(tree, str(tree.get("data", ""))), str(path))


def _fill_in(value: Any, data: str) -> Any:
    if isinstance(value, str):
        return value.replace("{data}", data)
    if isinstance(value, list):
        return [_fill_in(item, data) for item in value]
    return {key: _fill_in(item, data) for key, item in value.items()} if isinstance(value, dict) else value
