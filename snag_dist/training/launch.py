"""The driver of a run: checks before anything starts, Ray Train, and what comes back.

Dead workers are started anew by Ray Train and go on from the last checkpoint; an error that is the user's to mend ends
the run at once. A signal to the driver becomes a checkpoint and the end of the run, see
`snag_dist.training.interruption`.
"""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from numpy.typing import NDArray
from ray._private import ray_constants
from ray._private.services import canonicalize_bootstrap_address

from snag_dist.config import validate
from snag_dist.errors import ConfigError, Interrupted, ResourceError, find_user_error
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.store.opened import Store
from snag_dist.store.stream import (
    StreamPlan,
    iterate_batches,
    plan_stream,
    stream_data_config,
    stream_triples,
)
from snag_dist.training import allocator
from snag_dist.training.alignment import split_store_links
from snag_dist.training.boundary import Notices
from snag_dist.training.checkpoint_versions import Versions
from snag_dist.training.claim import Claim
from snag_dist.training.cursor import Cursor, read_cursor
from snag_dist.training.graph import open_graph
from snag_dist.training.interruption import Lookout, stop_on_signals
from snag_dist.training.known_true import make_indexes
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.plan.verdict import check_fits
from snag_dist.training.progress import follow
from snag_dist.training.recipe import ClusterConfig, Recipe
from snag_dist.training.run_folder import RunFolder, write_json
from snag_dist.training.supervision import RestartCounter, wait
from snag_dist.training.trackers import check_packages
from snag_dist.training.worker import Worker, WorkerContext, check_store, open_features, share_threads

logger = logging.getLogger("snag_dist")

Ids = NDArray[np.int64]


def launch(
    recipe: Recipe,
    split: str | None = None,
    *,
    score_test: bool = True,
    within: Claim | None = None,
) -> dict[str, Any]:
    """Train a run, or score a split of a trained one, on Ray workers.

    Args:
        recipe: of the run; Ray is up.
        split: None trains and scores the test split at the end; else only this split is scored.
        score_test: False leaves the test split unread at the end of training, as a search must.
        within: the claim of the sweep that the run is a trial of.

    Returns:
        The evaluation report, as a plain tree; without `score_test` what `Worker.train` returns.

    Raises:
        Interrupted: the run was asked to stop, and has a checkpoint to go on from.
        TakenOver: another driver has begun with the same run, or with its sweep.
        SnagError: whatever a worker found wrong, in its own words.
    """
    store = open_graph(recipe)
    folder = RunFolder(recipe.run_path)
    check_store(store, folder)
    open_features(recipe, store, (0, store.num_entities))
    check_packages(recipe.telemetry)
    streamed = split is None and recipe.streams(store.manifest.num_triples["train"])
    check_resources(recipe.cluster, streamed=streamed)
    check_fits(recipe, GraphSizes.of(recipe, store), hosts_of_cluster(recipe.cluster))
    _check_splits(recipe, store)
    make_indexes(recipe, store, split, score_test=score_test)
    num_steps = _count_steps(recipe, store)
    settings: dict[str, Any] = {
        "recipe": recipe.to_tree(),
        "split": split,
        "streamed": streamed,
        "score_test": score_test,
    }
    if split is None and not streamed:
        settings["triples"] = ray.put(store.triples("train"))
    folder.path.mkdir(parents=True, exist_ok=True)
    claim = within
    if split is None:
        claim = Claim.take(folder.path, within)
        write_json(folder.config, recipe.to_tree())
        folder.write_status(state="running", notice=False, store_fingerprint=store.fingerprint, versions=versions())
    can_stop = nullcontext() if split is not None or claim is None else stop_on_signals(folder.stop, claim.is_held)
    with can_stop, follow(folder.log, num_steps, recipe.name):
        report = _fit(recipe, store, folder, {**settings, "claim": claim})
    if report is None:
        raise Interrupted(
            f"{folder.path}: stopped as asked after step {folder.read_status()['steps']}, with a checkpoint; the same "
            "command goes on from there"
        )
    return report


def _fit(
    recipe: Recipe,
    store: Store,
    folder: RunFolder,
    settings: dict[str, Any],
) -> dict[str, Any] | None:
    cluster, claim = recipe.cluster, settings["claim"]
    num_workers = (cluster.fewest_workers, cluster.most_workers) if cluster.is_elastic else cluster.fewest_workers
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker, **({"GPU": 1.0} if cluster.use_gpu else {})}
    datasets: dict[str, Any] = {}
    if settings["streamed"]:
        settings["stream"] = plan_stream(
            store.manifest.num_triples["train"],
            recipe.train.batch_size,
            cluster.fewest_workers,
            recipe.train.residency.window_rows,
        )
        # Called whenever workers start, so that one which starts anew gets the triples that are left then.
        datasets["train"] = partial(_stream, recipe.to_tree(), settings["stream"], claim)
    counter = RestartCounter(folder, cluster.max_failures, counts=settings["split"] is None, claim=claim)
    trainer = ray.train.torch.TorchTrainer(
        run_worker,
        train_loop_config=settings,
        torch_config=ray.train.torch.TorchConfig(
            backend="nccl" if cluster.use_gpu else "gloo", timeout_s=cluster.timeout_seconds
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers,
            use_gpu=cluster.use_gpu,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=cluster.resize_seconds,
        ),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=str(folder.path),
            failure_config=ray.train.FailureConfig(max_failures=cluster.max_failures),
            callbacks=[counter],
        ),
        datasets=datasets or None,
        dataset_config=stream_data_config() if datasets else None,
    )
    try:
        result = wait(trainer.fit, folder)
    except Exception as error:
        if claim is not None:
            # Whatever went wrong, the run is another driver's now.
            claim.require()
        if settings["split"] is None:
            folder.write_status(state="failed")
        cause = find_user_error(error)
        if cause is not None:
            raise cause from error
        raise
    report = result.return_value
    assert report is None or isinstance(report, dict)
    return report


def run_worker(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Body of a Ray Train worker: fill the context, then do what any worker does."""
    recipe = validate(Recipe, settings["recipe"], "recipe of the run")
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    group = Group(context.get_world_rank(), context.get_world_size(), device)
    triples: Any = ray.get(settings["triples"]) if "triples" in settings else None
    stream: tuple[Iterator[Ids], StreamPlan] | None = None
    if "stream" in settings:
        plan, folder = settings["stream"], RunFolder(recipe.run_path)
        shard = ray.train.get_dataset_shard("train")
        assert shard is not None
        # As `_stream` has seen it: nothing is saved between.
        cursor = read_cursor(folder.checkpoints) or Cursor()
        stream = iterate_batches(shard, plan, first_step=cursor.epoch_step), plan
    worker = Worker(
        recipe,
        WorkerContext(
            group=group,
            report=lambda metrics: ray.train.report(metrics),
            triples=triples,
            stream=stream,
            threads=share_threads(recipe.cluster.threads_per_worker, context.get_local_world_size()),
            notices=Notices(
                Lookout(RunFolder(recipe.run_path).stop.exists),
                _is_preempted,
                settings["claim"],
            ),
        ),
    )
    if settings["split"] is None:
        return worker.train(score_test=settings["score_test"])
    return worker.evaluate(settings["split"])


def _is_preempted() -> bool:
    """Whether Ray knows that a node of the workers will be taken back. A collective, through Ray."""
    return ray.train.get_preemption_info() is not None


def _stream(tree: dict[str, Any], plan: StreamPlan, claim: Claim | None) -> ray.data.Dataset:
    """Open the stream of what is left of a run, wherever workers are about to start.

    Raises:
        CheckpointError: there are checkpoints, and none is whole.
        TakenOver: another driver has begun with the run.
    """
    if claim is not None:
        claim.require()
    recipe = validate(Recipe, tree, "recipe of the run")
    store, folder = open_graph(recipe), RunFolder(recipe.run_path)
    # Workers would pass over a damaged version too, but then the stream had begun elsewhere.
    whole = Partition(store.num_entities, store.virtual_shards, 1)
    Versions(folder.checkpoints, whole, Group(), store.fingerprint, folder.add_warning).choose()
    cursor = read_cursor(folder.checkpoints) or Cursor()
    epochs = range(cursor.epoch, recipe.train.epochs)
    return stream_triples(store, "train", plan, seed=recipe.seed, epochs=epochs, first_step=cursor.epoch_step)


def _count_steps(recipe: Recipe, store: Store) -> int:
    """Steps of a run, at least: mined links add to those of an iterative stage."""
    if recipe.task == "completion":
        return recipe.train.epochs * -(-store.manifest.num_triples["train"] // recipe.train.batch_size)
    epochs = recipe.train.epochs + (recipe.iterative.epochs if recipe.iterative else 0)
    return epochs * -(-len(split_store_links(store, recipe.links, recipe.seed).train) // recipe.train.batch_size)


def _check_splits(recipe: Recipe, store: Store) -> None:
    if recipe.task == "alignment":
        split_store_links(store, recipe.links, recipe.seed)
        return
    if not store.manifest.num_triples.get("valid"):
        raise ConfigError(
            f"{store.path}: the store has no dev triples, and the checkpoint is selected on dev; ingest with "
            "ingest.repair.dev_share set, which holds a dev split out of train"
        )


def connect(cluster: ClusterConfig) -> None:
    """Join the cluster of the config or of the environment, or start Ray on this machine.

    Raises:
        ResourceError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # Workers share cores with Ray Data: an idle thread that spins takes its core from the others.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name, value in allocator.ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Ray Data tells of every execution; the jobs show progress of their own.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Workers' own lines are kept by Ray; the driver follows the log of the run instead.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if cluster.address in (None, "local") and _starts_ray(cluster.address):
        _stay_on_loopback()
    try:
        ray.init(address=cluster.address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ResourceError(
            f"cluster.address: expected a running Ray cluster, got {cluster.address!r}: "
            f"{str(error).splitlines()[0]}; start it or unset cluster.address"
        ) from error


def _starts_ray(address: str | None) -> bool:
    """Whether `ray.init` would start Ray on this machine; it joins a cluster of the environment where there is one."""
    return canonicalize_bootstrap_address(address) is None  # pyright: ignore[reportArgumentType]


def _stay_on_loopback() -> None:
    """Let the Ray that is started here, its metrics included, listen on 127.0.0.1 alone, as it does on macOS."""
    # Ray has read this switch when it was imported; the processes it starts read it from the environment.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def check_resources(cluster: ClusterConfig, *, streamed: bool) -> None:
    """Refuse what the cluster cannot place; otherwise Ray would wait for ever.

    Raises:
        ConfigError: workers that come and go, and a stream, which is cut for a number of them.
        ResourceError: too few CPUs or GPUs.
    """
    if streamed and cluster.is_elastic:
        raise ConfigError(
            f"cluster.num_workers: expected one number, got {cluster.how_many_workers}: triples are streamed, and a "
            "stream is cut for its workers; give one number, or set train.residency.kind=memory"
        )
    total = ray.cluster_resources()
    # Ray Data reads with whole CPUs while the workers run; without one left over it would wait for them, they for it.
    reserved = 1.0 if streamed else 0.0
    workers = cluster.fewest_workers
    needed = workers * cluster.cpus_per_worker + reserved
    cpus, gpus = total.get("CPU", 0.0), total.get("GPU", 0.0)
    if needed > cpus:
        extra = " and 1 for Ray Data" if streamed else ""
        raise ResourceError(
            f"cluster.num_workers: {workers} workers of {cluster.cpus_per_worker} CPUs{extra} need "
            f"{needed:g} CPUs, the cluster has {cpus:g}; use fewer workers or lower cluster.cpus_per_worker"
        )
    if cluster.use_gpu and workers > gpus:
        raise ResourceError(
            f"cluster.num_workers: {workers} workers need a GPU each, the cluster has {gpus:g}; use fewer "
            "workers or set cluster.use_gpu=false"
        )


def hosts_of_cluster(cluster: ClusterConfig) -> list[int] | None:
    """Memory in bytes of every host of the cluster that can take a worker; None where Ray runs on this one alone."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if len(alive) < 2:
        return None
    able = [found for found in alive if found.get("CPU", 0.0) >= cluster.cpus_per_worker]
    # What Ray counts for tasks and for objects; what it keeps for itself is left out.
    return [int(found.get("memory", 0.0) + found.get("object_store_memory", 0.0)) for found in able] or None


def versions() -> dict[str, str]:
    """Versions that a figure depends on."""
    packages = ("snag-dist", "torch", "ray", "deepspeed", "numpy", "numba")
    return {"python": platform.python_version(), "threads": str(torch.get_num_threads())} | {
        package: version(package) for package in packages
    }
