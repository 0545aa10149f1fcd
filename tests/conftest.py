"""What every test may use: one local Ray for the whole run, a process group of one, and the real datasets."""

import logging
import os

# Read when Ray is imported, here and in the processes it starts.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from snag_dist.shard.group import Group


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the session of Ray before `-m ray` selects."""
    for item in items:
        if "local_ray" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Start Ray on this machine for all tests that ask for it; end it without touching another one."""
    import ray

    # Without the dashboard Ray leaks placement groups and fills the log.
    ray.init(num_cpus=4, include_dashboard=True, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of the real datasets, or skip the test."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("SNAG_DIST_DATA", beside))
    if not root.is_dir():
        pytest.skip(f"{root}: no datasets there; set SNAG_DIST_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def published(data_root: Path) -> Callable[[str], Path]:
    """Find a published dataset by its folder's name, or skip the test that asks for it."""

    def find(name: str) -> Path:
        folder = data_root / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there")
        return folder

    return find


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """A process group of one. DeepSpeed keeps hold of the first it meets, so all tests share it."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    rendezvous = tmp_path_factory.mktemp("group") / "rendezvous"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    yield Group()
    dist.destroy_process_group()
