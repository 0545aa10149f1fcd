"""The methods of completion, as one choice."""

from typing import Annotated

from pydantic import Field

from snag_dist.config import default_kind
from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.snag import SnagConfig

CompletionMethodConfig = Annotated[SnagConfig | AdamfConfig, Field(discriminator="kind"), default_kind("snag")]
