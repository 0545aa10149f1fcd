"""From a run folder to a directory that loads without this project: whole, or not at all."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from snag_dist.errors import ConfigError
from snag_dist.export.card import write_card
from snag_dist.export.consumers.choices import ConsumersConfig, check_consumers, write_consumers
from snag_dist.export.network import load_hf, write_network
from snag_dist.export.people import EntityWriter, write_relations
from snag_dist.export.provenance import describe_origin, read_split_report
from snag_dist.export.relations import write_relation_table
from snag_dist.export.source import RunSource
from snag_dist.export.tables import TableDtype, TableWriter, entity_bytes
from snag_dist.store.manifest import hash_file
from snag_dist.training.recipe import NEW
from snag_dist.training.run_folder import write_json

logger = logging.getLogger("snag_dist")

CHECKSUMS = "SHA256SUMS"


class ExportConfig(ConsumersConfig):
    """How an encoder is handed over."""

    dtype: TableDtype = "fp32"
    """Number format of rows, codes and tokens: fp32, bf16, fp16, or int8 with a scale for every vector. The network
    itself stays in fp32."""
    tokens: bool = True
    """Whether the tables hold the modality tokens too; without them the tables are M / 2 + 1 times smaller, and tokens
    come from features only."""
    max_file_bytes: int = Field(default=256 << 20, gt=0)
    """Size of an entity file, at most; one is held in memory while it is written."""


def export_run(run: Path, out: Path, config: ExportConfig | None = None) -> Path:
    """Write the best checkpoint of a run as a directory for transformers.

    Args:
        run: folder of a completion run.
        out: the directory to make.
        config: how; by default in fp32, with tokens.

    Returns:
        `out`, absolute.

    Raises:
        CheckpointError: the folder is no run, has no checkpoint yet, or a file of it is damaged.
        ConfigError: the run cannot be exported, or `out` is there already.
        DataError: the store of the run is not there or was changed.
    """
    choices = config or ExportConfig()
    out = out.absolute()
    if out.exists():
        raise ConfigError(f"{out}: expected a new directory, but it is there; choose another with --out, or remove it")
    load_hf()
    check_consumers(choices)
    source = RunSource.open(run)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(partial, source, choices)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def _write(folder: Path, source: RunSource, choices: ExportConfig) -> None:
    facts, row_mean = _write_entities(folder, source, choices)
    write_relation_table(folder, source)
    write_relations(folder, source.store)
    write_network(folder, source, row_mean, {"dtype": choices.dtype, "tokens": choices.tokens})
    write_consumers(folder, source, choices)
    facts["consumers"] = choices.to
    report, new = (read_split_report(source, split) for split in ("test", NEW))
    write_json(folder / "provenance.json", describe_origin(source, report, new, choices.model_dump(mode="json")))
    (folder / "README.md").write_text(write_card(source, report, new, facts), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{hash_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    (folder / CHECKSUMS).write_text(sums, encoding="utf-8")


def _write_entities(folder: Path, source: RunSource, choices: ExportConfig) -> tuple[dict[str, Any], torch.Tensor]:
    store, width = source.store, source.encoder.width
    names = source.encoder.modalities
    tables = TableWriter(
        folder,
        store.num_entities,
        source.num_tokens,
        width,
        choices.dtype,
        choices.max_file_bytes,
        tokens=choices.tokens,
    )
    people = EntityWriter(folder, store, names)
    total = torch.zeros(width, dtype=torch.float64)
    num_have = torch.zeros(len(names), dtype=torch.int64)
    for block in source.blocks():
        tables.add(block)
        people.add(block)
        total += block.rows.double().sum(dim=0)
        num_have += block.has.sum(dim=0)
    tables.close()
    people.close()
    absent = {name: store.num_entities - int(num) for name, num in zip(names, num_have, strict=True)}
    facts = {
        "num_untrained": people.num_untrained,
        "absent_by_modality": absent,
        "dtype": choices.dtype,
        "has_tokens": choices.tokens,
    }
    return facts, (total / store.num_entities).float()


def describe_plan(run: Path, out: Path, config: ExportConfig) -> str:
    """Say in a few lines what exporting a run will write.

    Raises:
        SnagError: as `export_run` does.
    """
    source = RunSource.open(run)
    num_bytes = entity_bytes(source.num_tokens, source.encoder.width, config.dtype, tokens=config.tokens)
    num = source.store.num_entities
    return "\n".join(
        [
            f"run: {source.folder.path}, checkpoint {source.checkpoint.name}",
            f"entities: {num:,} of {num_bytes:,} bytes in {config.dtype}: {num * num_bytes / 2**20:,.1f} MiB",
            f"directory: {out.absolute()}" + "".join(f", {name}/" for name in config.to),
        ]
    )
