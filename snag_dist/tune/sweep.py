"""A sweep from its first trial to its report; called again, it goes on where it stopped and does nothing twice.

sweep.json     the recipe that all trials share, but for the fields of the space
trials/        a run folder a trial
ladder.json    with rungs: the graph and the epochs of each
rungs/         with rungs: trials/ and ray/ of each but the last, whose trials are those above
ray/           what Ray Tune keeps of its own, an experiment a round
best.toml      the winner, as a recipe for jobs/train.py
report/        trials.csv, settings.csv, plots, index.html
"""

import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from snag_dist.errors import ConfigError
from snag_dist.evaluation.alignment_report import AlignmentReport, read_any_report
from snag_dist.training.claim import Claim
from snag_dist.training.graph import open_graph
from snag_dist.training.launch import launch
from snag_dist.training.recipe import NEW, Recipe
from snag_dist.training.run_folder import RunFolder, read_json, write_json
from snag_dist.tune.config import Sweep
from snag_dist.tune.ladder import build_ladder, climb, read_ladder
from snag_dist.tune.outcome import (
    Outcome,
    TestScore,
    choose_winner,
    has_noise,
    is_noise_off,
    is_of_noise,
    without_noise,
)
from snag_dist.tune.page import write_report
from snag_dist.tune.prediction import predict
from snag_dist.tune.rounds import Rounds, check_placement
from snag_dist.tune.search import make_tpe
from snag_dist.tune.setting import Setting, group_trials
from snag_dist.tune.space import Changes, draw_points, expand_grid
from snag_dist.tune.strategy import GridSearchConfig, OptunaSearchConfig, RandomSearchConfig
from snag_dist.tune.toml import to_toml
from snag_dist.tune.trial import Trial, TrialRecord, base_tree, read_trials

_SWEEP_FILE = "sweep.json"


def run_sweep(sweep: Sweep) -> Outcome:
    """Search, select on dev, score the winner and the winner without GMNM on test, and write the report.

    Args:
        sweep: its store is there, and Ray is up.

    Returns:
        The outcome, as the report tells it.

    Raises:
        ConfigError: the name of the sweep was used for another recipe.
        ResourceError: the cluster cannot place it.
        TakenOver: another command has begun with the same sweep.
        SnagError: all trials of a round failed; the first one's reason.
    """
    require_same_recipe(sweep)
    store = open_graph(sweep.recipe)
    check_placement(sweep, streamed=sweep.recipe.streams(store.manifest.num_triples["train"]))
    claim = Claim.take(sweep.path)
    rounds = Rounds(sweep, claim)
    if sweep.tune.fidelity is None:
        _search(sweep, rounds)
    else:
        climb(sweep, build_ladder(sweep, store), list_trials(sweep), claim)
    winner = choose_winner(_searched(sweep))
    if winner is None:
        write_report(read_outcome(sweep), sweep.report)
        raise ConfigError(
            f"{sweep.path}: expected a trial that was trained to its end, found none; see {sweep.report}/index.html "
            "for what happened to each, and widen tune.space"
        )
    for setting in _compared(sweep, rounds, winner):
        _score(sweep, setting, claim)
    claim.require()
    write_best(sweep, winner)
    outcome = read_outcome(sweep)
    write_report(outcome, sweep.report)
    return outcome


def require_same_recipe(sweep: Sweep) -> None:
    """Refuse a folder of another recipe, or one whose owner cannot be read; else write down whose it is.

    Raises:
        ConfigError: it is another one's.
        CheckpointError: the file that says whose it is, is damaged.
    """
    shared = _shared_tree(sweep.recipe.to_tree())
    file = sweep.path / _SWEEP_FILE
    if RunFolder(sweep.path).config.is_file():
        raise ConfigError(
            f"{sweep.path}: expected the folder of a sweep, found a run of jobs/train.py; choose another name with "
            "--run NAME"
        )
    if file.is_file() and not _belongs_to(read_json(file), shared):
        raise ConfigError(
            f"{sweep.path}: name {sweep.recipe.name!r} is already used by a sweep around another recipe; choose "
            "another with --run NAME, or remove the folder; search, space, seeds, scheduler and fidelity may change"
        )
    write_json(file, {"recipe": shared})


def _shared_tree(recipe: dict[str, Any]) -> dict[str, Any]:
    """What all rounds of a sweep have in common of a recipe's tree."""
    return Recipe.model_validate({**recipe, "cluster": {}, "evaluate": {}, "variants": {}}).to_tree()


def _belongs_to(found: dict[str, Any], shared: dict[str, Any]) -> bool:
    try:
        # A field that came with a later version than the sweep has its default.
        return _shared_tree(found.get("recipe", {})) == shared
    except ValidationError:
        return False


def _search(sweep: Sweep, rounds: Rounds) -> None:
    search = sweep.tune.search
    if not isinstance(search, OptunaSearchConfig):
        rounds.run_listed(list_trials(sweep))
        return
    known = [setting.changes for setting in _searched(sweep)]
    rounds.run_listed([sweep.trial(dict(it), seed) for it in known for seed in sweep.tune.seeds])
    settings = [it for it in _searched(sweep) if it.changes.keys() == sweep.space.keys()]
    wanted = min(search.num, math.prod(parameter.size for parameter in sweep.space.values()))
    if len(settings) < wanted:
        figures = [(setting.changes, setting.mean) for setting in settings if setting.mean is not None]
        rounds.run_proposed(make_tpe(sweep, figures), int(wanted - len(settings)) * len(sweep.tune.seeds))


def list_trials(sweep: Sweep) -> list[Trial]:
    """List the trials of a grid or random search, the seeds of a setting one after another."""
    search = sweep.tune.search
    if isinstance(search, GridSearchConfig):
        points = expand_grid(sweep.space)
    elif isinstance(search, RandomSearchConfig):
        points = draw_points(sweep.space, search.num, search.seed)
    else:
        return []
    trials = (sweep.trial(point, seed) for point in points for seed in sweep.tune.seeds)
    return list({trial.name: trial for trial in trials}.values())


def _searched(sweep: Sweep) -> list[Setting]:
    return group_trials(record for record in read_trials(sweep.trials) if not record.compared)


def _compared(sweep: Sweep, rounds: Rounds, winner: Setting) -> list[Setting]:
    """Return the winner and the winner without GMNM, which is trained where the search has not done it."""
    if not has_noise(_recipe(sweep, winner.changes)):
        return [winner]
    found = _find_noise_off(sweep, winner)
    if found is None:
        changes = without_noise(winner.changes)
        base, runs = base_tree(sweep.recipe), str(sweep.trials)
        trials = [Trial(base, runs, changes, trial.seed, compared=True) for trial in winner.trials if trial.is_complete]
        rounds.run_listed(trials, to_the_end=True)
        found = _find_noise_off(sweep, winner)
    return [winner] if found is None or found.name == winner.name else [winner, found]


def _find_noise_off(sweep: Sweep, winner: Setting) -> Setting | None:
    """Find the setting that is the winner's but for GMNM, with every seed of the winner trained."""
    seeds = _complete_seeds(winner)
    for setting in group_trials(read_trials(sweep.trials)):
        same = _beside_noise(setting.changes) == _beside_noise(winner.changes)
        if same and seeds <= _complete_seeds(setting) and is_noise_off(_recipe(sweep, setting.changes)):
            return setting
    return None


def _beside_noise(changes: Changes) -> dict[str, object]:
    return {field: value for field, value in changes.items() if not is_of_noise(field)}


def _complete_seeds(setting: Setting) -> set[int]:
    return {trial.seed for trial in setting.trials if trial.is_complete}


def _recipe(sweep: Sweep, changes: Changes) -> Recipe:
    return sweep.trial(dict(changes), 0).recipe()


def _score(sweep: Sweep, setting: Setting, claim: Claim) -> None:
    """Score the test split with every seed that was trained to its end, unless that was done before."""
    for record in setting.trials:
        trial = sweep.trial(dict(record.changes), record.seed)
        claim.require()
        if record.state == "trained":
            if not trial.folder.metrics("test").is_file():
                launch(trial.recipe(), "test", within=claim)
            if trial.recipe().ranks_new and not trial.folder.metrics(NEW).is_file():
                launch(trial.recipe(), NEW, within=claim)
            claim.require()
            trial.folder.write_status(state="finished")


def write_best(sweep: Sweep, winner: Setting) -> None:
    """Write the recipe of a winner for `jobs/train.py`."""
    record = next(trial for trial in winner.trials if trial.is_complete)
    tree = sweep.trial(dict(winner.changes), record.seed).tree()
    tree |= {"name": f"{sweep.recipe.name}-best", "runs": str(sweep.recipe.runs.absolute())}
    head = (
        f"# Winner of sweep {sweep.recipe.name}: {winner.name}, dev MRR {winner.mean:.4f} "
        f"({len(winner.figures)} seed{'s' if len(winner.figures) > 1 else ''}).\n"
    )
    partial = sweep.best.with_name(f"{sweep.best.name}.partial")
    partial.write_text(head + to_toml(tree), encoding="utf-8")
    partial.replace(sweep.best)


def read_outcome(sweep: Sweep) -> Outcome:
    """Read what a sweep has found so far from the run folders of its trials."""
    winner = choose_winner(_searched(sweep))
    noise_off = None
    if winner is not None and has_noise(_recipe(sweep, winner.changes)):
        is_off = is_noise_off(_recipe(sweep, winner.changes))
        noise_off = winner if is_off else _find_noise_off(sweep, winner)
    compared = {it.name: it for it in (winner, noise_off) if it is not None}
    scores = (_read_score(sweep.trials, setting) for setting in compared.values())
    ladder = read_ladder(sweep)
    return Outcome(
        name=sweep.recipe.name,
        task=sweep.recipe.task,
        settings=tuple(group_trials(read_trials(sweep.trials))),
        winner=winner,
        noise_off=noise_off,
        scores=tuple(score for score in scores if score.mrr),
        budget=sweep.budget,
        prediction=None if ladder is None else predict(sweep, ladder),
    )


def _read_score(trials: Path, setting: Setting) -> TestScore:
    mrr: list[float] = []
    hits10: list[float] = []
    for record in _finished(setting):
        report = read_any_report(RunFolder(trials / record.name).metrics("test"))
        metrics = report.headline.metrics if isinstance(report, AlignmentReport) else report.metrics
        mrr.append(metrics.realistic.mrr)
        hits10.append(metrics.realistic.hits[10])
    return TestScore(setting, tuple(mrr), tuple(hits10))


def _finished(setting: Setting) -> list[TrialRecord]:
    return [trial for trial in setting.trials if trial.state == "finished"]
