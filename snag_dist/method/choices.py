"""Every method, as one choice; which task it is for follows from it."""

from typing import Annotated

from pydantic import Field

from snag_dist.config import default_kind
from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.eva import EvaConfig
from snag_dist.method.mclea import McleaConfig
from snag_dist.method.meaformer import MeaformerConfig
from snag_dist.method.snag import SnagConfig
from snag_dist.method.snag_alignment import SnagAlignmentConfig

CompletionMethod = SnagConfig | AdamfConfig
"""The methods of completion."""
AlignmentMethod = SnagAlignmentConfig | EvaConfig | McleaConfig | MeaformerConfig
"""The methods of alignment."""
MethodConfig = Annotated[CompletionMethod | AlignmentMethod, Field(discriminator="kind"), default_kind("snag")]
