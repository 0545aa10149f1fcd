"""TOML that is read back as what was written."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snag_dist.training.recipe import load_recipe
from snag_dist.tune.toml import to_toml
from snag_dist.tune.trial import base_tree

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_any_tree_is_read_back(tree: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(tree)) == tree


def test_none_is_left_out() -> None:
    assert to_toml({"a": None, "b": {"c": [{"d": None, "e": 1}]}}) == "[b]\nc = [{ e = 1 }]\n"


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_survives(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    copy = tmp_path / "copy.toml"
    copy.write_text(to_toml(base_tree(recipe)))
    assert load_recipe(copy).to_tree() == {**recipe.to_tree(), "variants": {}}
