"""Fixtures of the graph tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published() -> Callable[[str], Path]:
    """Find a published dataset by its folder's name, or skip the test that asks for it."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("SNAG_DIST_DATA", beside))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there; set SNAG_DIST_DATA to the folder of the datasets")
        return folder

    return find
