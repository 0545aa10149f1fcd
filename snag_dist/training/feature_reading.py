"""The raw vectors of a step's entities: read on the host, for the next step while this one computes."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from snag_dist.store.gather import FeatureRows


@dataclass(frozen=True)
class HostFeatures:
    """What was read of some entities, by modality, in memory of the host.

    Attributes:
        vectors: (N, F) float32 each.
        present: (N,) bool each.
    """

    vectors: Mapping[str, Tensor]
    present: Mapping[str, Tensor]

    def to(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Vectors and presence on a device; from pinned memory they travel while the host goes on."""
        vectors, present = (
            {name: tensor.to(device, non_blocking=True) for name, tensor in part.items()}
            for part in (self.vectors, self.present)
        )
        return vectors, present


def read_features(ids: Tensor, features: Mapping[str, FeatureRows], *, pinned: bool = False) -> HostFeatures:
    """Read the raw vectors of distinct, ascending `ids` (N,) this worker owns, and which of them exist.

    Args:
        ids: on the host.
        features: by modality.
        pinned: puts them where a GPU fetches them by itself.
    """
    vectors: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for name, source in features.items():
        values, known = (torch.from_numpy(part) for part in source.gather(ids.numpy()))
        vectors[name], present[name] = (values.pin_memory(), known.pin_memory()) if pinned else (values, known)
    return HostFeatures(vectors, present)


class FeatureReader:
    """Reads the features of one step after another; those of a step that is announced, in a thread of its own.

    The thread waits for the disk and copies rows, both without the interpreter lock. It holds one step's features.
    """

    def __init__(self, features: Mapping[str, FeatureRows], device: torch.device):
        """Read of `features`, by modality, for steps on a device."""
        self._features = features
        self._device = device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="features-read-ahead")
        self._coming: tuple[Tensor, Future[HostFeatures]] | None = None

    @property
    def reads_ahead(self) -> bool:
        """Whether `announce` is worth a call."""
        return bool(self._features)

    def announce(self, ids: Tensor) -> None:
        """Begin to read the features of `ids` (N,), which the next step will ask for; returns at once."""
        # A step that encodes nothing of its own reads nothing.
        if self.reads_ahead and len(ids):
            self._coming = ids, self._thread.submit(self._read, ids)

    def read(self, ids: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Vectors (N, F) and presence (N,) of `ids` (N,) by modality, on the device.

        What went wrong in reading what was announced is raised here.
        """
        coming, self._coming = self._coming, None
        # Only what was announced as this very tensor is sure to be what is asked for.
        here = coming[1].result() if coming is not None and coming[0] is ids else self._read(ids)
        return here.to(self._device)

    def _read(self, ids: Tensor) -> HostFeatures:
        return read_features(ids, self._features, pinned=self._device.type == "cuda")
