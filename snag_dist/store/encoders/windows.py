"""Texts longer than an encoder's window: token sequences cut into windows, and the mean of their vectors.

The windows of a text lie end to end and do not overlap; all are full but the last. Each stands between the same
special tokens. The mean weighs a window by its tokens, special ones not counted, so that a last window of two
words does not count as much as a full one. It is taken of what the model gives, before `truncate` and
`normalize`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from snag_dist.errors import ConfigError

LongTexts = Literal["truncate", "mean"]


@dataclass(frozen=True)
class Windows:
    """Windows of n texts, text by text.

    Attributes:
        chunks: (w,) token ids of each window, without special tokens.
        starts: (n,) first window of each text; every text has one, if only an empty one.
    """

    chunks: list[list[int]]
    starts: NDArray[np.int64]

    def mean(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n, F) means over each text's windows, given (w, F) vectors of the windows."""
        weights = np.array([max(1, len(chunk)) for chunk in self.chunks], dtype=np.float64)
        sums = np.add.reduceat(vectors * weights[:, None], self.starts, axis=0)
        return (sums / np.add.reduceat(weights, self.starts)[:, None]).astype(np.float32)


def cut_into_windows(sequences: Sequence[Sequence[int]], room: int) -> Windows:
    """Cut token sequences into windows of `room` tokens."""
    chunks: list[list[int]] = []
    starts: list[int] = []
    for sequence in sequences:
        starts.append(len(chunks))
        for begin in range(0, max(1, len(sequence)), room):
            chunks.append(list(sequence[begin : begin + room]))
    return Windows(chunks, np.array(starts, dtype=np.int64))


@dataclass(frozen=True)
class Frame:
    """The special tokens around a text.

    Attributes:
        before: ids in front of it.
        after: ids behind it.
    """

    before: list[int]
    after: list[int]

    def around(self, chunk: list[int]) -> list[int]:
        """Return a window as the model wants it."""
        return [*self.before, *chunk, *self.after]

    def room(self, window: int) -> int:
        """Return the tokens of a text that fit into a window.

        Raises:
            ConfigError: none does.
        """
        special = len(self.before) + len(self.after)
        if window <= special:
            raise ConfigError(
                f"encoder.max_tokens: expected more than the {special} special tokens of a window, got {window}; "
                "raise it"
            )
        return window - special


def frame_of(tokenizer: Any) -> Frame:
    """Find the special tokens that a tokenizer of transformers puts around a text.

    Raises:
        ConfigError: it does more than put some in front and some behind.
    """
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    framed = list(tokenizer("a")["input_ids"])
    for start in range(len(framed) - len(plain) + 1):
        stop = start + len(plain)
        if framed[start:stop] == plain:
            return Frame(framed[:start], framed[stop:])
    raise ConfigError(
        "encoder.long_texts: expected a model whose tokenizer puts special tokens around a text, got one that "
        "changes the text beside them; set long_texts=truncate"
    )
