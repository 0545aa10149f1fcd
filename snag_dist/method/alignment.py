"""The methods of alignment, as one choice."""

from typing import Annotated

from pydantic import Field

from snag_dist.config import default_kind
from snag_dist.method.eva import EvaConfig
from snag_dist.method.mclea import McleaConfig
from snag_dist.method.meaformer import MeaformerConfig
from snag_dist.method.snag_alignment import SnagAlignmentConfig

AlignmentMethodConfig = Annotated[
    SnagAlignmentConfig | EvaConfig | McleaConfig | MeaformerConfig,
    Field(discriminator="kind"),
    default_kind("snag_alignment"),
]
