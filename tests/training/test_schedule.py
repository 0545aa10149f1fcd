"""The learning rate by step, against the published schedule."""

import pytest

from snag_dist.training.schedule import ScheduleConfig, learning_rate


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (1, 6.6667e-6), (75, 5e-4), (287, 2.509e-4), (499, 0.0)])
def test_cosine_with_warmup_golden_numbers(step: int, expected: float) -> None:
    # G13: peak 5e-4, 500 steps, 75 of them warm-up.
    config = ScheduleConfig(kind="cosine", warmup=0.15)
    assert learning_rate(config, 5e-4, step, 500) == pytest.approx(expected, rel=1e-3, abs=1e-8)


def test_constant_stays_after_warmup() -> None:
    config = ScheduleConfig(kind="constant", warmup=0.1)
    rates = [learning_rate(config, 1.0, step, 100) for step in (0, 5, 10, 99)]
    assert rates == [0.0, 0.5, 1.0, 1.0]
