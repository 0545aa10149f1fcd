"""The closed union of the losses of completion."""

from typing import Annotated

from pydantic import Field

from snag_dist.config import default_kind
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.objective.losses import SelfAdversarialConfig

LossConfig = Annotated[
    SelfAdversarialConfig | AllEntitiesConfig, Field(discriminator="kind"), default_kind("self_adversarial")
]
