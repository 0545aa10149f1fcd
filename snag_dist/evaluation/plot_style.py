"""How pictures of a report look, whatever they show.

Colours are those of Okabe and Ito, which people who see colours otherwise can tell apart.
"""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
INK, GRID = "#222222", "#DDDDDD"


def new_canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Any = figure.subplots()
    clean(axes)
    return figure, axes


def clean(axes: Axes) -> None:
    """Take away the frame that says nothing, and put grids behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def to_png(figure: Figure) -> bytes:
    """Return the content of a PNG file; the same for the same figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return file.getvalue()
