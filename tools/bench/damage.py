"""One byte flipped in each kind of file, each file cut short, and a disk that is full: what a run says and does."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from workbench import group_of_one, make_recipe

from snag_dist.api import is_finished
from snag_dist.errors import SnagError, describe_system_error
from snag_dist.evaluation.scored_runs import read_run
from snag_dist.export.directory import CHECKSUMS, ExportConfig, export_run
from snag_dist.export.network import load_hf
from snag_dist.shard.group import Group
from snag_dist.store.core import core_of_share
from snag_dist.store.extract import extract as extract_features
from snag_dist.store.ingest import ingest as ingest_graph
from snag_dist.store.opened import open_store
from snag_dist.training.boundary import Notices
from snag_dist.training.claim import Claim
from snag_dist.training.graph import open_graph
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.run_folder import RunFolder, write_json
from snag_dist.training.worker import Worker, WorkerContext, check_store
from snag_dist.tune.config import Sweep, make_sweep
from snag_dist.tune.sweep import read_outcome, require_same_recipe, write_best

# Steps between two checkpoints, and after which the run is stopped: two versions are there then, the second newer.
EVERY, STEPS = 10, 15
HOW: dict[str, Callable[[bytes], bytes]] = {
    "one byte flipped": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
    "last byte cut off": lambda content: content[:-1],
    "second half cut off": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
}
CHECKPOINT = ("dense.safetensors", "task.safetensors", "epoch.safetensors", "rows-00000.safetensors", "cursor.json")
# driver.json is written anew by every command, before it is read.
RUN = ("config.json", "run.json", "log.jsonl", "checkpoints/LATEST")
FINISHED = ("checkpoints/BEST", "ranks/test", "metrics-test.json", "weights.json")
"""What a finished run leaves for those who read it."""
NO_WORDS = "nothing is said"


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Damage copies of a store, of runs on it, of an export and of a sweep, file by file, and go on."""
    with TemporaryDirectory() as folder, group_of_one() as group:
        place = Path(folder)
        shutil.copytree(store, place / "store")
        found = {
            "checkpoint_and_run": _of_a_run_under_way(place, seed, group),
            "full_disk": _full_disk(place, seed, group),
            "finished_run": _of_a_finished_run(place, seed, group),
            "export": _of_an_export(place),
            "sweep": _of_a_sweep(place, seed, group),
            "links": _of_links(place, seed, group),
            # Last: what is made beside the store here would be part of what the others damage.
            "store": _of_the_store(place, seed, group),
        }
        return {**found, "summary": {name: _summarise(each) for name, each in found.items() if isinstance(each, list)}}


def _try_each(folder: Path, names: Iterable[str], read: Callable[[str], str]) -> list[dict[str, str]]:
    """Damage each file of a folder in each way, each time in a fresh copy, and keep what `read` makes of the name."""
    kept, found = folder.with_name(f"{folder.name}-kept"), list[dict[str, str]]()
    shutil.copytree(folder, kept)
    for name in names:
        for how, damage in HOW.items():
            content = (kept / name).read_bytes()
            if damage(content) == content:
                continue
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
            (folder / name).write_bytes(damage(content))
            found.append({"file": _place(name), "damage": how, "outcome": _short(_told(partial(read, name)), folder)})
    shutil.rmtree(folder)
    kept.rename(folder)
    return found


def _summarise(outcomes: list[dict[str, str]]) -> dict[str, int]:
    """How often damage was told of, how often nobody noticed, and tracebacks, of which there should be none."""
    texts = [each["outcome"] for each in outcomes]
    tracebacks = sum("A TRACEBACK" in text for text in texts)
    silent = sum(text.startswith(NO_WORDS) for text in texts)
    return {"told": len(texts) - silent - tracebacks, "not_noticed": silent, "tracebacks": tracebacks}


def _of_a_run_under_way(place: Path, seed: int, group: Group) -> list[dict[str, str]]:
    recipe = _recipe(place / "store", place / "runs", seed)
    _train(recipe, group, STEPS)
    shutil.copytree(recipe.run_path, place / "kept")
    latest = (recipe.run_path / "checkpoints" / "LATEST").read_text().strip()
    files = [f"checkpoints/{latest}/{name}" for name in (*CHECKPOINT, "manifest.json")] + list(RUN)
    return _try_each(recipe.run_path, files, lambda _name: _one_step_more(recipe, group))


def _one_step_more(recipe: Recipe, group: Group) -> str:
    """What happens when a run goes on for one step."""
    folder = RunFolder(recipe.run_path)
    before = len(folder.read_warnings())
    _train(recipe, group, 1)
    warnings = folder.read_warnings()[before:]
    step = json.loads(folder.log.read_text().splitlines()[-1])["step"]
    return f"{'; '.join(warnings) or NO_WORDS}; took step {step}"


def _of_the_store(place: Path, seed: int, group: Group) -> list[dict[str, str]]:
    """What a run says that begins anew, on a store with a holdout, an overlay of missing pictures, and a core."""
    store, runs = place / "store", place / "anew"
    some = next(path.name for path in sorted((store / "features").iterdir()) if path.is_dir())
    choices = {"holdout": {"share": 0.1}, "missing": {some: {"ratio": 0.5, "among": "all"}}}
    recipe = _recipe(store, runs, seed, **choices)
    open_graph(recipe)
    core_of_share(open_store(store), 0.5)

    def begin(name: str) -> str:
        damaged = (store / name).read_bytes()
        shutil.rmtree(runs, ignore_errors=True)
        if name.startswith("cores/"):
            core = core_of_share(open_store(store), 0.5)
            _train(_recipe(core.path, runs, seed), group, 1)
        else:
            _train(recipe, group, 1)
        is_anew = (store / name).read_bytes() != damaged
        return f"{'the cut is made anew' if is_anew else NO_WORDS}; took step 1"

    return _try_each(store, _kinds(store), begin)


def _of_links(place: Path, seed: int, group: Group) -> list[dict[str, str]]:
    """The same of a store of two graphs: random triples, and links between them."""
    source, store = place / "pair", place / "pair-store"
    source.mkdir()
    draw, num = np.random.default_rng(seed), 200
    for side in (1, 2):
        rows = [f"{2 * entity + side}\thttp://example.org/{side}/{entity}" for entity in range(num)]
        (source / f"ent_ids_{side}").write_text("\n".join(rows) + "\n")
        ends = 2 * draw.integers(0, num, (4 * num, 2)) + side
        (source / f"triples_{side}").write_text("".join(f"{head}\t{side}\t{tail}\n" for head, tail in ends))
    (source / "ill_ent_ids").write_text("".join(f"{2 * entity + 1}\t{2 * entity + 2}\n" for entity in range(num)))
    tree = {
        "name": "pair",
        "store": str(store),
        "runs": str(place / "pair-runs"),
        "seed": seed,
        "ingest": {"source": {"kind": "alignment", "folder": str(source)}},
        "features": {"relation": {"kind": "relation_bag"}},
        "method": {"kind": "snag_alignment"},
        "links": {"train_share": 0.5, "dev_share": 0.1},
        "train": {"epochs": 2, "batch_size": 64},
    }
    recipe = Recipe.model_validate(tree)
    ingest_graph(recipe.ingest, store)
    extract_features(recipe.features, store)

    def begin(_name: str) -> str:
        shutil.rmtree(recipe.run_path, ignore_errors=True)
        _train(recipe, group, 1)
        return f"{NO_WORDS}; took step 1"

    return _try_each(store, [name for name in _kinds(store) if "links" in name], begin)


def _of_a_finished_run(place: Path, seed: int, group: Group) -> list[dict[str, str]]:
    """Damage what a finished run leaves, and ask who reads it: the table of runs, or an evaluation that goes on."""
    recipe = _short_recipe(place, "finished", seed)
    _begin(recipe)
    _worker(recipe, group).train()
    run = recipe.run_path
    paths = [run / name for name in FINISHED]
    names = [str((min(path.iterdir()) if path.is_dir() else path).relative_to(run)) for path in paths]

    def read(name: str) -> str:
        if not name.endswith(".json"):
            return _evaluate(recipe, group)
        read_run(run)
        return NO_WORDS

    return _try_each(run, names, read)


def _of_an_export(place: Path) -> list[dict[str, str]]:
    """Damage an export of the finished run, and ask who gets it: `from_pretrained`, and sha256sum."""
    out = export_run(place / "runs" / "finished", place / "export", ExportConfig(max_file_bytes=1 << 20))
    ids = torch.arange(8)

    def load(_name: str) -> str:
        checked = subprocess.run(
            ["sha256sum", "--check", "--quiet", CHECKSUMS], cwd=out, capture_output=True, text=True, check=False
        )
        try:
            load_hf().SnagEncoder.from_pretrained(out)(entity_ids=ids)
            words = "loads"
        except Exception as error:  # noqa: BLE001 - whatever transformers makes of it
            words = f"does not load: {type(error).__name__}"
        told = "; ".join((checked.stdout or checked.stderr).splitlines()[:1]) if checked.returncode else NO_WORDS
        return f"{told}; {words}"

    return _try_each(out, _kinds(out), load)


def _of_a_sweep(place: Path, seed: int, group: Group) -> list[dict[str, str]]:
    """Damage a sweep of two settings, and ask what the same command makes of it."""
    space = {"method.noise.ratio": {"kind": "grid", "values": [0.0, 0.7]}}
    sweep = make_sweep(_short_recipe(place, "sweep", seed), {"space": space})
    require_same_recipe(sweep)
    for ratio in (0.0, 0.7):
        trial = sweep.trial({"method.noise.ratio": ratio}, 0)
        _begin(trial.recipe())
        trial.begin()
        _worker(trial.recipe(), group).train()
    winner = read_outcome(sweep).winner
    assert winner is not None
    write_best(sweep, winner)
    first = min(path.name for path in sweep.trials.iterdir())
    files = ["sweep.json", "best.toml", *(f"trials/{first}/{name}" for name in ("trial.json", "run.json", "log.jsonl"))]
    return _try_each(sweep.path, files, lambda _name: _read_sweep(sweep))


def _read_sweep(sweep: Sweep) -> str:
    require_same_recipe(sweep)
    best = read_outcome(sweep).winner
    load_recipe(sweep.best)
    return f"{NO_WORDS}; {'no winner' if best is None else f'winner {best.name}'}"


def _evaluate(recipe: Recipe, group: Group) -> str:
    test = RunFolder(recipe.run_path).metrics("test")
    before = json.loads(test.read_text())["metrics"]
    _worker(recipe, group).evaluate("test")
    same = json.loads(test.read_text())["metrics"] == before
    return f"{NO_WORDS}; metrics are {'the same' if same else 'OTHERS'}"


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
            return NO_WORDS

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


def _recipe(store: Path, runs: Path, seed: int, **choices: Any) -> Recipe:
    checkpoint = {"every_seconds": None, "every_steps": EVERY, "keep": 2}
    train = {"epochs": 100, "log_every": 1, "evaluate_every": 100, "checkpoint": checkpoint}
    return make_recipe(store, runs, name="damaged", seed=seed, train=train, **choices)


def _short_recipe(place: Path, name: str, seed: int) -> Recipe:
    return make_recipe(place / "store", place / "runs", name=name, seed=seed, train={"epochs": 1, "evaluate_every": 1})


def _train(recipe: Recipe, group: Group, steps: int) -> None:
    asked = iter(range(1, 1 << 30))
    notices = Notices(lambda: next(asked) >= steps)
    _begin(recipe)
    _worker(recipe, group, notices).train()


def _begin(recipe: Recipe) -> None:
    """As the job does before it starts workers."""
    folder = RunFolder(recipe.run_path)
    is_finished(recipe)
    graph = open_graph(recipe)
    check_store(graph, folder)
    Claim.take(folder.path)
    write_json(folder.config, recipe.to_tree())
    folder.write_status(state="running", store_fingerprint=graph.fingerprint)


def _worker(recipe: Recipe, group: Group, notices: Notices | None = None) -> Worker:
    triples = open_graph(recipe, make=False).triples("train")
    return Worker(recipe, WorkerContext(group, lambda _metrics: None, triples, notices=notices or Notices()))


def _place(name: str) -> str:
    return "".join("0" if letter.isdigit() else letter for letter in name)


def _short(text: str, folder: Path) -> str:
    """Say it without the folder that the benchmark made."""
    return text.replace(f"{folder}/", "").replace(str(folder), folder.name)
