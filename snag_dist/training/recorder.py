"""What takes down the numbers of a run: the seam behind log lines, gauges and trackers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class Recorder(ABC):
    """One place that the numbers of a run go to."""

    @abstractmethod
    def record(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Take down the numbers of a log interval or of an evaluation, nested by name."""

    def close(self) -> None:
        """Flush and release."""
        return


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a tree by path, `seconds/exchange`; what is no number is left out."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[prefix + name] = float(value)
    return flat
