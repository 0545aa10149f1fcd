"""The rank of every setting on a cheap rung against its rank on the whole graph, as a picture."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.stats import rankdata

from snag_dist.evaluation.plot_style import GRID, INK, PALETTE, clean, to_png
from snag_dist.tune.prediction import Prediction, RungResult
from snag_dist.tune.rung_table import name_rung, write_agreement

_KEPT, _CHOSEN, _OTHER = PALETTE[0], PALETTE[1], "#B0B0B0"


def draw_ranks(prediction: Prediction) -> dict[str, bytes]:
    """Draw a panel a cheap rung, over the settings that the whole graph has too: PNG by title; nothing for one."""
    whole = prediction.rungs[-1]
    cheap = [result for result in prediction.rungs[:-1] if len(_shared(result, whole)) > 1]
    if not cheap:
        return {}
    figure = Figure(figsize=(0.6 + 3.6 * len(cheap), 4.6), layout="constrained")
    panels: Any = figure.subplots(1, len(cheap), squeeze=False)
    for axes, result in zip(panels[0], cheap, strict=True):
        _draw(axes, result, whole)
    panels[0][0].set_ylabel("rank on the whole graph")
    handles = [
        Line2D([], [], color=_CHOSEN, marker="o", linestyle="", label="best on the whole"),
        Line2D([], [], color=_KEPT, marker="o", linestyle="", label="goes on from the rung"),
        Line2D([], [], color=_OTHER, marker="o", linestyle="", label="others"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return {"Rungs: rank by dev MRR on a cheap rung against rank on the whole graph": to_png(figure)}


def _shared(result: RungResult, whole: RungResult) -> list[str]:
    return [name for name in result.figures if name in whole.figures]


def _draw(axes: Axes, result: RungResult, whole: RungResult) -> None:
    names = _shared(result, whole)
    cheap, full = (rankdata([-it.figures[name] for name in names]) for it in (result, whole))
    best = max(names, key=lambda name: whole.figures[name])
    colours = [_CHOSEN if name == best else _KEPT if name in result.kept else _OTHER for name in names]
    axes.plot([1, len(names)], [1, len(names)], color=GRID, zorder=1)
    axes.scatter(cheap, full, c=colours, edgecolor=INK, linewidth=0.6, s=46, zorder=2)
    axes.set_xlabel(f"rank on the {name_rung(result)}, {result.rung.epochs} epochs")
    axes.set_title(f"tau-b {write_agreement(result.with_whole)}", fontsize=10, color=INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.margins(0.08)
    axes.invert_xaxis()
    axes.invert_yaxis()
    axes.set_aspect("equal")
    clean(axes)
