"""Hyper-parameters of the recipes of published runs, against those of the papers and their released commands.

Written down from the sources, not from the recipes: SNAG (arXiv 2403.06832), AdaMF-MAT (arXiv 2402.15444), EVA, MCLEA
and MEAformer.
"""

from pathlib import Path
from typing import Any

import pytest

from snag_dist.training.recipe import Recipe, load_recipe

FOLDER = Path(__file__).parents[1] / "jobs" / "recipes" / "published"
Expected = dict[str, Any]
ABSENT = object()

COMPLETION: Expected = {
    "method.noise.kind": "none",
    "method.scorer.kind": "rotate",
    "method.scorer.margin": 12.0,
    "method.scorer.epsilon_range": 2.0,
    "method.loss.kind": "self_adversarial",
    "method.loss.temperature": 2.0,
    "method.loss.weight_on": "hard",
    "method.negatives.kind": "per_triple",
    "method.negatives.sides": "bernoulli",
    "imputes": {"text": "noise", "vision": "noise"},
    # Adam without decay, clipping and schedule.
    "table.kind": "adam",
    "table.weight_decay": 0.0,
    "train.engine.weight_decay": 0.0,
    "train.clip_norm": 0.0,
    "train.schedule.kind": "constant",
    "train.schedule.warmup": 0.0,
    "train.batch_size": 1024,
    "train.evaluate_every": 100,
    "train.patience": 10,
}
SNAG: Expected = {
    **COMPLETION,
    "method.kind": "snag",
    "method.encoder.width": 256,
    "method.encoder.project_graph": False,
    "method.encoder.fusion.kind": "attention",
    "method.encoder.fusion.tanh": True,
    "method.encoder.fusion.attention.num_heads": 2,
    "method.encoder.fusion.attention.dropout": 0.1,
    "method.encoder.fusion.attention.feed_forward_width": 0,
    "method.negatives.num": 32,
    "train.lr": 1e-4,
    "train.epochs": 8000,
}
ADAMF: Expected = {
    **COMPLETION,
    "method.kind": "adamf",
    "method.encoder.fusion.kind": "attentive_sum",
    "method.adversary": None,
    "method.negatives.num": 128,
    "layers": {"text": 1, "vision": 1},
    "train.lr": 2e-5,
    "train.epochs": 1000,
}
MAT: Expected = {
    "method.adversary": ABSENT,
    "method.adversary.weight": 1e-4,
    "method.adversary.generator.noise_width": 64,
    "method.adversary.generator.hidden_width": 512,
    "method.adversary.generator.condition": "joint",
}
GMNM: Expected = {
    "method.noise.kind": "gaussian",
    "method.noise.probability": 0.2,
    "method.noise.ratio": 0.7,
    "method.noise.graph_scale": 1.0,
}


def completion(code: str, text_layers: int, adamf_width: int, adamf_margin: float) -> dict[str, Expected]:
    """Runs of a dataset by variant."""
    snag = {**SNAG, "method.encoder.fusion.code": code, "layers": {"text": text_layers, "vision": 1}}
    adamf = {**ADAMF, "method.encoder.width": adamf_width, "method.scorer.margin": adamf_margin}
    return {"": {**snag, **GMNM}, "gmnm-off": snag, "adamf": adamf, "adamf-mat": {**adamf, **MAT}}


ALIGNMENT: Expected = {
    "method.noise.kind": "none",
    "method.encoder.width": 300,
    "method.encoder.structure.kind": "gat",
    "method.encoder.structure.num_layers": 2,
    # Bags of nothing are zeros, pictures that do not exist are drawn.
    "imputes": {"attribute": "zero", "relation": "zero", "vision": "noise"},
    "layers": {"attribute": 1, "relation": 1, "vision": 1},
    "features.attribute.num_columns": 1000,
    "features.relation.num_columns": 1000,
    "features.vision.normalise": True,
    "links.dev_share": 0.1,
    "iterative": None,
    "table.kind": "adam",
    "train.lr": 5e-4,
    "train.batch_size": 3500,
    "train.clip_norm": 1.0,
    "train.schedule.kind": "cosine",
    "train.schedule.warmup": 0.15,
    "train.fanout": None,
    "evaluate.k_csls": 3,
}
GAT: Expected = {"method.encoder.structure.num_heads": 2, "method.encoder.structure.slope": 0.2}
ATTENTION: Expected = {
    **GAT,
    "method.temperature": 0.1,
    "method.attention.num_heads": 1,
    "method.attention.feed_forward_width": 400,
    "method.attention.activation": "gelu",
    "method.attention.dropout": 0.1,
}
ALIGNED: dict[str, Expected] = {
    "snag_alignment": {**ATTENTION, "method.phi": "factor", "method.modality_weights": "uncertainty"},
    "eva": {
        "method.encoder.structure.kind": "gcn",
        "method.alpha": 15.0,
        "method.graph_alpha": 5.0,
        "method.beta": 10.0,
    },
    "mclea": {
        **GAT,
        "method.combination": "concat",
        "method.temperature": 0.1,
        "method.teacher_temperature": 4.0,
        "method.zoom": 0.1,
    },
    "meaformer": ATTENTION,
}
ITERATIVE: Expected = {
    "iterative": ABSENT,
    "iterative.every": 5,
    "iterative.checks": 10,
    "iterative.lr_factor": 1 / 5,
}


def alignment(train_share: float, decay: float, epochs: int, rho: float, eps: float) -> dict[str, Expected]:
    """Runs of a dataset by variant."""
    common = {
        **ALIGNMENT,
        "links.train_share": train_share,
        "table.weight_decay": decay,
        "train.engine.weight_decay": decay,
        "train.epochs": epochs,
        # Learned to the end of the schedule.
        "stops early": False,
    }
    # The learned rows get half of both.
    gmnm = {**GMNM, "method.noise.probability": rho, "method.noise.ratio": eps, "method.noise.graph_scale": 0.5}
    runs: dict[str, Expected] = {}
    for kind, own in ALIGNED.items():
        plain: Expected = {**common, **own, "method.kind": kind}
        if kind == "snag_alignment":
            runs |= {"": {**plain, **gmnm}, "gmnm-off": plain, "iterative": {**plain, **gmnm, **ITERATIVE}}
        else:
            runs |= {kind: plain, f"{kind}-gmnm": {**plain, **gmnm}}
    return runs


PUBLISHED: dict[str, dict[str, Expected]] = {
    "db15k": completion("graph", 2, 500, 12.0),
    "mkg_w": completion("mean", 1, 400, 12.0),
    "mkg_y": completion("mean", 1, 400, 4.0),
    "dbp15k_zh_en": alignment(0.3, 1e-3, 250, 0.2, 0.7),
    "dbp15k_ja_en": alignment(0.3, 1e-3, 500, 0.2, 0.7),
    "dbp15k_fr_en": alignment(0.3, 1e-3, 500, 0.2, 0.7),
    "openea_en_fr_v1": alignment(0.2, 5e-4, 250, 0.8, 0.2),
    "openea_en_de_v1": alignment(0.2, 5e-4, 250, 0.8, 0.2),
    "openea_d_w_v1": alignment(0.2, 5e-4, 250, 0.2, 0.7),
    "openea_d_w_v2": alignment(0.2, 5e-4, 250, 0.2, 0.7),
}
CASES = [(dataset, variant) for dataset, runs in PUBLISHED.items() for variant in runs]


def runs_of(dataset: str) -> dict[str, Recipe]:
    """The runs of a recipe by variant, itself first, by the empty name."""
    recipe = load_recipe(FOLDER / f"{dataset}.toml")
    return {run.name.removeprefix(recipe.name).removeprefix("-"): run for run in recipe.with_variants()}


def found(run: Recipe, path: str) -> Any:
    """What a run has at a dotted path, with all defaults filled in."""
    encoder = run.method.encoder
    projections = {name: encoder.projections.get(name, encoder.projection) for name in run.used_modalities}
    match path:
        case "imputes":
            return {name: projection.impute for name, projection in projections.items()}
        case "layers":
            return {name: projection.layers for name, projection in projections.items()}
        case "stops early":
            return run.train.patience * run.train.evaluate_every < run.train.epochs
        case _:
            value: Any = run.model_dump(mode="json")
            for part in path.split("."):
                value = value[part]
            return value


@pytest.mark.parametrize(("dataset", "variant"), CASES, ids=lambda part: part or "itself")
def test_a_published_run_has_the_published_hyper_parameters(dataset: str, variant: str) -> None:
    run = runs_of(dataset)[variant]
    expected = {path: value for path, value in PUBLISHED[dataset][variant].items() if value is not ABSENT}
    assert {path: found(run, path) for path in expected} == expected


def test_no_published_recipe_and_no_variant_is_left_out() -> None:
    recipes = {path.stem for path in FOLDER.glob("*.toml")}
    assert {name: set(runs_of(name)) for name in recipes} == {name: set(runs) for name, runs in PUBLISHED.items()}
