"""What the README tells a newcomer to type works, and the tree it shows is the tree there is."""

import re
import shlex
from pathlib import Path

from snag_dist.training.recipe import load_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_name_programs_recipes_and_targets_that_exist() -> None:
    commands = re.findall(r"^    ((?:python|ray|make|pip) .*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
    assert len(commands) >= 6
    makefile = (ROOT / "Makefile").read_text()
    for command in commands:
        words = shlex.split(command)
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        for word in words:
            if word.startswith(("jobs/", "tools/", "tests/")):
                assert (ROOT / word).is_file(), command
            if word.endswith(".toml"):
                load_recipe(ROOT / word)


def test_the_notebook_calls_functions_that_exist() -> None:
    import snag_dist

    called = set(re.findall(r"snag_dist\.(\w+)\(", README))
    assert {"ingest", "train", "evaluate"} <= called
    assert all(callable(getattr(snag_dist, name)) for name in called)


def test_the_tree_names_every_room() -> None:
    tree = README.partition("## The tree")[2]
    rooms = [path.parent for path in (ROOT / "snag_dist").glob("*/__init__.py")]
    assert rooms
    for room in rooms:
        assert re.search(rf"^      {room.name}/ ", tree, flags=re.MULTILINE), room.name
        assert (room / "__init__.py").read_text().startswith('"""'), f"{room.name} does not say what lives there"
    for file in (ROOT / "snag_dist").glob("*.py"):
        assert file.name in tree or file.name == "__init__.py", file.name


def test_files_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:tools|tests|jobs|cluster)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name
