"""Every scorer there is, in every one of its named choices: a new kind, or a new choice of one, is picked up."""

from itertools import product
from typing import Any, Literal, get_args, get_origin

from snag_dist.model.scorer import ScorerConfig


def variants() -> dict[str, Any]:
    """Configs under names like `rotate-frobenius`."""
    found = {}
    for config in get_args(get_args(ScorerConfig)[0]):
        fields = {
            name: get_args(field.annotation)
            for name, field in config.model_fields.items()
            if get_origin(field.annotation) is Literal
        }
        for values in product(*fields.values()):
            found["-".join(values)] = config(**dict(zip(fields, values, strict=True)))
    return found
