"""How methods are put together: recipes laid over their own defaults, tasks drawn from a seed."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

import torch
from pydantic import BeforeValidator
from torch import nn

from snag_dist.config import lay_over
from snag_dist.method.facts import GraphFacts
from snag_dist.model.attention import AttentionConfig
from snag_dist.model.noise import GaussianNoiseConfig, NoiseConfig
from snag_dist.model.views import ViewsConfig, ViewsEncoder
from snag_dist.task.alignment import AlignmentObjective, AlignmentTask


def over(defaults: Mapping[str, Any]) -> BeforeValidator:
    """Lay a section of a recipe over a method's own defaults, so that one field given does not reset the others.

    A section of another `kind` than the default one is taken as it is.
    """

    def lay(section: Any) -> Any:
        return lay_over(defaults, cast("dict[str, Any]", section)) if isinstance(section, dict) else section

    return BeforeValidator(lay)


AlignmentNoise = Annotated[NoiseConfig, over({"kind": "gaussian", "graph_scale": 0.5})]
"""The noise of alignment: GMNM touches the learned rows half as often and half as much."""
ALIGNMENT_GMNM = GaussianNoiseConfig(graph_scale=0.5)
"""GMNM of SNAG on alignment: rho .2 and eps .7, both halved for the learned rows."""
AlignmentAttention = Annotated[AttentionConfig, over({"num_heads": 1, "feed_forward_width": 400, "activation": "gelu"})]
"""The layer of alignment; `gelu` as released, the paper says ReLU."""
ALIGNMENT_ATTENTION = AttentionConfig(num_heads=1, feed_forward_width=400, activation="gelu")
"""One head, FFN 300 to 400 to 300."""
UNCERTAINTY_LR_SCALE = 5.0
"""Factor on the learning rate of uncertainty weights in the released code."""


def build_task(
    encoder: ViewsConfig,
    noise: NoiseConfig,
    facts: GraphFacts,
    seed: int,
    objective: Callable[[int], AlignmentObjective],
    *,
    attention: AttentionConfig | None = None,
    row_std: float | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
) -> AlignmentTask:
    """Build a task whose initial weights are a function of the seed.

    Args:
        encoder, noise, attention: parts of the encoder; no attention where a method has none.
        facts: of the joined graph of both sides.
        seed: of the run.
        objective: makes it for a number of tokens.
        row_std: of the initial rows; unset: 1 / sqrt(E), as in MCLEA, MEAformer and SNAG.
        prepare: draws initial weights of the encoder otherwise than torch does.
    """
    # fork_rng leaves the caller's generator as it was.
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
        views = ViewsEncoder(encoder, facts.modalities, noise.build(), attention)
        if prepare:
            prepare(views)
        minimised = objective(views.num_tokens)
    return AlignmentTask(views, minimised, facts.num_entities**-0.5 if row_std is None else row_std, seed)
