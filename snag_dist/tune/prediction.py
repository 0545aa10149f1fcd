"""How well the ranking of settings on a cheap rung predicted the ranking on dearer ones, and what each rung cost.

Source: Kendall, "The treatment of ties in ranking problems" (Biometrika, 1945): tau-b.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from scipy.stats import kendalltau

from snag_dist.config import Config
from snag_dist.tune.config import Sweep
from snag_dist.tune.ladder import Ladder, Rung, choose_kept, read_rung
from snag_dist.tune.setting import compare_settings
from snag_dist.tune.trial import TrialRecord, name_setting


class Agreement(Config):
    """How alike two rungs rank the settings that both have trained."""

    num_settings: int
    """That both have trained, with every seed."""
    tau: float | None
    """Kendall's tau-b of their mean dev MRR, in [-1, 1]; none for fewer than two settings, or if a rung has all of
    them equal."""
    p_value: float | None
    """Chance of a tau as far from 0 between unrelated rankings."""


class RungResult(Config):
    """What a rung found and cost."""

    rung: Rung
    """Graph and epochs."""
    figures: dict[str, float]
    """Mean dev MRR over seeds by name of setting, best first."""
    kept: tuple[str, ...]
    """Settings that go on by the ranking of this rung, best first; on the last rung the best one."""
    num_trials: int
    """Trained here, ended early or failed included."""
    triples_seen: int
    """Training triples that all of them have passed over."""
    seconds: float
    """Sum over trials, each from its first to its last line of log."""
    with_next: Agreement | None
    """With the next rung; none on the last."""
    with_whole: Agreement | None
    """With the last rung; none on it."""


class Halving(Config):
    """What successive halving would have come to, in a study that trained all settings on every rung."""

    chosen: str
    """Name of the setting."""
    rank: int
    """Of its mean dev MRR on the whole graph, among all settings; 1 is the best."""
    loss: float
    """Mean dev MRR of the best setting less that of the chosen one."""
    triples_seen: int
    """By the trials that halving would have trained."""


class Prediction(Config):
    """Rungs against one another."""

    study: bool
    """Whether all settings were trained on every rung; else the dearer rungs have those alone that went on."""
    num_settings: int
    """Compared on the first rung."""
    rungs: tuple[RungResult, ...]
    """Cheapest first."""
    triples_seen: int
    """On all rungs."""
    grid_triples: int
    """That every setting with every seed would pass over on the whole graph in all epochs."""
    halving: Halving | None
    """Of a study that is through."""


def agree(one: Mapping[str, float], other: Mapping[str, float]) -> Agreement:
    """Compare two rankings over the settings that both have.

    Args:
        one, other: figure by name of setting.
    """
    shared = [name for name in one if name in other]
    if len(shared) < 2:
        return Agreement(num_settings=len(shared), tau=None, p_value=None)
    found: Any = kendalltau([one[name] for name in shared], [other[name] for name in shared], variant="b")
    tau, p_value = float(found.statistic), float(found.pvalue)
    if math.isnan(tau):
        return Agreement(num_settings=len(shared), tau=None, p_value=None)
    return Agreement(num_settings=len(shared), tau=tau, p_value=p_value)


def predict(sweep: Sweep, ladder: Ladder) -> Prediction:
    """Compare the rungs of a sweep as it stands.

    Args:
        sweep: with rungs.
        ladder: its rungs.
    """
    fidelity = sweep.tune.fidelity
    assert fidelity is not None
    records = [read_rung(sweep, rung) for rung in ladder.rungs]
    figures = [{it.name: it.mean for it in compare_settings(found) if it.mean is not None} for found in records]
    survivors = _halve(sweep, records, set(figures[0]))
    nexts = [agree(one, other) for one, other in pairwise(figures)]
    wholes = [agree(one, figures[-1]) for one in figures[:-1]]
    rungs = tuple(
        RungResult(
            rung=rung,
            figures=figures[number],
            kept=survivors[number],
            num_trials=len(records[number]),
            triples_seen=_triples_seen(rung, records[number]),
            seconds=sum(record.ended - record.started for record in records[number]),
            with_next=[*nexts, None][number],
            with_whole=[*wholes, None][number],
        )
        for number, rung in enumerate(ladder.rungs)
    )
    num_trials = len(figures[0]) * len(sweep.tune.seeds)
    return Prediction(
        study=fidelity.study,
        num_settings=len(figures[0]),
        rungs=rungs,
        triples_seen=sum(rung.triples_seen for rung in rungs),
        grid_triples=num_trials * ladder.whole.num_triples * ladder.whole.epochs,
        halving=_judge(ladder, records, figures, survivors) if fidelity.study else None,
    )


def _halve(sweep: Sweep, records: Sequence[Sequence[TrialRecord]], names: set[str]) -> list[tuple[str, ...]]:
    """Return who goes on from every rung; from the last, the best one."""
    assert sweep.tune.fidelity is not None
    survivors: list[tuple[str, ...]] = []
    for number, found in enumerate(records):
        is_last = number == len(records) - 1
        num = 1 if is_last else sweep.tune.fidelity.num_kept(number, len(names))
        survivors.append(tuple(setting.name for setting in choose_kept(found, names, num)))
        names = set(survivors[-1])
    return survivors


def _judge(
    ladder: Ladder,
    records: Sequence[Sequence[TrialRecord]],
    figures: Sequence[Mapping[str, float]],
    survivors: Sequence[tuple[str, ...]],
) -> Halving | None:
    whole = figures[-1]
    if not survivors[-1]:
        return None
    chosen = survivors[-1][0]
    entered = [tuple(figures[0]), *survivors[:-1]]
    return Halving(
        chosen=chosen,
        rank=1 + sum(figure > whole[chosen] for figure in whole.values()),
        loss=max(whole.values()) - whole[chosen],
        triples_seen=sum(
            _triples_seen(rung, [it for it in found if name_setting(it.changes) in names])
            for rung, found, names in zip(ladder.rungs, records, entered, strict=True)
        ),
    )


def _triples_seen(rung: Rung, records: Sequence[TrialRecord]) -> int:
    return rung.num_triples * sum(record.epochs for record in records)
