"""Ray Tune: trials are placed and stopped early.

A sweep is a sequence of rounds, each one experiment of Ray Tune. What a trial found lies in its run folder, and only
there: a sweep that was interrupted goes on with a new round of what is left, whose trials go on from their checkpoints.
Tune's own `Tuner.restore` is not used. It unpickles what it finds in the folder, which may come from elsewhere, has
nothing to restore until the experiment's first state is written, and keeps no rungs of ASHA.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher

from snag_dist.errors import Interrupted, ResourceError, SnagError, TakenOver, find_user_error
from snag_dist.training.claim import Claim
from snag_dist.training.graph import open_graph
from snag_dist.training.interruption import stop_on_signals
from snag_dist.training.launch import check_resources, launch
from snag_dist.training.progress import watch
from snag_dist.training.recipe import ClusterConfig
from snag_dist.tune.config import Sweep
from snag_dist.tune.search import METRIC
from snag_dist.tune.stopping import Halving, Stopper, is_halted, stop_file, wait_for_driver_end
from snag_dist.tune.strategy import AshaConfig
from snag_dist.tune.trial import TRIAL_FILE, Trial, base_tree, read_trial, read_trials

logger = logging.getLogger("snag_dist")

_POLL_SECONDS = 0.5
DRIVER_CPUS = 0.01
"""CPUs of a trial's driver, which only waits for its workers: 0 is refused by Ray, 1 would starve them."""


@dataclass
class Rounds:
    """The rounds of a sweep, in `ray/` of its folder."""

    sweep: Sweep
    claim: Claim
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        """Find the folder."""
        self.path = self.sweep.path / "ray"

    def run_listed(self, trials: Sequence[Trial], *, to_the_end: bool = False) -> None:
        """Run a new round of trials that are known beforehand; without one that is not over yet, none.

        Args:
            trials: to be done; those that are over are passed over.
            to_the_end: the scheduler stops none of them.
        """
        over = {record.name for record in read_trials(self.sweep.trials) if record.is_over}
        listed = [
            {"changes": dict(trial.changes), "seed": trial.seed, "compared": trial.compared}
            for trial in trials
            if trial.name not in over
        ]
        if listed:
            space = {"trial": tune.grid_search(listed)}
            self._run(space, len(listed), num_samples=1, scheduler=None if to_the_end else self._scheduler())

    def run_proposed(self, search: Searcher, num_trials: int) -> None:
        """Run a new round of trials that a search proposes, at most so many."""
        self._run({}, num_trials, search_alg=search, num_samples=num_trials, scheduler=self._scheduler())

    def _run(self, space: dict[str, Any], num_trials: int, **choices: Any) -> None:
        name = f"round-{len(self._names()) + 1:03d}"
        (self.path / name).mkdir(parents=True)
        tuner = tune.Tuner(
            self._trainable(),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                max_concurrent_trials=self.sweep.tune.max_concurrent,
                trial_dirname_creator=_name_directory,
                **choices,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self.path),
                verbose=0,
                callbacks=[Announcer(num_trials), Stopper(self.sweep.path, self.sweep.trials, self.claim)],
                # A trial's driver dies with its node; started anew it goes on from the run folder.
                failure_config=tune.FailureConfig(max_failures=self.sweep.recipe.cluster.max_failures),
            ),
        )
        self._fit(tuner)

    def _fit(self, tuner: tune.Tuner) -> None:
        # Tune's own handler would end an interrupted round as if its trials had been stopped by the scheduler.
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        # Made once, before trials that begin together would each make it.
        open_graph(self.sweep.recipe)
        with stop_on_signals(stop_file(self.sweep.path), self.claim.is_held):
            results = tuner.fit()
        self.claim.require()
        states = [read_trial(path.parent).state for path in self.sweep.trials.glob(f"*/{TRIAL_FILE}")]
        if "running" in states:
            raise Interrupted(
                f"{self.sweep.path}: {states.count('running')} trials died with their nodes more often than "
                "cluster.max_failures allows; the same command goes on with them"
            )
        errors = list(results.errors)
        if errors and len(errors) == len(results):
            raise find_user_error(errors[0]) or errors[0]

    def _trainable(self) -> Callable[..., Any]:
        base = {"base": base_tree(self.sweep.recipe), "runs": str(self.sweep.trials), "claim": self.claim}
        return tune.with_resources(tune.with_parameters(run_trial, **base), {"CPU": DRIVER_CPUS})

    def _scheduler(self) -> Halving | None:
        asha = self.sweep.tune.scheduler
        if not isinstance(asha, AshaConfig):
            return None
        halving = Halving(
            self.sweep.trials,
            time_attr="epoch",
            max_t=self.sweep.budget,
            grace_period=self.sweep.grace_epochs,
            reduction_factor=asha.reduction_factor,
            # The search ends when the last trial does.
            stop_last_trials=False,
        )
        halving.recall(record for record in read_trials(self.sweep.trials) if record.is_over and not record.compared)
        return halving

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("round-*") if path.is_dir())


def _name_directory(trial: RayTrial) -> str:
    return trial.trial_id


def run_trial(config: dict[str, Any], base: dict[str, Any], runs: str, claim: Claim) -> None:
    """Train one trial: the body of a Tune trial.

    Args:
        config: `trial` with the fields of a `Trial` that are its own.
        base: chosen part of the recipe of the sweep.
        runs: folder of run folders.
        claim: of the sweep's command.

    Raises:
        TakenOver: the trial alone is another command's now; nothing is written down of it.
    """
    _require_or_wait(claim)
    asked, sweep = config["trial"], Path(runs).parent
    trial = Trial(base, runs, asked["changes"], asked["seed"], asked["compared"])
    state = trial.folder.read_status().get("state")
    if state == "failed":
        # Tune calls again after any error; only a driver that died with its node is to be begun anew.
        raise trial.failure()
    if state == "running":
        # It was killed; nobody trains it now, and a sweep that is asked to stop must not wait for it.
        trial.folder.write_status(state="interrupted")
    wait_for_driver_end(sweep)
    _require_or_wait(claim)
    trial.begin()
    if not read_trial(trial.folder.path).is_complete and not is_halted(trial.folder):
        try:
            # Not by Ray's TuneReportCallback. It hands what the workers report to the thread that also takes what is
            # reported here, and where a trial ends just then, the two wait for each other for ever (Ray 2.60).
            with watch(trial.folder.log, _report):
                launch(trial.recipe(), score_test=False, within=claim)
        except Exception as error:
            # Before anything is written down of it: the trial is the other command's then.
            _require_or_wait(claim)
            cause = find_user_error(error) or error
            if isinstance(cause, TakenOver):
                raise
            if not isinstance(cause, Interrupted):
                reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
                trial.fail(reason, is_user_error=isinstance(cause, SnagError))
                raise
            if not is_halted(trial.folder):
                wait_for_driver_end(sweep)
                raise
    if is_halted(trial.folder) and not read_trial(trial.folder.path).is_complete:
        trial.folder.write_status(state="stopped", error="")
    # Nothing was reported by a run that had been trained before it was called.
    record = read_trial(trial.folder.path)
    tune.report({"epoch": record.epochs, METRIC: record.best})


def _report(line: Mapping[str, Any]) -> None:
    """Tell Tune of an evaluation in a trial's log."""
    if "dev" in line:
        tune.report({"epoch": line["epoch"], METRIC: line[METRIC]})


def _require_or_wait(claim: Claim) -> None:
    """Where another command has taken the sweep over, stay until its driver ends; this process goes with it.

    A trial that ended now would make Tune begin it again, or the next one.
    """
    while not claim.is_held():
        time.sleep(_POLL_SECONDS)


class Announcer(tune.Callback):
    """A line when a trial ends."""

    def __init__(self, num_trials: int):
        """Count up to `num_trials`."""
        self._num_trials = num_trials
        self._num_ended = 0

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Say what it reached."""
        self._say(trial, f"best dev MRR {(trial.last_result or {}).get(METRIC, float('nan')):.4f}")

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        """Say that it failed; the report has the reason."""
        self._say(trial, "failed")

    def _say(self, trial: RayTrial, words: str) -> None:
        self._num_ended += 1
        asked = trial.config["trial"]
        setting = ", ".join(f"{name}={value}" for name, value in asked["changes"].items())
        logger.info("trial %d/%d  %s, seed %d: %s", self._num_ended, self._num_trials, setting, asked["seed"], words)


def check_placement(sweep: Sweep, *, streamed: bool) -> None:
    """Refuse a sweep whose trials cannot all be placed at once; Ray would let some of them wait for ever.

    Raises:
        ResourceError: too few CPUs or GPUs.
    """
    cluster = sweep.recipe.cluster
    check_resources(cluster, streamed=streamed)
    num = sweep.tune.max_concurrent
    total = ray.cluster_resources()
    # Ray Data reads with whole CPUs while workers run, as in plain training; the trials share that one.
    cpus = num * (cluster.fewest_workers * cluster.cpus_per_worker + DRIVER_CPUS) + (1.0 if streamed else 0.0)
    gpus = num * cluster.fewest_workers if cluster.use_gpu else 0
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > total.get(kind, 0.0):
            raise ResourceError(
                f"tune.max_concurrent: {num} trials of {describe_workers(cluster)} need {needed:g} {kind}s, the "
                f"cluster has {total.get(kind, 0.0):g}; lower tune.max_concurrent, cluster.num_workers or "
                "cluster.cpus_per_worker"
            )


def describe_workers(cluster: ClusterConfig) -> str:
    """Say what a trial takes: "2 workers of 0.5 CPUs"."""
    kind = " and a GPU" if cluster.use_gpu else ""
    return f"{cluster.how_many_workers} workers of {cluster.cpus_per_worker:g} CPUs{kind}"
