"""The iterative stage of alignment: pairs that stay each other's nearest join the training links.

Every check finds the mutual nearest pairs among the entities that no training link has yet, by clean codes. A pair that
was mutual at K_s checks in a row is promoted. Pairs that touch a dev link are never promoted: what is right is known
for them, so those that would have been promoted say how precise the others are, and dev goes on selecting.

Source: SNAG, section 3.4 (iterative training); Lin et al., MCLEA, section 3.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.evaluation.alignment_report import MiningRecord

Ids = NDArray[np.int64]

_UNKNOWN = -1.0


def _no_pairs() -> Ids:
    return np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class Mining:
    """What the stage has found so far; pairs are rows of the store, left and right.

    Attributes:
        waiting: (n, 2) int64 pairs that were mutual at the last check.
        streaks: (n,) int64 checks in a row at which each of them was.
        promoted: (m, 2) int64 pairs that have joined the training links.
        records: of every check, in their order.
    """

    waiting: Ids = field(default_factory=_no_pairs)
    streaks: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    promoted: Ids = field(default_factory=_no_pairs)
    records: tuple[MiningRecord, ...] = ()

    def check(self, mutual: Ids, dev: Ids, checks: int) -> "Mining":
        """Return what is known after another check.

        Args:
            mutual: (n, 2) pairs that are each other's nearest, of entities without a training link.
            dev: (d, 2) dev links.
            checks: K_s.
        """
        before = {
            pair: int(streak) for pair, streak in zip(map(tuple, self.waiting.tolist()), self.streaks, strict=True)
        }
        streaks = np.array([1 + before.get(tuple(pair), 0) for pair in mutual.tolist()], dtype=np.int64)
        touches = np.isin(mutual[:, 0], dev[:, 0]) | np.isin(mutual[:, 1], dev[:, 1])
        joins = (streaks >= checks) & ~touches
        promoted = np.concatenate([self.promoted, mutual[joins]])
        record = MiningRecord(
            check=len(self.records) + 1,
            num_candidates=int((~joins).sum()),
            num_promoted=len(promoted),
            dev_precision=_precision(mutual[touches & (streaks >= checks)], dev),
        )
        return replace(
            self,
            waiting=mutual[~joins],
            streaks=streaks[~joins],
            promoted=promoted,
            records=(*self.records, record),
        )

    def state(self) -> dict[str, Tensor]:
        """Return everything as tensors, for a checkpoint."""
        records = [
            (r.num_candidates, r.num_promoted, _UNKNOWN if r.dev_precision is None else r.dev_precision)
            for r in self.records
        ]
        return {
            "mining/waiting": torch.from_numpy(self.waiting),
            "mining/streaks": torch.from_numpy(self.streaks),
            "mining/promoted": torch.from_numpy(self.promoted),
            "mining/records": torch.tensor(records, dtype=torch.float64).reshape(-1, 3),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor]) -> "Mining":
        """Take up what `state` gave."""
        records = tuple(
            MiningRecord(
                check=number,
                num_candidates=int(candidates),
                num_promoted=int(promoted),
                dev_precision=None if precision == _UNKNOWN else precision,
            )
            for number, (candidates, promoted, precision) in enumerate(state["mining/records"].tolist(), start=1)
        )
        waiting, streaks, promoted = (state[f"mining/{name}"].numpy() for name in ("waiting", "streaks", "promoted"))
        return cls(waiting, streaks, promoted, records)


def _precision(found: Ids, dev: Ids) -> float | None:
    """Estimate the share of promoted pairs that are right from those (n, 2) that touch a dev link; None of no pairs.

    Ends in dev links are counted, not pairs: a right pair has both of its ends there or none, a wrong one lies with
    either end in a dev link of its own, and is met about twice as often.
    """
    if not len(found):
        return None
    true = set(map(tuple, dev.tolist()))
    right = sum(tuple(pair) in true for pair in found.tolist())
    ends = int(np.isin(found[:, 0], dev[:, 0]).sum() + np.isin(found[:, 1], dev[:, 1]).sum())
    return 2 * right / ends
