"""Where an export comes from: run, store, encoders of the raw vectors, versions, figures, licences."""

import json
from importlib.metadata import version
from typing import Any

from snag_dist.evaluation.report import EvaluationReport, read_report
from snag_dist.export.source import RunSource
from snag_dist.redaction import hide_secrets
from snag_dist.training.launch import versions

UNKNOWN_LICENCE = "not stated (`licences` of the recipe); ask the publisher of the encoder"


def read_split_report(source: RunSource, split: str) -> EvaluationReport | None:
    """Read the report of a split; None where there is none, or one of another checkpoint."""
    path = source.folder.metrics(split)
    if not path.is_file():
        return None
    report = read_report(path)
    return report if report.protocol.checkpoint == source.checkpoint.name else None


def describe_features(source: RunSource) -> dict[str, dict[str, Any]]:
    """By modality: which encoder made the raw vectors, how many entities have them, and what is known of licences."""
    found: dict[str, dict[str, Any]] = {}
    for name in source.encoder.modalities:
        manifest = source.store.feature(name)
        found[name] = {
            "encoder": manifest.encoder.model_dump(mode="json"),
            "licence": source.recipe.licences.get(name, UNKNOWN_LICENCE),
            "width": manifest.width,
            "num_present": manifest.num_present,
            "num_entities": manifest.num_entities,
            "fingerprint": manifest.fingerprint,
            "impute": source.impute(name),
            "imputed_by_noise_in_training": name in source.noise_imputed,
        }
    return found


def describe_origin(
    source: RunSource, report: EvaluationReport | None, new: EvaluationReport | None, choices: dict[str, Any]
) -> dict[str, Any]:
    """Return the tree of `provenance.json`.

    Args:
        source: what was exported.
        report: of the test split, where there is one.
        new: of the entities held out, likewise.
        choices: how it was exported.
    """
    manifest = source.store.manifest
    cursor = json.loads((source.checkpoint / "cursor.json").read_text(encoding="utf-8"))
    return {
        "run": source.recipe.name,
        "recipe": json.loads(hide_secrets(json.dumps(source.folder.read_config()))),
        "checkpoint": source.checkpoint.name,
        "cursor": cursor,
        "store": {
            "fingerprint": manifest.fingerprint,
            "source": manifest.source,
            "num_entities": manifest.num_entities,
            "num_relations": manifest.num_relations,
            "num_triples": manifest.num_triples,
            "licence": manifest.licence,
            "audit": manifest.audit,
        },
        "features": describe_features(source),
        "metrics": None if report is None else report.metrics.model_dump(mode="json"),
        "metrics_of_new_entities": None if new is None else new.metrics.model_dump(mode="json"),
        "export": choices,
        "versions_of_training": source.folder.read_status().get("versions", {}),
        "versions_of_export": {
            **versions(),
            "transformers": version("transformers"),
            "safetensors": version("safetensors"),
        },
    }
