"""A comparison as pictures: robustness to missing modalities, weights by presence, ablations.

Line and marker say once more what a colour says. PNG, so that a page can hold them.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from snag_dist.evaluation.comparison import COMPLETION, PUBLISHED, Cell, Column, Comparison, Mean, Row
from snag_dist.evaluation.comparison_table import HEADERS, TASKS, name_row
from snag_dist.evaluation.plot_style import GRID, INK, PALETTE, clean, new_canvas, to_png

_DARK = ("#0072B2", "#D55E00", "#009E73", "#4D4D4D")
_MARKERS = "osD^vP*X"
_ON, _OFF = "#0072B2", "#E69F00"
_HEADLINE = {"completion": (COMPLETION, "mrr"), "alignment": (PUBLISHED, "hits@1")}


def _headline(cell: Cell) -> Mean:
    way, metric = _HEADLINE[cell.row.task]
    return cell.figures[way][metric]


def _metric_name(task: str) -> str:
    return HEADERS[_HEADLINE[task][1]]


def draw_plots(comparison: Comparison) -> dict[str, bytes]:
    """Draw what there is data for: PNG by title."""
    plots: dict[str, bytes] = {}
    for task in TASKS:
        cells = comparison.of_task(task)
        for (dataset, modality), lines in _curves(cells).items():
            title = f"{dataset}: {_metric_name(task)} as {modality} is taken away"
            plots[title] = to_png(_draw_curve(lines, modality, _metric_name(task)))
        for column in sorted({cell.column for cell in cells}, key=Column.order):
            here = [cell for cell in cells if cell.column == column]
            if len(here) > 1 and not column.missing:
                title = f"{column.name}: {_metric_name(task)} by method"
                plots[title] = to_png(_draw_bars(here, _metric_name(task)))
            weighed = [cell for cell in here if cell.weights is not None and cell.weights.patterns]
            if weighed:
                plots[f"{column.name}: weights of modalities by presence"] = to_png(_draw_weights(weighed))
    return plots


Curve = list[tuple[float, Mean]]
"""Points of a line: ratio kept, and the metric there."""


def _curves(cells: Sequence[Cell]) -> dict[tuple[str, str], dict[Row, Curve]]:
    """Find the lines with two ratios at least, by dataset and the one modality that is taken away."""
    found: dict[tuple[str, str], dict[Row, Curve]] = {}
    modalities = {(cell.column.dataset, cell.column.missing[0][0]) for cell in cells if len(cell.column.missing) == 1}
    for dataset, modality in sorted(modalities):
        lines: dict[Row, Curve] = {}
        for cell in cells:
            ratios = dict(cell.column.missing)
            if cell.column.dataset == dataset and set(ratios) <= {modality}:
                lines.setdefault(cell.row, []).append((ratios.get(modality, 1.0), _headline(cell)))
        lines = {row: sorted(line, key=lambda point: point[0]) for row, line in lines.items() if len(line) > 1}
        if lines:
            found[dataset, modality] = lines
    return found


def _draw_curve(lines: Mapping[Row, Curve], modality: str, metric: str) -> Figure:
    figure, axes = new_canvas(9.0, 4.6)
    labels = list(dict.fromkeys((row.label, row.stage) for row in lines))
    # Side by side, so that the error bars of two methods do not cover each other.
    shifts = _spread(len(lines), 0.006)
    for shift, (row, line) in zip(shifts, lines.items(), strict=True):
        number = labels.index((row.label, row.stage))
        axes.errorbar(
            [ratio + shift for ratio, _ in line],
            [mean.mean for _, mean in line],
            yerr=[mean.std or 0.0 for _, mean in line],
            label=f"{name_row(row)}, GMNM {'on' if row.gmnm else 'off'}",
            color=PALETTE[number % len(PALETTE)],
            linestyle="-" if row.gmnm else (0, (4, 2)),
            marker=_MARKERS[number % len(_MARKERS)],
            markerfacecolor=PALETTE[number % len(PALETTE)] if row.gmnm else "white",
            markersize=6,
            linewidth=1.8,
            capsize=3,
        )
    ratios = sorted({ratio for line in lines.values() for ratio, _ in line})
    axes.set_xticks(ratios, ["all\nthere is" if ratio == 1.0 else f"{ratio:g}" for ratio in ratios])
    axes.set_xlabel(f"share of entities that keep {modality}")
    axes.set_ylabel(f"{metric}, mean and std over seeds")
    axes.grid(axis="y", color=GRID)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _spread(num: int, step: float) -> list[float]:
    return [(place - (num - 1) / 2) * step for place in range(num)]


def _draw_bars(cells: Sequence[Cell], metric: str) -> Figure:
    ordered = sorted(cells, key=lambda cell: _headline(cell).mean)
    figure, axes = new_canvas(7.2, 0.9 + 0.36 * len(ordered))
    ends: list[float] = []
    for place, cell in enumerate(ordered):
        value = _headline(cell)
        axes.barh(place, value.mean, height=0.66, color=_ON if cell.row.gmnm else _OFF)
        if value.std is not None:
            axes.errorbar(value.mean, place, xerr=value.std, color=INK, capsize=3, linewidth=1.2)
        ends.append(value.mean + (value.std or 0.0))
    for place, (cell, end) in enumerate(zip(ordered, ends, strict=True)):
        value = _headline(cell)
        deviation = "" if value.std is None else f" ±{value.std:.3f}".replace("0.", ".")
        words = f"{value.mean:.3f}".removeprefix("0") + deviation
        axes.text(end + 0.012 * max(ends), place, words, va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(ordered)), [name_row(cell.row) for cell in ordered])
    axes.set_xlim(0, 1.22 * max(ends))
    axes.set_xlabel(f"{metric}, mean and std over seeds")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    colours = {"on": _ON, "off": _OFF}
    handles = [Patch(color=colour, label=f"GMNM {word}") for word, colour in colours.items()]
    axes.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def _draw_weights(cells: Sequence[Cell]) -> Figure:
    """Draw a stacked bar a pattern of presence, a panel a method."""
    weights = [cell.weights for cell in cells if cell.weights is not None]
    names = list(dict.fromkeys(name for one in weights for name in one.names))
    heights = [len(one.patterns) for one in weights]
    figure = Figure(figsize=(7.2, 0.7 + sum(0.55 + 0.34 * height for height in heights)), layout="constrained")
    panels = figure.subplots(len(cells), 1, squeeze=False, height_ratios=[height + 0.6 for height in heights])[:, 0]
    for axes, cell, one in zip(panels, cells, weights, strict=True):
        for place, pattern in enumerate(reversed(one.patterns)):
            start = 0.0
            for name, width in pattern.mean.items():
                axes.barh(place, width, left=start, height=0.72, color=_colour(names, name), edgecolor="white")
                if width >= 0.06:
                    ink = "white" if _colour(names, name) in _DARK else INK
                    words = f"{100 * width:.0f} %"
                    axes.text(start + width / 2, place, words, ha="center", va="center", fontsize=8, color=ink)
                start += width
        axes.set_yticks(range(len(one.patterns)), [f"{it.name}\n{it.num_entities:,}" for it in reversed(one.patterns)])
        axes.set_title(f"{name_row(cell.row)}, GMNM {'on' if cell.row.gmnm else 'off'}", loc="left", fontsize=10)
        axes.set_xlim(0, 1)
        clean(axes)
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    panels[-1].set_xlabel("mean weight of each modality; left: what entities have, and how many they are")
    handles = [Patch(color=_colour(names, name), label=name) for name in names]
    figure.legend(handles=handles, frameon=False, loc="outside upper center", ncols=min(len(names), 6))
    return figure


def _colour(names: Sequence[str], name: str) -> str:
    return PALETTE[names.index(name) % len(PALETTE)]
