"""One byte flipped in each kind of file, each file cut short, and a disk that is full: what a run says and does."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workbench import group_of_one, make_recipe

from snag_dist.errors import SnagError
from snag_dist.shard.group import Group
from snag_dist.store.opened import open_store
from snag_dist.training.boundary import Notices
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.worker import Worker, WorkerContext

# Steps between two checkpoints, and after which the run is stopped: two versions are there then, the second newer.
EVERY, STEPS = 10, 15
HOW: dict[str, Callable[[bytes], bytes]] = {
    "one byte flipped": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
    "last byte cut off": lambda content: content[:-1],
}
CHECKPOINT = ("dense.safetensors", "task.safetensors", "epoch.safetensors", "rows-00000.safetensors", "cursor.json")
RUN = ("config.json", "run.json", "checkpoints/LATEST")


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Damage a copy of a run and of its store, file by file, and go on."""
    with TemporaryDirectory() as folder, group_of_one() as group:
        place = Path(folder)
        shutil.copytree(store, place / "store")
        recipe = _recipe(place / "store", place / "runs", seed)
        _train(recipe, group, STEPS)
        shutil.copytree(recipe.run_path, place / "kept")
        latest = (recipe.run_path / "checkpoints" / "LATEST").read_text().strip()
        files = [f"checkpoints/{latest}/{name}" for name in (*CHECKPOINT, "manifest.json")] + list(RUN)
        return {
            "checkpoint_and_run": [
                _outcome(recipe, group, place / "kept", recipe.run_path, name, how) for name in files for how in HOW
            ],
            "store": [_outcome_of_store(place / "store", name, how) for name in _kinds(place / "store") for how in HOW],
            "full_disk": _full_disk(place, seed, group),
        }


def _outcome(recipe: Recipe, group: Group, kept: Path, run: Path, name: str, how: str) -> dict[str, str]:
    shutil.rmtree(run)
    shutil.copytree(kept, run)
    file = run / name
    file.write_bytes(HOW[how](file.read_bytes()))
    return {"file": _place(name), "damage": how, "outcome": _short(_go_on(recipe, group), run)}


def _go_on(recipe: Recipe, group: Group) -> str:
    """What happens when a run goes on for one step."""
    folder = RunFolder(recipe.run_path)
    try:
        # As the job does, before it starts workers.
        folder.read_config()
        before = len(folder.read_warnings())
        _train(recipe, group, 1)
    except SnagError as error:
        return f"refused: {error}"
    warnings = folder.read_warnings()[before:]
    steps = [json.loads(line)["step"] for line in folder.log.read_text().splitlines()]
    return f"{'; '.join(warnings) or 'nothing is said'}; took step {steps[-1]}"


def _outcome_of_store(store: Path, name: str, how: str) -> dict[str, str]:
    file = store / name
    content = file.read_bytes()
    file.write_bytes(HOW[how](content))
    try:
        open_store(store).verify()
        outcome = "not found"
    except SnagError as error:
        outcome = f"refused: {error}"
    finally:
        file.write_bytes(content)
    return {"file": _place(name), "damage": how, "outcome": _short(outcome, store)}


def _kinds(store: Path) -> list[str]:
    """One file of every kind in a store: files are of a kind where their names differ in digits alone."""
    kinds: dict[str, str] = {}
    for file in sorted(path for path in store.rglob("*") if path.is_file()):
        name = str(file.relative_to(store))
        kinds.setdefault("".join("0" if letter.isdigit() else letter for letter in name), name)
    return list(kinds.values())


def _full_disk(place: Path, seed: int, group: Group) -> str:
    with _small_disk(place / "disk") as disk:
        if disk is None:
            return "not tried: this user may not mount a tmpfs"
        recipe = _recipe(place / "store", disk, seed)
        try:
            _train(recipe, group, STEPS)
        except SnagError as error:
            left = sorted(path.name for path in RunFolder(recipe.run_path).checkpoints.glob("*"))
            return _short(f"{error}; left in checkpoints/: {', '.join(left) or 'nothing'}", disk)
        return "nothing is said"


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk with room for one checkpoint and a half, where this user may mount one."""
    folder.mkdir()
    kept = folder.parent / "kept" / "checkpoints"
    one = max(sum(file.stat().st_size for file in version.iterdir()) for version in kept.glob("step-*"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={one * 3 // 2}", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _recipe(store: Path, runs: Path, seed: int) -> Recipe:
    checkpoint = {"every_seconds": None, "every_steps": EVERY, "keep": 2}
    train = {"epochs": 100, "log_every": 1, "evaluate_every": 100, "checkpoint": checkpoint}
    return make_recipe(store, runs, name="damaged", seed=seed, train=train)


def _train(recipe: Recipe, group: Group, steps: int) -> None:
    asked = iter(range(1, 1 << 30))
    notices = Notices(lambda: next(asked) >= steps)
    triples = open_store(recipe.store).triples("train")
    RunFolder(recipe.run_path).path.mkdir(parents=True, exist_ok=True)
    if not RunFolder(recipe.run_path).config.is_file():
        RunFolder(recipe.run_path).config.write_text(json.dumps(recipe.to_tree()))
    Worker(recipe, WorkerContext(group, lambda _metrics: None, triples, notices=notices)).train()


def _place(name: str) -> str:
    return "".join("0" if letter.isdigit() else letter for letter in name)


def _short(text: str, folder: Path) -> str:
    """Say it without the folder that the benchmark made."""
    return text.replace(f"{folder}/", "").replace(str(folder), folder.name)
