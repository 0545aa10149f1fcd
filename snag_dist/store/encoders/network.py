"""What the encoders that are networks have in common: how they run, and the last step of their vectors."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    import torch


class NetworkConfig(Config):
    """Options of every encoder that is a network."""

    batch_size: int = Field(default=64, ge=1)
    """Items encoded at a time by an actor."""
    truncate: int | None = Field(default=None, ge=1)
    """Columns kept, from the first on; none keeps all. For models that were trained to be cut (Matryoshka)."""
    normalize: bool = True
    """Whether vectors, cut or not, are scaled to length 1."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision the network computes in; its vectors are float32 either way."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where an actor encodes; `cuda` reserves one GPU an actor."""
    num_actors: int | None = Field(default=None, ge=1)
    """Actors that encode at a time; none takes one a CPU (or one a GPU) of the cluster."""

    @property
    def num_gpus(self) -> float:
        """Return the GPUs an actor reserves."""
        return 1.0 if self.device == "cuda" else 0.0

    def width_of(self, model_width: int) -> int:
        """Return F, given the width of the model.

        Raises:
            ConfigError: `truncate` keeps more columns than there are.
        """
        if self.truncate is None:
            return model_width
        if self.truncate > model_width:
            raise ConfigError(
                f"encoder.truncate: expected at most the model's width ({model_width}), got {self.truncate}; lower it"
            )
        return self.truncate

    def finish(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cut and scale (n, F_model) vectors as configured; a vector of zeros stays one.

        Returns:
            (n, F) vectors.
        """
        kept = vectors if self.truncate is None else np.ascontiguousarray(vectors[:, : self.truncate])
        if not self.normalize:
            return kept
        lengths = np.linalg.norm(kept, axis=1, keepdims=True)
        return kept / np.maximum(lengths, np.float32(1e-12))


def open_device(device: Literal["cpu", "cuda"]) -> "torch.device":
    """Return a device for torch.

    Raises:
        ResourceError: there is no GPU.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "encoder.device: expected a GPU that torch can use, found none; set encoder.device=cpu or install "
            "torch for CUDA on the nodes with GPUs"
        )
    return torch.device(device)


def to_numpy(vectors: "torch.Tensor") -> NDArray[np.float32]:
    """Return a tensor of any precision and device as float32 numpy."""
    return vectors.detach().float().cpu().numpy()
