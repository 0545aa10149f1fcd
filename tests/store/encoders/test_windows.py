from typing import Any

import numpy as np
import pytest

from snag_dist.errors import ConfigError
from snag_dist.store.encoders.windows import Frame, cut_into_windows, frame_of


def test_windows_lie_end_to_end_and_every_text_has_one():
    windows = cut_into_windows([[1, 2, 3, 4, 5], [], [6, 7]], 2)
    assert windows.chunks == [[1, 2], [3, 4], [5], [], [6, 7]]
    assert windows.starts.tolist() == [0, 3, 4]


def test_the_mean_weighs_a_window_by_its_tokens():
    windows = cut_into_windows([[1, 2, 3, 4, 5], [], [6, 7]], 2)
    vectors = np.array([[1, 0], [0, 10], [5, 5], [7, 7], [8, 9]], dtype=np.float32)
    # (2 (1, 0) + 2 (0, 10) + 1 (5, 5)) / 5
    expected = np.array([[7 / 5, 25 / 5], [7, 7], [8, 9]], dtype=np.float32)
    mean = windows.mean(vectors)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, expected, rtol=1e-6)


class Words:
    """A tokenizer of single letters, as one of transformers is called."""

    def __init__(self, before: list[int], after: list[int], *, doubles: bool = False) -> None:
        self._before, self._after, self._doubles = before, after, doubles

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, Any]:
        ids = [ord(letter) for letter in text]
        if not add_special_tokens:
            return {"input_ids": ids}
        return {"input_ids": [*self._before, *([99] if self._doubles else ids), *self._after]}


@pytest.mark.parametrize(("before", "after"), [([2], [3]), ([], [1]), ([7, 8], [])])
def test_special_tokens_are_found_on_both_sides(before: list[int], after: list[int]):
    frame = frame_of(Words(before, after))
    assert frame == Frame(before, after)
    assert frame.around([5, 6]) == [*before, 5, 6, *after]
    assert frame.room(8) == 8 - len(before) - len(after)


def test_a_tokenizer_that_changes_the_text_is_refused():
    with pytest.raises(
        ConfigError, match="encoder.long_texts: expected a model whose tokenizer .*; set long_texts=trunc"
    ):
        frame_of(Words([2], [3], doubles=True))


def test_a_window_without_room_is_refused():
    with pytest.raises(
        ConfigError, match="encoder.max_tokens: expected more than the 2 special tokens .*, got 2; raise"
    ):
        Frame([1], [2]).room(2)
