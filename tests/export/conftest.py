"""One small world, trained once for all tests of the export."""

from collections.abc import Callable
from pathlib import Path

import pytest

import snag_dist
from snag_dist.export.directory import ExportConfig, export_run
from snag_dist.store.encoders.torchvision_door import open_torchvision
from snag_dist.training.recipe import load_recipe

# transformers imports torchvision, which does not load beside a CPU build of torch.
open_torchvision()

RECIPE = Path(__file__).parents[2] / "jobs" / "recipes" / "world.toml"


@pytest.fixture(scope="session")
def run(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run over 300 entities; its store lies two folders up."""
    folder = tmp_path_factory.mktemp("exported")
    snag_dist.train(
        load_recipe(
            RECIPE,
            [
                f"store={folder}/store",
                f"runs={folder}/runs",
                "ingest.source.num_entities=300",
                "ingest.licence='CC0, as a test'",
                "licences.text='Apache-2.0'",
                "train.epochs=2",
                "train.evaluate_every=1",
                "train.batch_size=256",
                "method.encoder.width=32",
                "cluster.num_workers=1",
                "variants={}",
            ],
        )
    )
    return folder / "runs" / "world"


Exporter = Callable[..., Path]


@pytest.fixture
def export(run: Path, tmp_path: Path) -> Exporter:
    """Export the run, or another one, under a config given by its fields."""

    def make(name: str = "out", source: Path | None = None, **fields: object) -> Path:
        return export_run(source or run, tmp_path / name, ExportConfig.model_validate(fields))

    return make


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in fp32, cut into files of at most 64 KiB."""
    return export_run(run, tmp_path_factory.mktemp("export") / "world", ExportConfig(max_file_bytes=1 << 16))
