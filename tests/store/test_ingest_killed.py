"""An ingest that is killed with SIGKILL leaves no store; started again, it leaves what an undisturbed one leaves."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snag_dist.kg.world import WorldConfig
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.opened import open_store

ROOT = Path(__file__).parents[2]
CONFIG = IngestConfig(source=WorldConfig(num_entities=5000))

DRIVER = """
import sys
from pathlib import Path
from snag_dist.store.ingest import IngestConfig, ingest
ingest(IngestConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("num_files", [1, 4])
def test_killed_while_files_are_written_and_started_again(num_files: int, tmp_path: Path) -> None:
    store = tmp_path / "killed"
    partial = store.with_name("killed.partial")
    command = [sys.executable, "-c", DRIVER, CONFIG.model_dump_json(), str(store)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as driver:
        end = time.monotonic() + 120
        while not partial.is_dir() or sum(path.is_file() for path in partial.rglob("*")) < num_files:
            assert driver.poll() is None and time.monotonic() < end
            time.sleep(0.001)
        driver.kill()
    assert partial.is_dir() and not store.exists()
    for folder in (store, tmp_path / "undisturbed"):
        ingest(CONFIG, folder)
    assert not partial.exists()
    open_store(store).verify()
    assert contents(store) == contents(tmp_path / "undisturbed")
