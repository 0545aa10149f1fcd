"""The verbs of a notebook, which the jobs call too: `ingest`, `extract`, `plan`, `train`, `evaluate`, `search`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from snag_dist.config import apply_override, validate
from snag_dist.errors import CheckpointError, ConfigError
from snag_dist.store.extract import ExtractOptions
from snag_dist.store.extract import extract as extract_features
from snag_dist.store.ingest import ingest as ingest_graph
from snag_dist.store.missing import make_overlays
from snag_dist.store.opened import Store, open_store
from snag_dist.store.samples import draw_contact_sheet
from snag_dist.training.launch import connect, launch
from snag_dist.training.plan.report import RunPlan
from snag_dist.training.progress import show_stages
from snag_dist.training.recipe import NEW, Recipe, load_recipe
from snag_dist.training.run_folder import RunFolder, write_json
from snag_dist.tune.config import Sweep, load_sweep
from snag_dist.tune.outcome import Outcome
from snag_dist.tune.rounds import check_placement, describe_workers
from snag_dist.tune.strategy import RungConfig
from snag_dist.tune.sweep import list_trials, run_sweep

COVERAGE = "coverage.json"
"""In the store, beside its audit: by modality, how many entities have it."""
CONTACT_SHEET = "contact_sheet.png"
"""In the store: random entities with their pictures and texts, for a person to look at."""
SCORED_SPLITS = ("test", "valid")
"""Splits that a trained run can be scored on."""

RecipeLike = Recipe | Path | str | Mapping[str, Any]
"""A recipe, the path of a recipe file, or a plain tree."""


def ingest(recipe: RecipeLike) -> Store:
    """Make the feature store of a recipe: graph first, then every modality that is not there yet.

    Returns:
        The opened store.

    Raises:
        DataError: the raw data is wrong, or the folder holds a store of something else.
    """
    return extract(recipe)


def extract(recipe: RecipeLike, options: ExtractOptions | None = None) -> Store:
    """Make every feature table of a recipe that is not there yet, and the graph before them where it is missing.

    An extraction that was interrupted goes on with the parts that are missing.

    Args:
        recipe: its `ingest` and `features` say what is made.
        options: what is replaced, reused, or refused; by default nothing is.

    Returns:
        The opened store.

    Raises:
        DataError: the raw data is wrong, or the folder holds a store of something else.
    """
    resolved = _resolve(recipe)
    connect(resolved.cluster)
    with show_stages() as progress:
        ingest_graph(resolved.ingest, resolved.store, progress=progress)
        extract_features(resolved.features, resolved.store, options=options or ExtractOptions(), progress=progress)
    store = open_store(resolved.store)
    for run in resolved.with_variants():
        make_overlays(store, run.missing)
    draw_contact_sheet(store, store.path / CONTACT_SHEET)
    coverage = {
        name: {"num_present": feature.num_present, "share": feature.coverage}
        for name, feature in store.features().items()
    }
    write_json(store.path / COVERAGE, coverage)
    return store


def train(recipe: RecipeLike) -> dict[str, dict[str, Any]]:
    """Train a recipe and its variants, making the store first where it is missing.

    Runs that were begun with the same recipe go on from their last checkpoint.

    Returns:
        The evaluation report of the test split by run name, the recipe's own run first.

    Raises:
        ConfigError: the run name was used for another recipe, or all its runs are finished.
    """
    resolved = _resolve(recipe)
    runs = resolved.with_variants()
    finished = {run.name for run in runs if is_finished(run)}
    if len(finished) == len(runs):
        raise ConfigError(
            f"{resolved.run_path}: run name {resolved.name!r} is already used by a finished run; choose another with "
            "--run NAME, or remove the folder"
        )
    ingest(resolved)
    reports: dict[str, dict[str, Any]] = {}
    for run in runs:
        done = run.name in finished
        reports[run.name] = json.loads(RunFolder(run.run_path).metrics("test").read_text()) if done else launch(run)
    return reports


def plan(recipe: RecipeLike, *, timed: bool = True) -> RunPlan:
    """Say what training a recipe needs, and whether it fits, before anything is allocated.

    Args:
        recipe: its store is asked for counts where it is there; else its section `plan` gives them.
        timed: take a few steps on made-up rows of the recipe's sizes, unless the run does not fit.

    Raises:
        ConfigError: there is no store, and a count is not given.
    """
    resolved = _resolve(recipe)
    return RunPlan.of(resolved, open_store(resolved.store) if resolved.store.is_dir() else None, timed=timed)


def evaluate(run: Path | str, split: str = "test", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Score a split of the store with the best checkpoint of a run.

    Args:
        run: the run folder.
        split: "test", "valid", or "new": the triples of entities that the run was trained without.
        overrides: `a.b.c=value` each, of the fields under `evaluate` and `cluster`.

    Returns:
        The evaluation report, with slices.

    Raises:
        CheckpointError: the folder is no run, or the run has no checkpoint yet.
        ConfigError: there is no such split to score, or an override is of another field.
    """
    if split not in (*SCORED_SPLITS, NEW):
        raise ConfigError(
            f"--split: expected one of {', '.join((*SCORED_SPLITS, NEW))}, got {split!r}; the others are not scored, "
            "name one of these"
        )
    folder = RunFolder(Path(run).absolute())
    tree = {**folder.read_config(), "runs": str(folder.path.parent), "name": folder.path.name}
    for override in overrides:
        if override.split(".")[0] not in ("evaluate", "cluster"):
            raise ConfigError(
                f"--set {override}: a trained run can only be evaluated in another way or elsewhere; "
                "set fields under evaluate or cluster"
            )
        apply_override(tree, override)
    recipe = validate(Recipe, tree, str(folder.config))
    if split == NEW and not recipe.ranks_new:
        raise ConfigError(
            f"--split new: expected a run that was trained without some entities (`holdout`) and with modalities, "
            f"{folder.path} is none; train one with --set holdout.share=0.05"
        )
    connect(recipe.cluster)
    return launch(recipe, split)


def search(sweep: Sweep | Path | str) -> Outcome:
    """Search around a recipe: train the trials that are not there yet, select on dev, score the test split once.

    Args:
        sweep: as `snag_dist.tune.config` makes it, or the path of a recipe file with a section `[tune]`.

    Returns:
        Settings, winner, and the winner without GMNM; the report lies in the folder of the sweep.

    Raises:
        ConfigError: the choices do not go together, or the name was used for another recipe.
        ResourceError: the cluster cannot place the trials.
    """
    resolved = sweep if isinstance(sweep, Sweep) else load_sweep(Path(sweep))
    connect(resolved.recipe.cluster)
    check_placement(resolved, streamed=False)
    ingest(resolved.recipe)
    return run_sweep(resolved)


def _resolve(recipe: RecipeLike) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | Path):
        return load_recipe(Path(recipe))
    return validate(Recipe, dict(recipe), "recipe")


def _is_recipe_of(folder: RunFolder, run: Recipe) -> bool:
    try:
        # A field that came with a later version than the run has its default.
        return Recipe.model_validate(folder.read_config()).to_tree() == run.to_tree()
    except ValidationError:
        return False


def is_finished(run: Recipe) -> bool:
    """Tell whether a run has been trained and scored; one that was begun goes on.

    Raises:
        ConfigError: its name was used for another recipe.
        CheckpointError: a file of its folder is damaged, or missing.
    """
    folder = RunFolder(run.run_path)
    if not folder.config.is_file():
        return False
    if not _is_recipe_of(folder, run):
        raise ConfigError(
            f"{folder.path}: run name {run.name!r} is already used by a run with another recipe; choose another with "
            "--run NAME, or remove the folder"
        )
    state = folder.read_status().get("state")
    if state == "finished" and not folder.metrics("test").is_file():
        missing = folder.metrics("test")
        raise CheckpointError(f"{missing}: missing from a finished run; remove {folder.path} and train again")
    return state == "finished"


def describe_store(store: Store) -> str:
    """Say what a store holds: the audit of its splits, and the coverage of every modality."""
    manifest = store.manifest
    triples = ", ".join(f"{num:,} {split}" for split, num in manifest.num_triples.items())
    lines = [
        f"store {store.path}: {store.num_entities:,} entities, {store.num_relations:,} relations, triples: {triples}",
        *store.findings().lines(),
        "coverage:",
    ]
    for name, feature in store.features().items():
        lines.append(f"  {name}: {feature.encoder.name}")
        lines += [f"    {line}" for line in store.feature_report(name).lines()]
        if feature.num_unknown_keys:
            shown = ", ".join(feature.unknown_keys[:3])
            lines.append(f"    {feature.num_unknown_keys:,} keys of the source are not in the store, e.g. {shown}")
    sheet = store.path / CONTACT_SHEET
    if sheet.is_file():
        lines.append(f"look at {sheet}")
    return "\n".join(lines)


def describe_plan(recipe: Recipe) -> str:
    """Say in a few lines what training a recipe will do."""
    cluster = recipe.cluster
    there = (recipe.store / "manifest.json").is_file()
    runs = ", ".join(run.name for run in recipe.with_variants())
    return "\n".join(
        [
            f"store: {recipe.store} ({'is there' if there else 'will be made'})",
            f"runs: {runs}, in {recipe.runs.absolute()}",
            f"workers: {cluster.how_many_workers} of {cluster.cpus_per_worker:g} CPUs"
            + (" and a GPU" if cluster.use_gpu else ""),
            f"training: at most {recipe.train.epochs} epochs of batches of {recipe.train.batch_size} "
            + ("pairs" if recipe.task == "alignment" else "triples")
            + (f", then at most {recipe.iterative.epochs} with mined pairs" if recipe.iterative else ""),
        ]
    )


def describe_sweep(sweep: Sweep) -> str:
    """Say in a few lines what a sweep will do."""
    tune = sweep.tune
    listed = list_trials(sweep)
    num = len(listed) or getattr(tune.search, "num", 0) * len(tune.seeds)
    points = [", ".join(f"{field}={value}" for field, value in point.items()) for point in sweep.points()]
    rungs = tune.fidelity.rungs if tune.fidelity is not None else ()
    return "\n".join(
        [
            f"search: {tune.search.kind} over {', '.join(sweep.space)}",
            f"trials: {num}, {len(tune.seeds)} a setting, each of at most {sweep.budget} epochs"
            + ("" if tune.scheduler.kind == "none" else f", none stopped before epoch {sweep.grace_epochs}"),
            *(_describe_rung(sweep, number, rung) for number, rung in enumerate(rungs)),
            *(f"tried first: {point}" for point in points),
            f"at a time: {tune.max_concurrent}, each {describe_workers(sweep.recipe.cluster)}",
            f"folder: {sweep.path}",
        ]
    )


def _describe_rung(sweep: Sweep, number: int, rung: RungConfig) -> str:
    if rung.k is None:
        graph = "whole graph" if rung.share is None else f"smallest core with {rung.share:.0%} of the entities"
    else:
        graph = f"{rung.k}-core"
    kept = "one setting goes on" if rung.keep == 1 else f"{rung.keep} settings go on"
    fidelity = sweep.tune.fidelity
    assert fidelity is not None
    if fidelity.study:
        kept = "all settings go on"
    elif rung.keep is None:
        kept = f"one setting in {fidelity.eta:g} goes on"
    return f"rung {number + 1}: {graph}, {sweep.rung_epochs(rung.epochs)} epochs, {kept}"
