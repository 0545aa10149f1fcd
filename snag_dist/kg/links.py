"""Which links are for training, for dev and for test: a pure function of the seed and the link.

The order of the file does not matter. The share for training comes first, dev is held out of it, so that the test
links stay those of the published share whatever dev is.
"""

from dataclasses import dataclass

import numpy as np
import torch

from snag_dist.errors import ConfigError
from snag_dist.kg.truth import Ids
from snag_dist.random import Stream


@dataclass(frozen=True)
class LinkSplit:
    """Links by use, each (n, 2) int64, columns left and right entity, ascending by the left one."""

    train: Ids
    dev: Ids
    test: Ids


def split_links(links: Ids, *, train_share: float, dev_share: float, seed: int) -> LinkSplit:
    """Split links under a seed.

    Args:
        links: (L, 2) int64, each once; ids below 2^31, of a numbering that does not change from run to run.
        train_share: part of all links that train and dev get together, in (0, 1); published .3 (DBP15K) and .2
            (OpenEA).
        dev_share: part of those that dev gets, in [0, 1).
        seed: of the split.

    Returns:
        Three disjoint sets that are all links together: `round(train_share * L)` for train and dev, of which
        `round(dev_share * that)` for dev.

    Raises:
        ConfigError: a share is out of its range, or leaves train or test without a link.
    """
    for name, share, inside in (
        ("train_share", train_share, 0.0 < train_share < 1.0),
        ("dev_share", dev_share, 0.0 <= dev_share < 1.0),
    ):
        if not inside:
            raise ConfigError(
                f"{name}: expected a share {'above' if name == 'train_share' else 'of at least'} 0 and below 1, "
                f"got {share}; set it to e.g. {0.3 if name == 'train_share' else 0.1}"
            )
    num_known = round(train_share * len(links))
    num_dev = round(dev_share * num_known)
    if num_known - num_dev < 1 or num_known == len(links):
        raise ConfigError(
            f"train_share, dev_share: expected links for train and for test, got {num_known - num_dev} and "
            f"{len(links) - num_known} of {len(links)}; set other shares or bring more links"
        )
    ordered = _order(links, Stream(seed, "links/train"))
    known = _order(ordered[:num_known], Stream(seed, "links/dev"))
    parts = (known[num_dev:], known[:num_dev], ordered[num_known:])
    return LinkSplit(*(part[np.lexsort((part[:, 1], part[:, 0]))] for part in parts))


def _order(links: Ids, stream: Stream) -> Ids:
    """Return links (L, 2) in the order of their keyed random numbers."""
    address = (links[:, 0] << 32) | links[:, 1]
    # 52 bits: equal numbers are rarer than in `uniform`; those there are fall back on the link itself.
    numbers = stream.integers(torch.as_tensor(address), 1, 1 << 52).view(-1).numpy()
    return links[np.lexsort((links[:, 1], links[:, 0], numbers))]
