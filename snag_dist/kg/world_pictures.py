"""What an entity of the generated world looks like: a small drawing with its attributes in it.

The shape tells the kind, its colour the colour, its place on the canvas the position on the map, and the pattern
behind it the style. Theme and era are in no picture. Every picture has its own tint and grain.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from snag_dist.kg.world_latents import SIZES, Latents, draw
from snag_dist.kg.world_order import Bools, Floats

Pixels = NDArray[np.uint8]

# Red, green, blue of COLOURS.
_PALETTE = np.array(
    [
        [205, 40, 40],
        [235, 140, 30],
        [225, 215, 50],
        [50, 160, 60],
        [40, 185, 185],
        [45, 75, 205],
        [140, 60, 170],
        [120, 120, 120],
    ],
    dtype=np.float64,
)
_PAPER = 235.0
# Share of the entity's colour in the paper.
_WASH = 0.4
_PATTERN_DEPTH = 70.0
_TINT_SPREAD = 40.0
_GRAIN_SPREAD = 40.0
_WAVES = 4.0
# Half of a shape's side, and how far its middle may be from the canvas's, as shares of the side.
_SHAPE_RADIUS, _SHAPE_TRAVEL = 0.3, 0.18
_CHUNK = 512


def draw_pictures(seed: int, latents: Latents, side: int) -> Pixels:
    """Draw each entity.

    Args:
        seed: of the world.
        latents: of N entities.
        side: of a picture, in pixels.

    Returns:
        (N, side, side, 3) red, green, blue. The bytes do not depend on which entities are drawn together.
    """
    pictures = np.empty((len(latents.ids), side, side, 3), dtype=np.uint8)
    for start in range(0, len(pictures), _CHUNK):
        rows = slice(start, start + _CHUNK)
        pictures[rows] = _draw_chunk(seed, latents, rows, side)
    return pictures


def _draw_chunk(seed: int, latents: Latents, rows: slice, side: int) -> Pixels:
    ids = latents.ids[rows]
    tint = _TINT_SPREAD * (draw(seed, "tint", ids, 3) - 0.5)
    # Uniform grain, because it is exact on any machine and for any block.
    grain = _GRAIN_SPREAD * (draw(seed, "grain", ids, side * side) - 0.5)
    axis = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(axis, axis, indexing="ij")
    patterns = np.stack([_pattern(style, x, y) for style in range(SIZES["style"])])
    canvas = _PAPER - _PATTERN_DEPTH * patterns[latents.style[rows]]
    middle = 0.5 + _SHAPE_TRAVEL * 2.0 * (latents.position[rows] - 0.5)
    right = (x - middle[:, 0, None, None]) / _SHAPE_RADIUS
    down = (y - middle[:, 1, None, None]) / _SHAPE_RADIUS
    shape: Bools = np.zeros(right.shape, dtype=np.bool_)
    for kind, inside in enumerate(_SHAPES):
        here = latents.kind[rows] == kind
        shape[here] = inside(right[here], down[here])
    colours = _PALETTE[latents.colour[rows]] + tint
    paper = (1.0 - _WASH) * canvas[..., None] + _WASH * colours[:, None, None, :]
    pixels = np.where(shape[..., None], colours[:, None, None, :], paper)
    return np.clip(pixels + grain.reshape(-1, side, side, 1), 0, 255).astype(np.uint8)


def _pattern(style: int, x: Floats, y: Floats) -> Floats:
    """Return the darkness of a style's pattern, in [0, 1], at every pixel; the order is that of STYLES."""
    stripes_down, stripes_right = np.sin(2 * np.pi * _WAVES * y), np.sin(2 * np.pi * _WAVES * x)
    radius = np.hypot(x - 0.5, y - 0.5)
    patterns = (
        stripes_down > 0,
        stripes_right > 0,
        np.sin(2 * np.pi * _WAVES * (x + y)) > 0,
        stripes_down * stripes_right > 0,
        stripes_down + stripes_right > 1.0,
        np.sin(2 * np.pi * _WAVES * 1.5 * radius) > 0,
        np.full_like(x, 0.3),
        y,
    )
    return np.asarray(patterns[style], dtype=np.float64)


def _is_country(right: Floats, down: Floats) -> Bools:
    pole = (np.abs(right + 0.85) < 0.15) & (np.abs(down) < 1)
    return pole | ((np.abs(right) < 1) & (down > -1) & (down < 0.25))


def _is_city(right: Floats, down: Floats) -> Bools:
    roof = np.where(right < -0.35, -0.2, np.where(right < 0.3, -1.0, 0.2))
    gap = (np.abs(right + 0.35) < 0.08) | (np.abs(right - 0.3) < 0.08)
    return (np.abs(right) < 1) & (down < 1) & (down > roof) & ~gap


def _is_academy(right: Floats, down: Floats) -> Bools:
    return (down < 1) & (down > -1) & (np.abs(right) < np.where(down < 0, down + 1, 0.6))


def _is_museum(right: Floats, down: Floats) -> Bools:
    beam = np.abs(down) > 0.6
    columns = np.cos(right * 2.5 * np.pi) < 0
    return (np.abs(right) < 1) & (np.abs(down) < 1) & (beam | columns)


def _is_gallery(right: Floats, down: Floats) -> Bools:
    widest = np.maximum(np.abs(right), np.abs(down))
    return (widest < 1) & (widest > 0.55)


def _is_movement(right: Floats, down: Floats) -> Bools:
    return np.abs(right) + np.abs(down) < 1


def _is_person(right: Floats, down: Floats) -> Bools:
    head = np.hypot(right, down + 0.5) < 0.45
    shoulders = (np.hypot(right / 0.9, down - 1) < 0.9) & (down < 1)
    return head | shoulders


def _is_painting(right: Floats, down: Floats) -> Bools:
    widest = np.maximum(np.abs(right), np.abs(down))
    return (widest < 0.65) | ((widest < 1) & (widest > 0.85))


_SHAPES: tuple[Callable[[Floats, Floats], Bools], ...] = (
    _is_country,
    _is_city,
    _is_academy,
    _is_museum,
    _is_gallery,
    _is_movement,
    _is_person,
    _is_painting,
)
