import pickle
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import picture_zoo as zoo
import pytest
from PIL import Image

from snag_dist.store.pictures import PictureError, decode_picture

MAX_PIXELS = 10_000


@pytest.mark.parametrize("name", zoo.SOUND)
def test_pixels_are_what_a_viewer_shows_over_white(name: str):
    data, expected, tolerance = zoo.SOUND[name]
    picture = decode_picture(data, max_pixels=MAX_PIXELS)
    assert picture.mode == "RGB" and type(picture) is Image.Image
    pixels = np.asarray(picture)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize("name", zoo.BROKEN)
def test_a_picture_that_is_none_has_a_reason(name: str):
    data, reason = zoo.BROKEN[name]
    with pytest.raises(PictureError) as error:
        decode_picture(data, max_pixels=MAX_PIXELS)
    assert error.value.reason.startswith(reason)
    assert "\n" not in error.value.reason
    assert str(pickle.loads(pickle.dumps(error.value))) == error.value.reason


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, zoo.LETTER),
        (2, np.fliplr(zoo.LETTER)),
        (3, np.rot90(zoo.LETTER, 2)),
        (4, np.flipud(zoo.LETTER)),
        (5, zoo.LETTER.transpose(1, 0, 2)),
        (6, np.rot90(zoo.LETTER, -1)),
        (7, np.rot90(zoo.LETTER.transpose(1, 0, 2), 2)),
        (8, np.rot90(zoo.LETTER)),
        (9, zoo.LETTER),
    ],
)
def test_exif_says_which_way_is_up(orientation: int, expected: np.ndarray):
    data = zoo.saved(Image.fromarray(zoo.LETTER), "PNG", exif=zoo.with_orientation(orientation))
    np.testing.assert_array_equal(np.asarray(decode_picture(data, max_pixels=MAX_PIXELS)), expected)


def test_the_limit_itself_is_still_decoded():
    data = zoo.saved(zoo.plain(zoo.RED, size=(100, 100)), "PNG")
    assert decode_picture(data, max_pixels=10_000).size == (100, 100)


def test_the_limit_is_ours_and_not_pillows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = zoo.saved(zoo.plain(zoo.RED, size=(100, 100)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_picture(data, max_pixels=10_000).size == (100, 100)


def test_a_limit_of_pillow_that_cannot_be_lifted_is_told_as_such(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data, _, _ = zoo.SOUND["animated webp"]
    with pytest.raises(PictureError, match="^too large: Image size .128 pixels. exceeds limit of 20 pixels"):
        decode_picture(data, max_pixels=10_000)


@pytest.mark.parametrize("name", [name for name in zoo.BROKEN if name.startswith("huge")])
def test_a_bomb_is_refused_from_its_header(name: str):
    data, _ = zoo.BROKEN[name]
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match="too large"):
            decode_picture(data, max_pixels=MAX_PIXELS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_threads_change_nothing():
    pictures = [data for data, _, _ in zoo.SOUND.values()] * 4
    alone = [decode_picture(data, max_pixels=MAX_PIXELS).tobytes() for data in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: decode_picture(data, max_pixels=MAX_PIXELS).tobytes(), pictures))
    assert alone == together
