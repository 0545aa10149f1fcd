"""An extraction that is killed with SIGKILL and started again leaves what an undisturbed one leaves, byte for byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from snag_dist.store.encoders import PixelsConfig
from snag_dist.store.extract import extract
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.media.folder import FolderConfig
from snag_dist.store.picture_features import PicturesConfig
from snag_dist.store.sources import TsvConfig

NUM = 1200

DRIVER = """
import sys, ray
from pathlib import Path
from snag_dist.store.extract import extract
from snag_dist.store.picture_features import PicturesConfig
ray.init(address=sys.argv[1], log_to_driver=False)
extract({"vision": PicturesConfig.model_validate_json(sys.argv[3])}, Path(sys.argv[2]))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def features(tmp_path: Path) -> PicturesConfig:
    """Pictures that take some seconds to read, one for every entity."""
    numbers = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(NUM):
        noise = numbers.integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((384, 384)).save(folder / f"e{i}.png", compress_level=1)
    encoder = PixelsConfig(side=8, num_actors=1)
    return PicturesConfig(source=FolderConfig(path=folder), encoder=encoder)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_killed_at_a_random_moment_and_resumed(features: PicturesConfig, tmp_path: Path, local_ray: None) -> None:
    graph = tmp_path / "graph"
    graph.mkdir()
    lines = [f"e{i}\tnext\te{(i + 1) % NUM}" for i in range(NUM)]
    for split, part in (("train", lines), ("valid", lines[:1]), ("test", lines[1:2])):
        (graph / f"{split}.tsv").write_text("\n".join(part) + "\n")
    stores = [tmp_path / name for name in ("killed", "undisturbed")]
    for store in stores:
        ingest(IngestConfig(source=TsvConfig(folder=graph)), store)

    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", DRIVER, address, str(stores[0]), features.model_dump_json()]
    tables = stores[0] / "features"
    # Another moment in every run of the tests: the result must not depend on it.
    delays = [random.uniform(0.0, 1.5) for _ in range(2)]
    for delay in delays:
        process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while not list(tables.glob("vision.*.partial")) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    for store in stores:
        extract({"vision": features}, store)
    killed, undisturbed = (contents(store / "features" / "vision") for store in stores)
    assert killed.keys() == undisturbed.keys()
    assert [name for name in killed if killed[name] != undisturbed[name]] == [], f"killed after {delays} s"
