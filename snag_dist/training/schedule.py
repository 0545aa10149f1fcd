"""The learning rate of a step, a function of the step alone: nothing to save, nothing to restore."""

import math
from typing import Literal

from pydantic import Field

from snag_dist.config import Config


class ScheduleConfig(Config):
    """Learning rate over the run."""

    kind: Literal["constant", "cosine"] = "constant"
    """`constant` after warm-up, or `cosine` down to zero at the last step."""
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of all steps over which the rate rises linearly from zero."""


def learning_rate(config: ScheduleConfig, peak: float, step: int, num_steps: int) -> float:
    """Learning rate at `step`, counted from 0, of `num_steps`.

    Source: the schedule of the released alignment code (linear warm-up, half a cosine).
    """
    num_warmup = int(config.warmup * num_steps)
    if step < num_warmup:
        return peak * step / num_warmup
    if config.kind == "constant":
        return peak
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
