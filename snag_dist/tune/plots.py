"""The outcome of a sweep as pictures: rho x epsilon, curves, the best so far, parallel coordinates."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from snag_dist.evaluation.plot_style import GRID, INK, PALETTE, clean, new_canvas, to_png
from snag_dist.tune.outcome import NOISE_OFF, Outcome, is_of_noise
from snag_dist.tune.setting import Setting
from snag_dist.tune.space import NOISE, ratio_beside
from snag_dist.tune.table import name_fields, write_share, write_value

_WINNER, _OFF, _OTHER = PALETTE[1], PALETTE[0], "#B0B0B0"
_COLOURS = colormaps["cividis"]
_PROBABILITY = ".probability"
_MOST_CELLS = 12
"""Values of rho or epsilon up to which they are drawn as cells of a map."""

Strength = tuple[float, float]
"""rho and epsilon."""


def draw_plots(outcome: Outcome) -> dict[str, bytes]:
    """Draw what there is data for: PNG by title."""
    figures: dict[str, Figure] = {}
    for noise in _noises(outcome.settings):
        by_strength = _figures_by_strength(outcome.settings, noise)
        if len(by_strength) > 1:
            sizes = [len({strength[place] for strength in by_strength}) for place in (0, 1)]
            is_grid = max(sizes) <= _MOST_CELLS and len(by_strength) >= 0.5 * sizes[0] * sizes[1]
            draw = _draw_map if is_grid else _draw_scatter
            of_whom = "" if noise == NOISE else f" of {noise.removeprefix(f'{NOISE}.modalities.')}"
            figures[f"rho x epsilon{of_whom}: mean dev MRR ± standard error over trials"] = draw(by_strength)
    if any(trial.curve for trial in outcome.trials):
        figures["Curves: dev MRR of every trial"] = _draw_curves(outcome)
        figures["Best so far: dev MRR in the order trials ended"] = _draw_best_so_far(outcome)
    if sum(setting.mean is not None for setting in outcome.settings) > 1:
        figures["Parallel coordinates: settings and their mean dev MRR"] = _draw_parallel(outcome)
    return {title: to_png(figure) for title, figure in figures.items()}


def _noises(settings: Sequence[Setting]) -> list[str]:
    """Name the sections whose rho and epsilon were both searched: that of all tokens, and those of single ones."""
    fields = {field for setting in settings for field in setting.changes}
    return sorted(field.removesuffix(_PROBABILITY) for field in fields if ratio_beside(field) in fields)


def _figures_by_strength(settings: Sequence[Setting], noise: str) -> dict[Strength, list[float]]:
    """Collect the figures of all trials with one rho and epsilon, whatever else differs; GMNM off is (0, 0)."""
    probability, ratio = f"{noise}{_PROBABILITY}", f"{noise}.ratio"
    found: dict[Strength, list[float]] = {}
    for setting in settings:
        changes = setting.changes
        if all(changes.get(field) == value for field, value in NOISE_OFF.items()):
            strength = (0.0, 0.0)
        elif probability in changes and ratio in changes:
            strength = (float(changes[probability]), float(changes[ratio]))
        else:
            continue
        if setting.figures:
            found.setdefault(strength, []).extend(setting.figures)
    return found


def _draw_map(by_strength: dict[Strength, list[float]]) -> Figure:
    rhos = sorted({rho for rho, _ in by_strength})
    epsilons = sorted({epsilon for _, epsilon in by_strength})
    figure, axes = new_canvas(2.2 + 0.95 * len(rhos), 1.3 + 0.62 * len(epsilons))
    means = np.full((len(epsilons), len(rhos)), np.nan)
    for (rho, epsilon), values in by_strength.items():
        means[epsilons.index(epsilon), rhos.index(rho)] = fmean(values)
    scale = _scale(means[~np.isnan(means)])
    picture = axes.imshow(means, origin="lower", cmap=_COLOURS, norm=scale, aspect="auto")
    best = max(by_strength, key=lambda strength: fmean(by_strength[strength]))
    for (rho, epsilon), values in by_strength.items():
        mean = fmean(values)
        spread = f"\n±{write_share(stdev(values) / len(values) ** 0.5)}" if len(values) > 1 else ""
        axes.text(
            rhos.index(rho),
            epsilons.index(epsilon),
            f"{'' if rho or epsilon else 'GMNM off' + chr(10)}{write_share(mean)}{spread}",
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if scale(mean) < 0.55 else INK,
            fontweight="bold" if (rho, epsilon) == best else "normal",
        )
    axes.set_xticks(range(len(rhos)), [f"{rho:g}" for rho in rhos])
    axes.set_yticks(range(len(epsilons)), [f"{epsilon:g}" for epsilon in epsilons])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _name_strengths(axes)
    figure.colorbar(picture, label="dev MRR").outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def _draw_scatter(by_strength: dict[Strength, list[float]]) -> Figure:
    figure, axes = new_canvas(7.2, 4.8)
    means = [fmean(values) for values in by_strength.values()]
    rhos, epsilons = zip(*by_strength, strict=True)
    picture = axes.scatter(rhos, epsilons, c=means, cmap=_COLOURS, norm=_scale(np.array(means)), s=110, edgecolor=INK)
    best = max(by_strength, key=lambda strength: fmean(by_strength[strength]))
    words = write_share(fmean(by_strength[best]))
    axes.annotate(words, best, textcoords="offset points", xytext=(8, 6), fontsize=9, color=INK)
    axes.grid(color=GRID)
    axes.margins(0.08)
    _name_strengths(axes)
    figure.colorbar(picture, label="dev MRR")
    return figure


def _name_strengths(axes: Axes) -> None:
    axes.set_xlabel("rho, share of entities that GMNM touches")
    axes.set_ylabel("epsilon, weight of the noise")


def _scale(values: Any) -> Normalize:
    low, high = float(np.min(values)), float(np.max(values))
    return Normalize(low, high if high > low else low + 1e-6)


def _colour_of(outcome: Outcome, setting: Setting) -> str:
    if outcome.winner is not None and setting.name == outcome.winner.name:
        return _WINNER
    return _OFF if outcome.noise_off is not None and setting.name == outcome.noise_off.name else _OTHER


def _legend(axes: Axes, outcome: Outcome) -> None:
    names = {_WINNER: "winner"}
    if outcome.noise_off is not None and outcome.winner is not None:
        if outcome.noise_off.name == outcome.winner.name:
            names[_WINNER] = "winner, which has GMNM off"
        else:
            names[_OFF] = "the same, GMNM off"
    names[_OTHER] = "other settings"
    handles = [Line2D([], [], color=colour, marker="o", label=name) for colour, name in names.items()]
    axes.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _draw_curves(outcome: Outcome) -> Figure:
    """Draw a line a trial; a cross where the scheduler stopped it."""
    figure, axes = new_canvas(8.6, 4.4)
    # The grey ones first, so that they cover nothing.
    ordered = sorted(outcome.settings, key=lambda setting: _colour_of(outcome, setting) != _OTHER)
    for setting in ordered:
        colour = _colour_of(outcome, setting)
        thin = colour == _OTHER
        for trial in setting.trials:
            if not trial.curve:
                continue
            epochs, values = zip(*trial.curve, strict=True)
            axes.plot(
                epochs, values, color=colour, linewidth=0.9 if thin else 2, marker="o", markersize=2 if thin else 4
            )
            if trial.state in ("stopped", "failed"):
                axes.plot(epochs[-1], values[-1], color=colour, marker="x", markersize=7, markeredgewidth=1.6)
    axes.set_xlabel("epoch (x: stopped early)")
    axes.set_ylabel("dev MRR")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=GRID)
    _legend(axes, outcome)
    return figure


def _draw_best_so_far(outcome: Outcome) -> Figure:
    figure, axes = new_canvas(8.6, 4.0)
    colours = {trial.name: _colour_of(outcome, it) for it in outcome.settings for trial in it.trials}
    ended = sorted((trial for trial in outcome.trials if trial.best is not None), key=lambda trial: trial.ended)
    numbers = range(1, len(ended) + 1)
    values = [float(trial.best or 0.0) for trial in ended]
    axes.step(numbers, np.maximum.accumulate(values), where="post", color=INK, linewidth=1.6)
    for number, value, trial in zip(numbers, values, ended, strict=True):
        marker = "o" if trial.is_complete else "x"
        axes.scatter(number, value, c=colours[trial.name], marker=marker, s=34, zorder=3)
    axes.set_xlabel("trial, in the order they ended (line: best so far; x: stopped early)")
    axes.set_ylabel("best dev MRR of the trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=GRID)
    _legend(axes, outcome)
    return figure


def _draw_parallel(outcome: Outcome) -> Figure:
    """Draw a line a setting through an axis a field, the last axis its figure."""
    # Without the setting that was trained to compare with: it has no place on the axes of the noise.
    settings = [it for it in outcome.settings if it.mean is not None and not it.trials[0].compared]
    names = name_fields(outcome)
    fields = [field for field in outcome.fields if any(field in setting.changes for setting in settings)]
    columns = [
        _Column(names[field], [it.changes.get(field) for it in settings], may_be_log=not is_of_noise(field))
        for field in fields
    ]
    means = [fmean(setting.figures) for setting in settings]
    columns.append(_Column("dev MRR", means, as_share=True))
    scale = _scale(np.array(means))
    figure, axes = new_canvas(2.0 + 1.35 * len(columns), 4.6)
    for row in reversed(range(len(settings))):
        is_winner = outcome.winner is not None and settings[row].name == outcome.winner.name
        points = [(place, column.heights[row]) for place, column in enumerate(columns)]
        known = [(place, height) for place, height in points if height is not None]
        axes.plot(
            [place for place, _ in known],
            [height for _, height in known],
            color=_WINNER if is_winner else _COLOURS(scale(means[row])),
            linewidth=2.6 if is_winner else 1.2,
            alpha=1.0 if is_winner else 0.8,
            zorder=3 if is_winner else 2,
        )
    for place, column in enumerate(columns):
        axes.axvline(place, color=INK, linewidth=0.8)
        for height, words in column.ticks:
            axes.text(place + 0.04, height, words, fontsize=8, va="center", color=INK, zorder=4, bbox=_PAPER)
    axes.set_xticks(range(len(columns)), [column.name for column in columns])
    axes.set_yticks([])
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(-0.15, len(columns) - 0.55)
    clean(axes)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.legend(
        handles=[Line2D([], [], color=_WINNER, linewidth=2.6, label="winner")],
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
    )
    figure.colorbar(ScalarMappable(scale, _COLOURS), ax=axes, label="dev MRR")
    return figure


_PAPER = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}


class _Column:
    """One axis: heights in [0, 1] of the values, and what is written beside it."""

    def __init__(self, name: str, values: Sequence[Any], *, as_share: bool = False, may_be_log: bool = False):
        self.name = name
        present = [value for value in values if value is not None]
        different = [value for place, value in enumerate(present) if value not in present[:place]]
        distinct = sorted(different, key=None if _are_numbers(present) else str)
        write = write_share if as_share else write_value
        if _are_numbers(distinct) and (as_share or len(distinct) > 6):
            low, high = float(distinct[0]), float(distinct[-1])
            is_log = may_be_log and low > 0 and high / low > 8
            place = (lambda x: float(np.log(x))) if is_log else float
            span = (place(high) - place(low)) or 1.0
            self.heights = [None if value is None else (place(value) - place(low)) / span for value in values]
            marks = np.geomspace(low, high, 5) if is_log else np.linspace(low, high, 5)
            self.ticks = [((place(mark) - place(low)) / span, write(float(f"{mark:.3g}"))) for mark in marks]
            if as_share:
                self.ticks = [((mark - low) / span, write(float(mark))) for mark in marks]
        else:
            step = 1.0 / max(1, len(distinct) - 1)
            self.heights = [None if value is None else distinct.index(value) * step for value in values]
            self.ticks = [(number * step, write(value)) for number, value in enumerate(distinct)]


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
