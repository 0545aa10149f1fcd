"""LLaVA: a projector from codes to the width of an LLM, fitted in closed form to its embeddings of entities' names.

    mm_projector.bin   `model.mm_projector.*`, as LLaVA's `--pretrain_mm_mlp_adapter` takes it
    projector.json     kind, widths, and how well names are told from codes

The start of training is then not noise: a code already lies where the LLM has the words of its name. The fit is ridge
regression of the mean input embedding of a name's tokens on the code; its outputs are scaled about their mean to the
variance of the embeddings, since ridge shrinks them. `mlp2x_gelu` holds the same map exactly, since
GELU(x) - GELU(-x) = x: pairs of hidden units pass a linear map through.

Source: Liu et al., "Visual Instruction Tuning" (NeurIPS 2023), for the layout.
"""

from pathlib import Path
from typing import Literal

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from snag_dist.config import Config
from snag_dist.errors import ConfigError
from snag_dist.export.consumers.handed import Handed
from snag_dist.export.consumers.llm_names import NameEmbeddings
from snag_dist.random import Stream
from snag_dist.training.run_folder import write_json

FILE = "mm_projector.bin"
REPORT = "projector.json"


class LlavaConfig(Config):
    """Which projector is written."""

    llm: Path | None = None
    """Folder of the LLM: tokenizer and safetensors weights, of which the input embeddings are read."""
    projector: Literal["linear", "mlp2x_gelu"] = "mlp2x_gelu"
    """LLaVA's `mm_projector_type`."""
    ridge: float = Field(default=1e-2, gt=0)
    """Penalty, as a share of the mean variance of a column of codes, a row."""


def require_llm(config: LlavaConfig) -> Path:
    """Return the folder of the LLM.

    Raises:
        ConfigError: none is named.
    """
    if config.llm is None:
        raise ConfigError("--to llava: expected the folder of an LLM, got none; pass --set llava.llm=PATH")
    return config.llm


def write_llava(handed: Handed, config: LlavaConfig) -> None:
    """Fit the projector block by block, and write it.

    Raises:
        ConfigError: no LLM is named, or it cannot be read.
    """
    names = NameEmbeddings.open(require_llm(config))
    moments = Moments(handed.width, names.width)
    people = handed.source.store.entities()["name"].combine_chunks()
    for rows in handed.row_blocks():
        moments.add(handed.codes(rows), names.of(people.take(pa.array(rows.numpy())).to_pylist()))
    weight, bias, r2 = fit(moments, config.ridge)
    layers = {"": (weight, bias)} if config.projector == "linear" else _as_mlp(weight, bias, moments)
    tensors = {
        f"model.mm_projector.{layer}{name}": value.float().contiguous()
        for layer, pair in layers.items()
        for name, value in zip(("weight", "bias"), pair, strict=True)
    }
    torch.save(tensors, handed.folder / FILE)
    report = {
        "mm_projector_type": config.projector,
        "mm_hidden_size": handed.width,
        "hidden_size": names.width,
        "ridge": config.ridge,
        "num_names": moments.count,
        "r2_of_names": r2,
    }
    write_json(handed.folder / REPORT, report)


class Moments:
    """Sums over pairs of codes (n, D) and name embeddings (n, H), in float64: all that a linear fit needs."""

    def __init__(self, width: int, target_width: int):
        self.count = 0
        self.sum_x = torch.zeros(width, dtype=torch.float64)
        self.sum_y = torch.zeros(target_width, dtype=torch.float64)
        self.xx = torch.zeros(width, width, dtype=torch.float64)
        self.xy = torch.zeros(width, target_width, dtype=torch.float64)
        self.yy = 0.0

    def add(self, codes: Tensor, targets: Tensor) -> None:
        """Add a block."""
        x, y = codes.double(), targets.double()
        self.count += len(x)
        self.sum_x += x.sum(dim=0)
        self.sum_y += y.sum(dim=0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += float(y.square().sum())

    @property
    def mean_x(self) -> Tensor:
        """Mean code, (D,)."""
        return self.sum_x / self.count

    @property
    def mean_y(self) -> Tensor:
        """Mean name embedding, (H,)."""
        return self.sum_y / self.count

    def covariance(self) -> Tensor:
        """Covariance of codes, (D, D)."""
        return self.xx / self.count - torch.outer(self.mean_x, self.mean_x)


def fit(moments: Moments, ridge: float) -> tuple[Tensor, Tensor, float]:
    """Fit targets to codes by ridge regression, then match the spread of the outputs to that of the targets.

    Args:
        moments: of the pairs.
        ridge: penalty, as a share of the mean variance of a column of codes.

    Returns:
        Weight (H, D) and bias (H,), and the share of the targets' variance that the regression explains.
    """
    mean_x, mean_y = moments.mean_x, moments.mean_y
    covariance = moments.covariance()
    cross = moments.xy / moments.count - torch.outer(mean_x, mean_y)
    penalty = ridge * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    weight = torch.linalg.solve(covariance + penalty, cross).T
    spread_y = moments.yy / moments.count - float(mean_y.square().sum())
    spread = float((weight @ covariance * weight).sum())
    residual = spread_y - 2 * float((weight * cross.T).sum()) + spread
    weight = weight * (spread_y / spread) ** 0.5 if spread > 0 else weight
    return weight, mean_y - weight @ mean_x, 1.0 - residual / spread_y if spread_y > 0 else 0.0


def _as_mlp(weight: Tensor, bias: Tensor, moments: Moments) -> dict[str, tuple[Tensor, Tensor]]:
    """Write a linear map (H, D) as Linear(D, H), GELU, Linear(H, H).

    Exact where H >= 2 D; for a narrower LLM, the H / 2 directions in which the outputs vary most, about their mean.
    """
    hidden, width = weight.shape
    values, vectors = torch.linalg.eigh(moments.covariance())
    root = vectors * values.clamp_min(0.0).sqrt()
    directions = torch.linalg.svd(weight @ root, full_matrices=False).U[:, : hidden // 2]
    inner = directions.T @ weight
    left_out = weight @ moments.mean_x - directions @ (inner @ moments.mean_x)
    num = len(inner)
    # Units that are not needed begin with a draw of their own and no say, so that they can learn.
    drawn = Stream(0, "export/llava").normal(torch.arange(hidden), width, torch.float64) * inner.std()
    first, second = drawn, torch.zeros(hidden, hidden, dtype=torch.float64)
    first[:num], first[num : 2 * num] = inner, -inner
    second[:, :num], second[:, num : 2 * num] = directions, -directions
    return {"0.": (first, torch.zeros(hidden)), "2.": (second, bias + left_out)}
