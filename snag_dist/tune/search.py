"""TPE over settings that stand for several seeds, as a searcher of Ray Tune.

TPE of Optuna proposes settings; this module trains each with every seed, tells Optuna the mean, and never trains one
setting twice. (Ray's `Repeater` does the first two only.)
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from snag_dist.errors import ConfigError
from snag_dist.tune.config import Sweep
from snag_dist.tune.space import to_plain
from snag_dist.tune.strategy import OptunaSearchConfig

METRIC = "best_dev_mrr"
"""What trials are compared by: the highest dev MRR so far."""
_MOST_REPEATS = 50


class SeededSearch(Searcher):
    """Settings from an inner searcher, each with every seed.

    A setting that the inner searcher proposes again is not trained again: it is told the figure, once it is known.
    After many such proposals in a row the search is over.
    """

    def __init__(self, inner: Searcher, seeds: Sequence[int]):
        """Wrap an inner searcher that maximises `METRIC`."""
        super().__init__(metric=METRIC, mode="max")
        self._inner = inner
        self._seeds = tuple(seeds)
        self._queue: list[tuple[str, int]] = []
        self._settings: dict[str, dict[str, Any]] = {}
        self._proposals: dict[str, list[str]] = {}
        self._trials: dict[str, tuple[str, int]] = {}
        self._figures: dict[str, dict[int, float | None]] = {}
        self._num_proposals = 0

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept Tune's properties; the inner searcher has its own."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the next setting and seed as a config of `rounds.run_trial`, or that the search is over."""
        if not self._queue and not self._propose():
            return Searcher.FINISHED
        key, seed = self._queue.pop(0)
        self._trials[trial_id] = (key, seed)
        return {"trial": {"changes": self._settings[key], "seed": seed, "compared": False}}

    def _propose(self) -> bool:
        for _ in range(_MOST_REPEATS):
            proposal = f"proposal-{self._num_proposals}"
            self._num_proposals += 1
            suggested = self._inner.suggest(proposal)
            if not isinstance(suggested, Mapping):
                return False
            changes = {field: to_plain(value) for field, value in suggested.items()}
            key = json.dumps(changes, sort_keys=True)
            self._proposals.setdefault(key, []).append(proposal)
            if key not in self._settings:
                self._settings[key] = changes
                self._figures[key] = {}
                self._queue = [(key, seed) for seed in self._seeds]
                return True
            self._tell(key)
        return False

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note the figure of a trial; with the last seed of its setting, tell the inner searcher the mean."""
        key, seed = self._trials[trial_id]
        self._figures[key][seed] = (result or {}).get(METRIC)
        self._tell(key)

    def _tell(self, key: str) -> None:
        if len(self._figures[key]) < len(self._seeds):
            return
        values = [value for value in self._figures[key].values() if value is not None]
        for proposal in self._proposals[key]:
            if values:
                self._inner.on_trial_complete(proposal, {METRIC: sum(values) / len(values)})
            else:
                self._inner.on_trial_complete(proposal, error=True)
        self._proposals[key] = []

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a sweep that goes on tells a new search what its trials found, see `make_tpe`."""
        Path(checkpoint_path).touch()


def make_tpe(sweep: Sweep, known: Sequence[tuple[Mapping[str, Any], float]]) -> SeededSearch:
    """Build the TPE search of a sweep.

    Args:
        sweep: with search "optuna".
        known: settings whose figure is known already, of earlier rounds.

    Raises:
        ConfigError: Optuna is not installed.
    """
    search = sweep.tune.search
    assert isinstance(search, OptunaSearchConfig)
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise ConfigError(
            "tune.search.kind: 'optuna' needs the package optuna, which is not installed; pip install optuna, or set "
            "tune.search.kind=random"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    domains = {field: parameter.domain() for field, parameter in sweep.space.items()}
    tried = [dict(changes) for changes, _ in known]
    inner = OptunaSearch(
        space=OptunaSearch.convert_search_space(domains),
        metric=METRIC,
        mode="max",
        points_to_evaluate=[point for point in sweep.points() if point not in tried],
        # TPE draws its first settings from the seed; those of a later round must not repeat them.
        seed=search.seed + len(known),
    )
    for changes, figure in known:
        inside = changes.keys() == sweep.space.keys()
        if inside and all(sweep.space[field].holds(value) for field, value in changes.items()):
            inner.add_evaluated_point(dict(changes), figure)
    return SeededSearch(inner, sweep.tune.seeds)
