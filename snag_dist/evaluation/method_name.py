"""What a run is called in a table: the paper's name of its method, and what sets it apart from its neighbours.

The name comes from the resolved recipe alone, as a plain tree. Runs whose recipes differ in nothing but the seed are
one method; where two with the same name differ in more, the name is followed by what differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

METHODS = {
    "snag": "SNAG",
    "snag_alignment": "SNAG",
    "adamf": "AdaMF",
    "eva": "EVA",
    "mclea": "MCLEA",
    "meaformer": "MEAformer",
}
"""Name by `method.kind`; a kind that is not here is called by itself."""

FUSIONS = {
    "attention": "attention",
    "concat": "FC",
    "weighted_sum": "WS",
    "attentive_sum": "AT",
    "confidence_sum": "TS",
    "graph": "graph only",
}
"""Name by fusion, as in Table 3 of the SNAG paper."""

_OWN_FUSION = {"adamf": "attentive_sum"}
_OWN_SCORER = "rotate"

CHANNELS = "channels"
"""Path of the names of the channels among the choices."""

# Where a run lies, what it reads (the report states it) and how the work is laid out: nothing that ranks depend on.
_PLACES = (
    *("name", "runs", "data", "store", "variants", "ingest", "features", "cluster", "missing", "modalities"),
    *("licences", "plan", "telemetry"),
)
_LAYOUT = (
    *("evaluate.budget_bytes", "evaluate.k_csls", "evaluate.first_pass", "train.log_every", "train.residency"),
    *("train.checkpoint", "train.verify_store"),
)
# Said by the name, or by a column of the table.
_SAID = ("method.kind", "method.encoder.fusion.kind", "method.noise.kind", "method.scorer.kind")


@dataclass(frozen=True)
class MethodName:
    """A method as a table names it.

    Attributes:
        label: name, and what of Table 3 it is.
        gmnm: whether it is trained under Gaussian modality noise masking.
    """

    label: str
    gmnm: bool


def name_method(method: Mapping[str, Any]) -> MethodName:
    """Name a method by its section of the resolved recipe, which has a `kind`."""
    kind = str(method["kind"])
    label = METHODS.get(kind, kind)
    adversary = method.get("adversary")
    # With weight 0, as the released commands have it, the model is plain AdaMF.
    if adversary and adversary.get("weight") != 0:
        label = f"{label}-MAT" if kind == "adamf" else f"{label}, adversary"
    fusion = _kind(method.get("encoder"), "fusion")
    if fusion is not None and fusion != _OWN_FUSION.get(kind, "attention"):
        label = f"{label}, {FUSIONS.get(fusion, fusion)}"
    scorer = _kind(method, "scorer")
    if scorer is not None and scorer != _OWN_SCORER:
        label = f"{label}, {scorer}"
    noise = _kind(method, "noise")
    if noise == "dropout":
        label = f"{label}, dropout {method['noise']['probability']:g}"
    elif noise not in (None, "none", "gaussian"):
        label = f"{label}, {noise}"
    return MethodName(label, noise == "gaussian")


def _kind(section: Any, name: str) -> str | None:
    inner = section.get(name) if isinstance(section, dict) else None
    return inner.get("kind") if isinstance(inner, dict) else None


Choices = Mapping[str, Any]
"""What was chosen for a run, by dotted path, apart from seeds and places."""


def choices_of(config: Mapping[str, Any], stage: str, channels: Mapping[str, str]) -> Choices:
    """Flatten a resolved recipe to what ranks depend on; what the plain stage does not use is left out of it.

    Args:
        config: the recipe.
        stage: "plain", "iterative", or empty for completion.
        channels: by modality, what the encoder saw, from the report: features of one name may have been made otherwise.
    """
    kept = {name: value for name, value in config.items() if name not in _PLACES}
    if stage == "plain":
        kept.pop("iterative", None)
    flat = _flatten(kept, "")
    chosen = {
        path: value
        for path, value in flat.items()
        if not path.startswith(_LAYOUT) and path.rpartition(".")[2] != "seed"
    }
    seen = {f"{CHANNELS}.{name}": text for name, text in channels.items()}
    return {**chosen, CHANNELS: "+".join(["graph", *sorted(channels)]), **seen}


def _flatten(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value if not isinstance(value, list) else tuple(value)}
    return {
        inner: leaf
        for name, section in value.items()
        for inner, leaf in _flatten(section, f"{path}.{name}" if path else name).items()
    }


def tell_apart(neighbours: Sequence[Choices]) -> list[str]:
    """Say for each of several choices in what it differs from the others, e.g. "train.lr=0.003"; empty for one alone.

    Of a section whose `kind` differs only the kind is said, of other channels only their names.
    """
    paths = list(dict.fromkeys(path for choices in neighbours for path in choices))
    differing = [path for path in paths if len({repr(choices.get(path)) for choices in neighbours}) > 1]
    heads = [path for path in differing if path == CHANNELS or path.endswith(".kind")]
    inside = tuple(f"{CHANNELS}." if path == CHANNELS else path.removesuffix("kind") for path in heads)
    shown = [path for path in differing if path in heads or not path.startswith(inside)]
    # What the name says already is said again only where nothing else would tell two apart.
    unsaid = [path for path in shown if path not in _SAID] or shown
    return [", ".join(f"{_short(path)}={_words(choices.get(path))}" for path in unsaid) for choices in neighbours]


def _short(path: str) -> str:
    return ".".join(path.split(".")[-2:])


def _words(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
