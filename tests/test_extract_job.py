"""A newcomer's case: triples, a folder of pictures and a table of sentences become a store, and a run trains on it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import snag_dist
from snag_dist.store.gather import FeatureRows
from snag_dist.store.missing import open_overlay
from snag_dist.store.opened import open_store
from snag_dist.training.recipe import load_recipe

ROOT = Path(__file__).parents[1]
NUM = 60

RECIPE = """
name = "mine"
store = "STORE"
runs = "RUNS"
data = "DATA"

[ingest.source]
kind = "tsv"
folder = "{data}/graph"

[features.text]
kind = "text"
[features.text.source]
kind = "tsv"
path = "{data}/texts.tsv"
columns = ["text"]

[features.vision]
kind = "pictures"
[features.vision.source]
kind = "folder"
path = "{data}/pictures"
[features.vision.encoder]
kind = "pixels"
side = 4

[method.encoder]
width = 16

[train]
epochs = 2
batch_size = 32
evaluate_every = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Sixty things, every second one with two pictures; one picture is broken."""
    graph, pictures = tmp_path / "graph", tmp_path / "pictures"
    graph.mkdir()
    lines = [
        f"t{i}\t{relation}\tt{(i * factor + 1) % NUM}"
        for relation, factor in (("next", 1), ("twice", 2))
        for i in range(NUM)
    ]
    for split, chosen in (("train", lines[:100]), ("valid", lines[100:110]), ("test", lines[110:])):
        (graph / f"{split}.tsv").write_text("\n".join(chosen) + "\n")
    (tmp_path / "texts.tsv").write_text("key\ttext\n" + "".join(f"t{i}\tthing number {i}\n" for i in range(NUM)))
    for i in range(0, NUM, 2):
        (pictures / f"t{i}").mkdir(parents=True)
        for number, shade in enumerate((0, 2 * i)):
            Image.new("L", (8, 8), shade).save(pictures / f"t{i}" / f"{number}.png")
    (pictures / "t4" / "1.png").write_bytes((pictures / "t4" / "1.png").read_bytes()[:50])
    path = tmp_path / "mine.toml"
    text = RECIPE.replace("STORE", str(tmp_path / "store")).replace("RUNS", str(tmp_path / "runs"))
    path.write_text(text.replace("DATA", str(tmp_path)))
    return path


def extract(recipe: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "jobs" / "extract.py"), "--recipe", str(recipe), *options]
    environment = {**os.environ, "COLUMNS": "200", "RAY_AUTH_MODE": "disabled"}
    return subprocess.run(command, cwd=recipe.parent, env=environment, capture_output=True, text=True, timeout=280)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_pictures_and_sentences_become_a_store_that_trains(recipe: Path, local_ray: None) -> None:
    stopped = extract(recipe, "--strict")
    assert stopped.returncode == 2, stopped.stderr
    line = stopped.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "pictures/t4/1.png" in line and "truncated PNG" in line and "without --strict" in line

    done = extract(recipe)
    assert done.returncode == 0, done.stderr
    assert "1 items cannot be used: truncated PNG" in done.stdout
    assert "50.0% of 60 entities (30), 48-d, 59 items, at most 2 an entity" in done.stdout
    store = open_store(recipe.parent / "store")
    with Image.open(store.path / "contact_sheet.png") as sheet:
        assert sheet.format == "PNG"
    rows = {key: row for row, key in enumerate(store.entities()["key"].to_pylist())}
    vectors, present = FeatureRows.open(store, "vision", 0, NUM).gather(np.arange(NUM))
    # Two pictures of shades 0 and 40, then one of shade 0 alone.
    assert np.allclose(vectors[rows["t20"]], (0 + 40) / 255 - 1, atol=1e-3)
    assert np.allclose(vectors[rows["t4"]], -1)
    assert not present[rows["t5"]]

    (report,) = snag_dist.train(recipe).values()
    assert report["protocol"]["split"] == "test"
    assert json.loads((recipe.parent / "runs" / "mine" / "metrics-test.json").read_text()) == report


@pytest.mark.ray
@pytest.mark.data
@pytest.mark.timeout(600)
def test_the_emoji_of_2025_become_a_store(published: Callable[[str], Path], tmp_path: Path, local_ray: None) -> None:
    """Real pictures, all of which can be read: 3,583 drawings of 6,039 entities."""
    program = [sys.executable, str(ROOT / "tools" / "build_emoji_graph.py")]
    options = ["--data", str(published("Emoji")), "--out", str(tmp_path / "emoji")]
    subprocess.run(program + options, check=True, capture_output=True, timeout=300)
    settings = [f"data={tmp_path}/emoji", f"store={tmp_path}/store", "features.vision.encoder.side=8"]
    store = snag_dist.extract(load_recipe(ROOT / "jobs" / "recipes" / "emoji_right.toml", settings))
    vision, text = store.feature("vision"), store.feature("text")
    assert (vision.num_present, vision.num_problems, vision.num_unknown_keys) == (3583, 0, 0)
    # 20 of 5,972 texts have no word of two letters.
    assert (text.num_present, text.num_problems, store.num_entities) == (5952, 20, 6039)
    assert store.feature_report("vision").num_items == 3583

    settings = [f"data={tmp_path}/emoji", f"store={tmp_path}/pair", "features.vision.encoder.side=8"]
    few = load_recipe(ROOT / "jobs" / "recipes" / "emoji_pair.toml", [*settings, "missing.vision=0.4"])
    pair = snag_dist.extract(few)
    assert (pair.num_entities, pair.manifest.num_links) == (9556, 2154)
    assert pair.feature("vision").num_present == 2164 + 3583
    overlay = open_overlay(pair, "vision", few.missing["vision"])[1]
    # Every linked emoji has a picture on both sides; those without a link keep theirs.
    assert (overlay.num_counted, overlay.num_kept, overlay.num_present) == (4308, 1723, 2164 + 3583 - 4308 + 1723)
