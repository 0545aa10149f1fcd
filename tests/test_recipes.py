"""Recipes that come along resolve; what a person can get wrong in one is told in one line."""

from pathlib import Path

import pytest

from snag_dist.errors import ConfigError
from snag_dist.training.launch import check_resources
from snag_dist.training.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "jobs" / "recipes"
WORLD = RECIPES / "world.toml"


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_resolves_with_its_variants(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.with_variants()[0].name == recipe.name
    # What workers are handed is the same recipe again.
    assert type(recipe).model_validate(recipe.to_tree()).to_tree() == recipe.to_tree()


def test_data_stands_for_the_folder() -> None:
    recipe = load_recipe(RECIPES / "db15k.toml", ["data=/somewhere"])
    assert str(recipe.ingest.source.folder) == "/somewhere"
    assert str(recipe.features["text"].source.path) == "/somewhere/entities.tsv"


def test_overrides_and_variants() -> None:
    recipe = load_recipe(WORLD, ["train.lr=0.5", "method.encoder.fusion.kind=graph", "name=other"])
    assert recipe.train.lr == 0.5
    assert recipe.method.encoder.fusion.kind == "graph"
    runs = {run.name: run for run in recipe.with_variants()}
    assert runs["other-gmnm-off"].method.noise.kind == "none"
    assert runs["other-gmnm-off"].store == recipe.store


BAD = {
    "unknown field": (["train.lrr=1"], r"train\.lrr: no such field, got 1; remove it or mend its name"),
    "wrong type": (["train.epochs=many"], r"train\.epochs: .*integer.*got 'many'; mend it"),
    "unknown kind": (
        ["method.encoder.fusion.kind=magic"],
        r"method\.encoder\.fusion\.kind: .*'attention'.*got 'magic'",
    ),
    "unknown source": (["ingest.source.kind=csv"], r"ingest\.source\.kind: .*'openke'.*got 'csv'"),
    "out of range": (["method.noise.probability=1.5"], r"probability: .*less than or equal to 1, got 1\.5"),
    "no value": (["train.epochs"], r"--set 'train\.epochs': expected a\.b\.c=value"),
    "through a value": (["name.x=1"], r"--set name\.x: 'name' is a value \('world'\), not a section"),
    "name with a slash": (["name=a/b"], r"name: .*match pattern.*got 'a/b'"),
    "adversary against all entities": (
        ["method.kind=adamf", "method.loss.kind=all_entities", "method.adversary={}"],
        r"method: .*adversary: it plays on sampled negatives; leave it out, or set loss\.kind",
    ),
    "first pass as fine as the scores": (
        ["evaluate.first_pass=float32"],
        r"evaluate: .*first_pass: expected a coarser format than precision, got 'float32' for both; set precision to",
    ),
    "first pass of an alignment": (
        ["method.kind=snag_alignment", "evaluate.precision=float64", "evaluate.first_pass=float32"],
        r"evaluate\.first_pass: expected 'exact' with a method of alignment, .*got 'float32'; leave it out",
    ),
    "a limit of time beside a second stage": (
        ["method.kind=snag_alignment", "iterative={}", "train.max_minutes=20"],
        r"train\.max_minutes: expected none beside `iterative`, whose stage .*got 20; leave one of them out",
    ),
    "variant of shared data": (['variants={a={"ingest.seed"=1}}'], r"variant 'a' changes 'ingest\.seed', which all"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_recipe_is_told_in_one_line(case: str) -> None:
    overrides, message = BAD[case]
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(WORLD, overrides)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith((str(WORLD), "--set"))


def test_a_missing_or_broken_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: expected a recipe file, found none"):
        load_recipe(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(ConfigError, match=r"broken\.toml: expected TOML, got: "):
        load_recipe(broken)


def test_a_variant_with_an_unknown_field_is_named() -> None:
    recipe = load_recipe(WORLD, ['variants={bad={"train.lrr"=1}}'])
    with pytest.raises(ConfigError, match=r"variants\.bad: train\.lrr: no such field"):
        recipe.with_variants()


def test_a_bare_number_says_how_many_keep_a_modality() -> None:
    recipe = load_recipe(WORLD, ["missing.vision=0.4", 'variants={few={"missing.vision"=0.2, "missing.text"=0.5}}'])
    plain, few = recipe.with_variants()
    assert {name: config.ratio for name, config in plain.missing.items()} == {"vision": 0.4}
    assert {name: config.ratio for name, config in few.missing.items()} == {"vision": 0.2, "text": 0.5}
    with pytest.raises(ConfigError, match=r"missing\.vision\.ratio: .*less than or equal to 1, got 1\.4"):
        load_recipe(WORLD, ["missing.vision=1.4"])


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_recipe_is_laid_over_its_base(tmp_path: Path) -> None:
    write(tmp_path, "below.toml", WORLD.read_text())
    above = write(
        tmp_path,
        "above.toml",
        'base = "below.toml"\nname = "above"\n[train]\nlr = 0.5\n[method.encoder.fusion]\nkind = "graph"\n'
        '[variants.calm]\n"method.noise.kind" = "none"\n',
    )
    recipe, below = load_recipe(above, ["train.epochs=3"]), load_recipe(WORLD)
    assert (recipe.name, recipe.train.lr, recipe.train.epochs) == ("above", 0.5, 3)
    assert recipe.train.batch_size == below.train.batch_size
    assert recipe.method.encoder.fusion.kind == "graph"
    assert recipe.method.encoder.width == below.method.encoder.width
    assert [run.name for run in recipe.with_variants()] == ["above", "above-calm"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "nowhere.toml"', r"nowhere\.toml: expected a recipe file, found none"),
        ("base = 3", r"base: expected the path of a recipe, got 3; write it in quotes"),
        ('base = "one.toml"', r"base: 'one\.toml' leads back to itself; let one of the recipes stand alone"),
    ],
)
def test_a_base_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, "one.toml", text))


@pytest.mark.parametrize(("given", "fewest", "most"), [("3", 3, 3), ("[2,8]", 2, 8), ("[2,2]", 2, 2)])
def test_workers_are_a_number_or_the_fewest_and_the_most(given: str, fewest: int, most: int) -> None:
    cluster = load_recipe(WORLD, [f"cluster.num_workers={given}"]).cluster
    assert (cluster.fewest_workers, cluster.most_workers, cluster.is_elastic) == (fewest, most, fewest < most)
    if cluster.is_elastic:
        assert cluster.how_many_workers == "2 to 8"
        with pytest.raises(ConfigError, match=r"expected one number, got 2 to 8: triples are streamed"):
            check_resources(cluster, streamed=True)


@pytest.mark.parametrize("given", ["0", "[2,1]", "[0,2]", "[1,2,3]", "[]", '"many"', "true", "1.5"])
def test_other_numbers_of_workers_are_refused(given: str) -> None:
    with pytest.raises(
        ConfigError, match=r"cluster\.num_workers: expected a number from 1, or the fewest and the most"
    ):
        load_recipe(WORLD, [f"cluster.num_workers={given}"])
