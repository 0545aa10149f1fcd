"""The model card: every figure in it is read from a file of the run or of the store."""

from collections.abc import Iterator
from typing import Any

from snag_dist.evaluation.report import EvaluationReport, RankRecord, SliceRecord
from snag_dist.evaluation.slices import NEW_SIDE, RELATION
from snag_dist.export.provenance import describe_features
from snag_dist.export.source import RunSource
from snag_dist.ranking.metrics import HITS_AT

_MAX_RELATIONS = 10


def write_card(
    source: RunSource, report: EvaluationReport | None, new: EvaluationReport | None, facts: dict[str, Any]
) -> str:
    """Write the card of an export.

    Args:
        source: what was exported.
        report: of the test split; None where the exported checkpoint was not scored.
        new: of the entities held out of training; None where there are none, or they were not scored.
        facts: counted while writing: `num_untrained`, `absent_by_modality`, `dtype`, `has_tokens`, `consumers`.
    """
    manifest = source.store.manifest
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: feature-extraction",
        "tags: [knowledge-graph, multi-modal, entity-embeddings, snag]",
        "license: other",
        f"license_name: {_quote(manifest.licence)}",
        "---",
        "",
        f"# {source.recipe.name}",
        "",
        f"An encoder of the {manifest.num_entities:,} entities of {manifest.source}, trained by snag_dist (SNAG, arXiv "
        f"2403.06832). Tokens: {', '.join(['graph', *source.encoder.modalities])}; width {source.encoder.width}.",
        "",
        *_usage(source, facts),
        "## Figures",
        "",
        *(_figures(report) if report else [_no_figures(source)]),
        "",
        *_new_entities(source, report, new),
        "## The splits it was trained and scored on",
        "",
        "```",
        *source.store.findings().lines(),
        "```",
        "",
        "## Licences",
        "",
        f"- Data: {manifest.licence}",
        *_encoder_licences(source),
        "",
        "## Known limits",
        "",
        *(f"- {limit}" for limit in _limits(source, new, facts)),
        "",
        "## Files",
        "",
        *_files(facts),
        "",
    ]
    return "\n".join(lines)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', "'").replace("\n", " ") + '"'


def _usage(source: RunSource, facts: dict[str, Any]) -> Iterator[str]:
    names = source.encoder.modalities
    yield "## Use"
    yield ""
    yield "Needs torch, safetensors and transformers; with a folder, name or path in place of FOLDER:"
    yield ""
    yield "```python"
    yield "import torch"
    yield "from transformers import AutoModel"
    yield 'model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)'
    yield "known = model(entity_ids=torch.tensor([0, 1]))  # rows of entities.parquet"
    yield f"print(known.pooled.shape{', known.tokens.shape' if facts['has_tokens'] else ''}, known.confidence)"
    yield "```"
    yield ""
    if names:
        yield (
            "`model(features={name: vectors})` encodes entities that are not in the graph, from raw vectors of "
            + " or ".join(f"`{name}`" for name in names)
            + " alone; the vectors must come from the encoders named under Licences."
        )
        yield ""


def _figures(report: EvaluationReport) -> Iterator[str]:
    protocol = report.protocol
    yield (
        f"{protocol.split} split, {' and '.join(protocol.directions)} among {protocol.num_candidates:,} entities, "
        f"filtered by {', '.join(protocol.filtered_by)}; ties {protocol.tie_rule}; checkpoint {protocol.checkpoint}, "
        f"{protocol.selection}; seed {protocol.seed}. Scored with codes in {protocol.score_dtype}, before export."
    )
    yield ""
    yield "| | MRR | " + " | ".join(f"H@{k}" for k in HITS_AT) + " | MR | queries |"
    yield "|---|" + "---|" * (len(HITS_AT) + 3)
    yield _row("**all**", report.metrics)
    relations = sorted((p for p in report.slices if p.group == RELATION), key=lambda p: -p.metrics.num_queries)
    others = [piece for piece in report.slices if piece.group != RELATION]
    for piece in others + relations[:_MAX_RELATIONS]:
        yield _row(_name(piece), piece.metrics)
    if len(relations) > _MAX_RELATIONS:
        yield ""
        yield f"The {_MAX_RELATIONS} relations with most queries are shown, of {len(relations)}."


def _name(piece: SliceRecord) -> str:
    return f"{piece.group}: {piece.name}".replace("|", "\\|")


def _row(name: str, metrics: RankRecord) -> str:
    means = metrics.realistic
    cells = [f"{means.mrr:.4f}", *(f"{means.hits[k]:.4f}" for k in HITS_AT), f"{means.mean_rank:.1f}"]
    return f"| {name} | {' | '.join(cells)} | {metrics.num_queries:,} |"


def _new_entities(source: RunSource, report: EvaluationReport | None, new: EvaluationReport | None) -> Iterator[str]:
    holdout = source.store.manifest.holdout
    if new is None or holdout is None:
        return
    protocol, num_held = new.protocol, holdout.parent_entities - source.store.num_entities
    yield "## New entities"
    yield ""
    yield (
        f"Training never saw {num_held:,} of {holdout.parent_entities:,} entities, drawn by seed {holdout.seed}; they "
        f"are no rows of this export, and the audit below is that of the graph with them. {protocol.num_triples:,} of "
        f"their triples, of all splits, were ranked among all {protocol.num_candidates:,} entities, filtered by "
        f"{', '.join(protocol.filtered_by)}, with codes from their modalities alone, as `model(features=...)` gives "
        "them. The first line is of other triples, among the entities of this export."
    )
    yield ""
    yield "| | MRR | " + " | ".join(f"H@{k}" for k in HITS_AT) + " | MR | queries |"
    yield "|---|" + "---|" * (len(HITS_AT) + 3)
    if report is not None:
        yield _row("trained entities, test split", report.metrics)
    yield _row("new entities", new.metrics)
    for piece in new.slices:
        if piece.group == NEW_SIDE:
            yield _row(f"new: {piece.name}", piece.metrics)
    yield ""


def _no_figures(source: RunSource) -> str:
    return f"The exported checkpoint, {source.checkpoint.name}, was not scored on the test split."


def _encoder_licences(source: RunSource) -> Iterator[str]:
    for name, feature in describe_features(source).items():
        encoder = feature["encoder"]
        yield (
            f"- {name}: vectors of {encoder['name']}, revision {encoder['revision']}, weights sha256 "
            f"{encoder['weights_sha256'][:12]}; licence {feature['licence']}"
        )


def _limits(source: RunSource, new: EvaluationReport | None, facts: dict[str, Any]) -> Iterator[str]:
    total = source.store.num_entities
    if facts["num_untrained"]:
        yield (
            f"{facts['num_untrained']:,} of {total:,} entities are in no training triple (`num_train_triples` is 0 in "
            "entities.parquet): their learned row is its initial draw, moved only as a negative."
        )
    for name, absent in facts["absent_by_modality"].items():
        if not absent:
            continue
        if name in source.noise_imputed:
            answer = (
                "training drew random vectors for them, which are not exported: the token is absent here, and their "
                "codes differ from those that were scored"
            )
        elif source.impute(name) == "learned":
            answer = "one learned vector stands for the missing token"
        elif source.impute(name) == "zero":
            answer = "the token is that of a vector of zeros"
        else:
            answer = "the token takes no part"
        yield f"{absent:,} of {total:,} entities have no {name}: {answer}."
    if not source.encoder.modalities:
        yield "The encoder sees structure only: an entity that was not in the graph has no code."
    elif new is None:
        yield (
            "Codes of new entities come from their modalities alone, so they are worse than trained ones; by how much "
            "was not measured: train with `holdout` to know."
        )
    if facts["dtype"] != "fp32":
        yield f"Tables are stored in {facts['dtype']}; the figures above were taken in full precision."
    yield "Codes say what the graph said when it was trained, wrong triples included."


def _files(facts: dict[str, Any]) -> Iterator[str]:
    tokens = ", tokens" if facts["has_tokens"] else ""
    yield f"- `entities-*.safetensors`: learned rows, codes{tokens}, confidence and mask, in {facts['dtype']}"
    yield "- `entities.safetensors.index.json`: which file holds which rows"
    yield "- `model.safetensors`, `config.json`, `*_snag.py`: the network and its code"
    yield "- `relations.safetensors`, `relations.parquet`: relation table and keys; `config.json` says how they score"
    yield "- `entities.parquet`: row, key, name, which modalities an entity has, its training triples"
    yield "- `provenance.json`: where it comes from"
    yield "- `SHA256SUMS`: of every other file; `sha256sum --check SHA256SUMS` here says whether a copy is whole"
    for consumer in facts["consumers"]:
        yield f"- `{consumer}/`: written for {consumer}"
