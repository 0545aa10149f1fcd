"""The door of an export to transformers, which is heavy and optional: config and weights of the exported network."""

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from snag_dist.errors import ConfigError
from snag_dist.export.relations import describe_scorer
from snag_dist.export.source import RunSource
from snag_dist.store.encoders.torchvision_door import open_torchvision

CODE = ("configuration_snag.py", "modeling_snag.py", "tables_snag.py")
"""Files of `snag_dist.export.hf` that every export holds a copy of."""


def load_hf() -> ModuleType:
    """Import `snag_dist.export.hf`.

    Raises:
        ConfigError: transformers is not installed.
    """
    open_torchvision()
    try:
        from snag_dist.export import hf
        from snag_dist.export.hf import modeling_snag  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ConfigError(
            "export: expected transformers, which is not installed; pip install 'snag-dist[export]'"
        ) from error
    return hf


def write_network(folder: Path, source: RunSource, row_mean: Tensor, tables: dict[str, Any]) -> None:
    """Write `config.json`, `model.safetensors` (fp32) and the code that reads them.

    Args:
        folder: of the export in the making.
        source: what is exported.
        row_mean: (D,) mean of the learned rows.
        tables: what the entity files hold, for the config.
    """
    hf = load_hf()
    encoder = source.method.encoder
    modalities: list[dict[str, Any]] = []
    for name in source.encoder.modalities:
        projection = encoder.projections.get(name, encoder.projection)
        width = source.store.feature(name).width
        modalities.append({"name": name, "width": width, "layers": projection.layers, "impute": projection.impute})
    config = hf.SnagEncoderConfig(
        width=encoder.width,
        modalities=modalities,
        fusion=encoder.fusion.model_dump(mode="json"),
        project_graph=encoder.project_graph,
        num_entities=source.store.num_entities,
        num_relations=source.store.num_relations,
        tables=tables,
        scorer=describe_scorer(source),
        architectures=[hf.SnagEncoder.__name__],
        auto_map={
            "AutoConfig": f"configuration_snag.{hf.SnagEncoderConfig.__name__}",
            "AutoModel": f"modeling_snag.{hf.SnagEncoder.__name__}",
        },
    )
    config.save_pretrained(folder)
    weights = {name: value.contiguous() for name, value in source.encoder.state_dict().items()}
    save_file({**weights, "row_mean": row_mean}, folder / "model.safetensors", metadata={"format": "pt"})
    for name in CODE:
        shutil.copyfile(Path(__file__).parent / "hf" / name, folder / name)
