"""Which scorers there are."""

from typing import Annotated

from pydantic import Field

from snag_dist.config import default_kind
from snag_dist.model.scorer.complex import ComplExConfig
from snag_dist.model.scorer.distmult import DistMultConfig
from snag_dist.model.scorer.rotate import RotatEConfig
from snag_dist.model.scorer.transe import TransEConfig
from snag_dist.model.scorer.tucker import TuckERConfig

ScorerConfig = Annotated[
    RotatEConfig | ComplExConfig | DistMultConfig | TransEConfig | TuckERConfig,
    Field(discriminator="kind"),
    default_kind("rotate"),
]
