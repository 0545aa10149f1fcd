"""One byte flipped in each kind of file, each file cut short, and a disk that is full: what a run says and does."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workbench import group_of_one, make_recipe

from snag_dist.errors import SnagError, describe_system_error
from snag_dist.evaluation.scored_runs import read_run
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
RUN = ("config.json", "run.json", "log.jsonl", "checkpoints/LATEST")
FINISHED = ("checkpoints/BEST", "ranks/test", "metrics-test.json", "weights.json")
"""What a finished run leaves for those who read it."""


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
            "store": [
                _outcome_of_store(place, name, how, seed, group) for name in _kinds(place / "store") for how in HOW
            ],
            "finished_run": _outcomes_of_readers(place, seed, group),
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
    return _told(partial(_one_step_more, RunFolder(recipe.run_path), recipe, group))


def _one_step_more(folder: RunFolder, recipe: Recipe, group: Group) -> str:
    # As the job does, before it starts workers.
    folder.read_config()
    before = len(folder.read_warnings())
    _train(recipe, group, 1)
    warnings = folder.read_warnings()[before:]
    step = json.loads(folder.log.read_text().splitlines()[-1])["step"]
    return f"{'; '.join(warnings) or 'nothing is said'}; took step {step}"


def _outcome_of_store(place: Path, name: str, how: str, seed: int, group: Group) -> dict[str, str]:
    """What a run on the store says that begins anew."""
    file, runs = place / "store" / name, place / "anew"
    content = file.read_bytes()
    file.write_bytes(HOW[how](content))

    def begin() -> str:
        _train(_recipe(place / "store", runs, seed), group, 1)
        return "nothing is said; took step 1"

    outcome = _told(begin)
    file.write_bytes(content)
    shutil.rmtree(runs, ignore_errors=True)
    return {"file": _place(name), "damage": how, "outcome": _short(outcome, place / "store")}


def _outcomes_of_readers(place: Path, seed: int, group: Group) -> list[dict[str, str]]:
    """Damage what a finished run leaves, and ask who reads it: the table of runs, or an evaluation that goes on."""
    train = {"epochs": 1, "evaluate_every": 1}
    recipe = make_recipe(place / "store", place / "finished", name="damaged", seed=seed, train=train)
    _begin(recipe)
    _worker(recipe, group).train()
    run, kept = recipe.run_path, place / "kept-finished"
    shutil.copytree(run, kept)
    paths = [kept / name for name in FINISHED]
    names = [str((min(path.iterdir()) if path.is_dir() else path).relative_to(kept)) for path in paths]
    found: list[dict[str, str]] = []
    for name in names:
        for how in HOW:
            shutil.rmtree(run)
            shutil.copytree(kept, run)
            (run / name).write_bytes(HOW[how]((kept / name).read_bytes()))
            is_report = name.endswith(".json")
            read = partial(_read, run) if is_report else partial(_evaluate, recipe, group)
            found.append({"file": _place(name), "damage": how, "outcome": _short(_told(read), run)})
    return found


def _evaluate(recipe: Recipe, group: Group) -> str:
    test = RunFolder(recipe.run_path).metrics("test")
    before = json.loads(test.read_text())["metrics"]
    _worker(recipe, group).evaluate("test")
    same = json.loads(test.read_text())["metrics"] == before
    return f"nothing is said; metrics are {'the same' if same else 'OTHERS'}"


def _read(run: Path) -> str:
    read_run(run)
    return "nothing is said"


def _told(read: Callable[[], str]) -> str:
    try:
        return read()
    except SnagError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - a traceback in the place of a line is what is looked for
        line = describe_system_error(error)
        if line is not None:
            return f"refused: {line}"
        return f"A TRACEBACK: {type(error).__name__}: {error}"


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

        def train() -> str:
            _train(recipe, group, STEPS)
            return "nothing is said"

        said = _told(train)
        left = sorted(path.name for path in RunFolder(recipe.run_path).checkpoints.glob("*"))
        return _short(f"{said}; left in checkpoints/: {', '.join(left) or 'nothing'}", disk)


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
        # Lazily: a log or a tracker that could not be written may still be open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _recipe(store: Path, runs: Path, seed: int) -> Recipe:
    checkpoint = {"every_seconds": None, "every_steps": EVERY, "keep": 2}
    train = {"epochs": 100, "log_every": 1, "evaluate_every": 100, "checkpoint": checkpoint}
    return make_recipe(store, runs, name="damaged", seed=seed, train=train)


def _train(recipe: Recipe, group: Group, steps: int) -> None:
    asked = iter(range(1, 1 << 30))
    notices = Notices(lambda: next(asked) >= steps)
    _begin(recipe)
    _worker(recipe, group, notices).train()


def _begin(recipe: Recipe) -> None:
    """As the job does before it starts workers."""
    folder = RunFolder(recipe.run_path)
    folder.path.mkdir(parents=True, exist_ok=True)
    if not folder.config.is_file():
        folder.config.write_text(json.dumps(recipe.to_tree()))
        folder.write_status(state="running", store_fingerprint=open_store(recipe.store).fingerprint)


def _worker(recipe: Recipe, group: Group, notices: Notices | None = None) -> Worker:
    context = WorkerContext(
        group, lambda _metrics: None, open_store(recipe.store).triples("train"), notices=notices or Notices()
    )
    return Worker(recipe, context)


def _place(name: str) -> str:
    return "".join("0" if letter.isdigit() else letter for letter in name)


def _short(text: str, folder: Path) -> str:
    """Say it without the folder that the benchmark made."""
    return text.replace(f"{folder}/", "").replace(str(folder), folder.name)
