"""Take a modality away from some entities, so that the robustness to missing pictures can be measured.

Every entity has a random number of its own, and those with the largest lose the modality first: what is missing at
one ratio is missing at every lower one, and an entity's fate does not depend on how entities are listed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from snag_dist.errors import ConfigError
from snag_dist.kg.truth import Ids
from snag_dist.random import Stream


@dataclass(frozen=True)
class Missing:
    """Who loses a modality.

    Attributes:
        dropped: (n,) int64 entities that lose it, ascending.
        kept: entities among those counted that keep it.
        counted: entities the ratio is a share of.
    """

    dropped: Ids
    kept: int
    counted: int

    @property
    def ratio(self) -> float:
        """Share that keeps the modality; below what was asked where fewer had it from the start."""
        return self.kept / self.counted


def choose_missing(
    present: NDArray[np.bool_], *, ratio: float, modality: str, seed: int, among: Ids | None = None
) -> Missing:
    """Choose the entities that lose a modality, until the ratio of those that have it holds.

    Args:
        present: (E,) which entities have the modality.
        ratio: share of the counted entities that keep it, in [0, 1]; `round(ratio * counted)` keep it. A ratio
            above the natural one drops none.
        modality: its name; two modalities lose different entities.
        seed: of the choice.
        among: distinct entities that are counted and may lose it, e.g. those with a link, as published; None: all.
            Entities outside keep what they have.

    Raises:
        ConfigError: the ratio is outside [0, 1], or no entity is counted.

    Source: the R_img splits of MEAformer, UMAEA and SNAG drop pictures of randomly chosen linked entities.
    """
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError(f"missing.{modality}: expected a ratio in [0, 1], got {ratio}; 0.4 keeps 40 %")
    counted = np.arange(len(present), dtype=np.int64) if among is None else among
    if not len(counted):
        raise ConfigError(f"missing.{modality}: expected entities to count, got none; name those with a link, or all")
    having = np.sort(counted[present[counted]])
    numbers = Stream(seed, f"missing/{modality}").integers(torch.as_tensor(having), 1, 1 << 52).view(-1).numpy()
    order = np.lexsort((having, numbers))
    kept = min(len(having), round(ratio * len(counted)))
    return Missing(np.sort(having[order[kept:]]), kept, len(counted))
