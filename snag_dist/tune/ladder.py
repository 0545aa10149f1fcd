"""The rungs of a sweep: settings go from a small graph and few epochs to the whole of both, the best of each rung on.

Every rung but the last is a sweep of its own inside the folder of the sweep, around the same recipe with the store of
a core and fewer epochs; so its trials are placed, stopped and gone on with like any other. What a rung decides
follows from the run folders alone: settings or seeds that are added later are trained on the first rung, and may go on
beside those that went on before.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from snag_dist.config import Config, validate
from snag_dist.errors import ConfigError
from snag_dist.store.core import core_of_degree, core_of_share
from snag_dist.store.missing import make_overlays
from snag_dist.store.opened import Store
from snag_dist.training.claim import Claim
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import read_json, write_json
from snag_dist.tune.config import Sweep
from snag_dist.tune.rounds import Rounds
from snag_dist.tune.setting import Setting, compare_settings
from snag_dist.tune.strategy import RungConfig
from snag_dist.tune.trial import Trial, TrialRecord, base_tree, name_setting, read_trials

logger = logging.getLogger("snag_dist")

LADDER_FILE = "ladder.json"
WHOLE = "whole"
"""Name of the last rung, whose trials are those of the sweep itself."""


class Rung(Config):
    """One size of graph and training."""

    name: str
    """Of its folder, from k and epochs."""
    k: int
    """Of the core; 0 is the whole graph."""
    store: Path
    """Folder of the store."""
    num_entities: int
    """E of the store."""
    num_triples: int
    """Training triples of the store."""
    epochs: int
    """Of a trial, at most."""
    evaluate_every: int
    """Epochs between evaluations."""


class Ladder(Config):
    """The rungs of a sweep, cheapest first; the last is the whole graph for all epochs."""

    rungs: tuple[Rung, ...]
    """At least two."""

    @property
    def whole(self) -> Rung:
        """Return the last rung."""
        return self.rungs[-1]


def build_ladder(sweep: Sweep, store: Store) -> Ladder:
    """Make the cores of a sweep's rungs, as far as they are not there, and write down what the rungs are.

    Args:
        sweep: with rungs.
        store: that its recipe trains on.

    Raises:
        ConfigError: a core is empty or has no dev triples, or two rungs are the same.
        DataError: see `snag_dist.store.core`.
    """
    assert sweep.tune.fidelity is not None
    rungs: list[Rung] = []
    for number, config in enumerate(sweep.tune.fidelity.rungs):
        place = f"tune.fidelity.rungs.{number}"
        rung = _build_rung(sweep, _store_of(config, store), config, place)
        if rung.name in [other.name for other in rungs]:
            raise ConfigError(
                f"{place}: expected a rung unlike those before, got {rung.name} again: no core lies between; change "
                "its share, k or epochs, or remove it"
            )
        rungs.append(rung)
    whole = Rung(
        name=WHOLE,
        k=0,
        store=store.path,
        num_entities=store.num_entities,
        num_triples=store.manifest.num_triples["train"],
        epochs=sweep.budget,
        evaluate_every=sweep.recipe.train.evaluate_every,
    )
    ladder = Ladder(rungs=(*rungs, whole))
    write_json(sweep.path / LADDER_FILE, ladder.model_dump(mode="json"))
    return ladder


def _store_of(config: RungConfig, store: Store) -> Store:
    if config.k is not None:
        return core_of_degree(store, config.k)
    return store if config.share is None else core_of_share(store, config.share)


def _build_rung(sweep: Sweep, store: Store, config: RungConfig, place: str) -> Rung:
    core = store.manifest.core
    k = 0 if core is None else core.k
    if not store.manifest.num_triples.get("valid"):
        raise ConfigError(
            f"{place}: expected dev triples to compare settings on, found none in {store.path}; raise share or lower k"
        )
    make_overlays(store, sweep.recipe.missing)
    epochs = sweep.rung_epochs(config.epochs)
    return Rung(
        name=f"{f'core-{k}' if k else 'graph'}_epochs-{epochs}",
        k=k,
        store=store.path,
        num_entities=store.num_entities,
        num_triples=store.manifest.num_triples["train"],
        epochs=epochs,
        evaluate_every=max(1, round(config.epochs * sweep.recipe.train.evaluate_every)),
    )


def read_ladder(sweep: Sweep) -> Ladder | None:
    """Read what `build_ladder` wrote; None for a sweep without rungs, or before it was begun."""
    file = sweep.path / LADDER_FILE
    if sweep.tune.fidelity is None or not file.is_file():
        return None
    return validate(Ladder, read_json(file), str(file))


def sweep_of(sweep: Sweep, rung: Rung) -> Sweep:
    """Return the sweep that a rung is: the sweep itself for the last one."""
    if rung.name == WHOLE:
        return sweep
    tree = base_tree(sweep.recipe)
    # The core is one of what is left of a holdout.
    smaller = {"store": str(rung.store), "runs": str(sweep.path / "rungs"), "name": rung.name, "holdout": None}
    train = {**tree.get("train", {}), "epochs": rung.epochs, "evaluate_every": rung.evaluate_every}
    recipe = validate(Recipe, {**tree, **smaller, "train": train}, f"rung {rung.name}")
    return replace(sweep, recipe=recipe)


def read_rung(sweep: Sweep, rung: Rung) -> list[TrialRecord]:
    """Read the trials of the search on a rung, in the order they began."""
    return [record for record in read_trials(sweep_of(sweep, rung).trials) if not record.compared]


def climb(sweep: Sweep, ladder: Ladder, trials: Sequence[Trial], claim: Claim) -> None:
    """Train trials rung by rung, of the first rung all, of the others those of the settings that went on.

    Rungs that were interrupted are gone on with; trials that are over are not trained again.

    Args:
        sweep: with rungs.
        ladder: its rungs.
        trials: every setting with every seed.
        claim: of the sweep.
    """
    fidelity = sweep.tune.fidelity
    assert fidelity is not None
    names = {name_setting(trial.changes) for trial in trials}
    for number, rung in enumerate(ladder.rungs):
        smaller = sweep_of(sweep, rung)
        here = [smaller.trial(dict(it.changes), it.seed) for it in trials if name_setting(it.changes) in names]
        logger.info("rung %d/%d, %s: %d settings", number + 1, len(ladder.rungs), rung.name, len(names))
        rounds = Rounds(smaller, claim)
        rounds.run_listed(here)
        if rung.name != WHOLE and not fidelity.study:
            kept = choose_kept(read_rung(sweep, rung), names, fidelity.num_kept(number, len(names)))
            names = {setting.name for setting in kept}


def choose_kept(records: Sequence[TrialRecord], names: set[str], num: int) -> list[Setting]:
    """Return the settings that go on from a rung, best on dev first.

    Args:
        records: of the rung.
        names: of the settings that are compared; others that were trained there are passed over.
        num: settings that go on, at most.
    """
    return compare_settings(record for record in records if name_setting(record.changes) in names)[:num]
