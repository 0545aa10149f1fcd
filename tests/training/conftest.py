"""A group of one for tests of what a single worker does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from snag_dist.shard.group import Group


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """A process group of one. DeepSpeed keeps hold of the first it meets, so all tests share it."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    rendezvous: Path = tmp_path_factory.mktemp("group") / "rendezvous"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    yield Group()
    dist.destroy_process_group()
