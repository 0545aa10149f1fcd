from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from snag_dist.store.encoders import PixelsConfig, resolve_vision


def vector(pixels: np.ndarray, **fields: object) -> np.ndarray:
    encoder = resolve_vision(PixelsConfig(**fields)).spec.load()
    made = encoder.encode([encoder.prepare(Image.fromarray(pixels))])
    assert made.shape == (1, encoder.width) and made.dtype == np.float32
    return made[0]


def by_fractions(pixels: np.ndarray, side: int) -> np.ndarray:
    """Average the white square around a picture over cells, one pixel and one cell at a time, in fractions."""
    height, width = pixels.shape[:2]
    square = max(height, width)
    canvas = np.full((square, square, 3), 255)
    top, left = (square - height) // 2, (square - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    cell = Fraction(square, side)

    def share(pixel: int, index: int) -> Fraction:
        return max(Fraction(0), min(Fraction(pixel + 1), (index + 1) * cell) - max(Fraction(pixel), index * cell))

    numbers: list[float] = []
    for i in range(side):
        for j in range(side):
            for colour in range(3):
                total = sum(
                    share(y, i) * share(x, j) * int(canvas[y, x, colour]) for y in range(square) for x in range(square)
                )
                numbers.append(float(total / cell**2 * 2 / 255 - 1))
    return np.array(numbers, dtype=np.float32)


def test_cells_are_means_of_their_pixels():
    # Four cells of 2 x 2 pixels: red, green, blue, and one of the four colours of a checkerboard.
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[:2, :2, 0] = 255
    pixels[:2, 2:, 1] = 255
    pixels[2:, :2, 2] = 255
    pixels[2, 2] = pixels[3, 3] = 102
    # 2 (2 * 102 / 4) / 255 - 1 = -0.6
    expected = [1, -1, -1, -1, 1, -1, -1, -1, 1, -0.6, -0.6, -0.6]
    np.testing.assert_allclose(vector(pixels, side=2), expected, rtol=1e-6)


def test_a_wide_picture_lies_between_white_bands():
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    cells = vector(pixels, side=4).reshape(4, 4, 3)
    np.testing.assert_array_equal(cells[[0, 3]], 1)
    np.testing.assert_array_equal(cells[[1, 2]], -1)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(5, 3, 2), (3, 7, 4), (2, 2, 3), (1, 1, 2), (4, 5, 1), (7, 7, 5)]
)
def test_pixels_that_lie_in_two_cells_count_by_their_share(height: int, width: int, side: int):
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_allclose(vector(pixels, side=side), by_fractions(pixels, side), rtol=1e-6, atol=1e-7)


def test_grey_is_luma():
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    # 0.299, 0.587 and 0.114, from [0, 1] to [-1, 1].
    np.testing.assert_allclose(vector(pixels, side=2, colour="grey"), [-0.402, 0.174, -0.772, 1], rtol=1e-6)


def test_a_large_picture_of_one_colour_is_exact():
    pixels = np.full((777, 1013, 3), 51, dtype=np.uint8)
    cells = vector(pixels, side=16).reshape(16, 16, 3)
    # 51 / 255 = 0.2 exactly, whatever the number of pixels.
    np.testing.assert_array_equal(cells[4:12], np.float32(-0.6))


def test_each_picture_has_its_own_vector_and_the_record_says_how():
    resolved = resolve_vision(PixelsConfig(side=8, batch_size=7, num_actors=2))
    encoder = resolved.spec.load()
    assert encoder.width == 192 and encoder.batch_size == 7 and resolved.num_actors == 2
    pictures = [Image.new("RGB", (9, 9), colour) for colour in ("black", "white")]
    np.testing.assert_array_equal(encoder.encode([encoder.prepare(picture) for picture in pictures])[:, 0], [-1, 1])
    assert encoder.encode([]).shape == (0, 192)
    assert resolved.record.name == "pixels 8 x 8 rgb"
    other = resolve_vision(PixelsConfig(side=8, colour="grey")).record
    assert other.weights_sha256 != resolved.record.weights_sha256
