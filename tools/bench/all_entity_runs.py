"""How good is the loss over all entities? DB15K or MKG-W, whole encoder and structure alone: curves, and test once.

Real runs through Ray Train of db15k_all_entities.toml and mkg_w_all_entities.toml, whose variant graph-only is ComplEx
with N3 and reciprocal relations; dev chooses the checkpoint.
"""

from typing import Any

from trained import Place, describe, recipe_at, train

VARIANT = "graph-only"


def measure_db15k(place: Place) -> dict[str, Any]:
    """Train both on DB15K."""
    return _measure(place, "db15k_all_entities.toml")


def measure_mkg_w(place: Place) -> dict[str, Any]:
    """Train both on MKG-W."""
    return _measure(place, "mkg_w_all_entities.toml")


def _measure(place: Place, name: str) -> dict[str, Any]:
    recipe = recipe_at(place, name)
    found: dict[str, Any] = {}
    for run in recipe.with_variants():
        if run.name in (recipe.name, f"{recipe.name}-{VARIANT}"):
            train(run)
            found["whole encoder" if run.name == recipe.name else VARIANT] = describe(run)
    return found
