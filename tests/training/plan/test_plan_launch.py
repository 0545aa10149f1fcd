"""A run that does not fit is refused by the driver, before it makes a folder or starts a worker."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from snag_dist.errors import ResourceError
from snag_dist.training import launch
from snag_dist.training.recipe import ClusterConfig, Recipe


def make_nodes(*resources: dict[str, float], alive: bool = True) -> list[dict[str, Any]]:
    return [{"Alive": alive, "Resources": found} for found in resources]


def test_memory_of_the_hosts_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"memory": 1e9, "object_store_memory": 1e9}
    worker = {"CPU": 8.0, "memory": 6e9, "object_store_memory": 3e9}
    dead = make_nodes({"CPU": 64.0, "memory": 1.0}, alive=False)
    monkeypatch.setattr(ray, "nodes", lambda: make_nodes(worker) + dead)
    assert launch.hosts_of_cluster(ClusterConfig()) is None
    monkeypatch.setattr(ray, "nodes", lambda: make_nodes(head, worker, worker) + dead)
    # A head without CPUs takes no worker.
    assert launch.hosts_of_cluster(ClusterConfig()) == [9 * 10**9, 9 * 10**9]


def test_a_training_that_does_not_fit_is_refused_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SimpleNamespace(
        path=tmp_path,
        fingerprint="f",
        num_entities=40_000_000,
        num_relations=3,
        virtual_shards=64,
        manifest=SimpleNamespace(num_triples={"train": 1000, "valid": 10, "test": 10}, num_links=0),
        modalities=lambda: (),
    )
    tree = {
        "name": "large",
        "store": str(tmp_path),
        "runs": str(tmp_path / "runs"),
        "ingest": {"source": {"kind": "world"}},
        "plan": {"host_bytes": 16_000_000_000},
    }
    monkeypatch.setattr(launch, "open_graph", lambda recipe: store)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(ray, "nodes", lambda: make_nodes({"CPU": 4.0}))
    with pytest.raises(ResourceError, match=r"table\.kind: expected at most 16 GB of host memory, got 2\d\d GB"):
        launch.launch(Recipe.model_validate(tree))
    assert not (tmp_path / "runs").exists()
