"""Names of methods from resolved recipes: the variants of Table 3, and what sets two runs of one name apart."""

from typing import Any

import pytest

from snag_dist.evaluation.method_name import choices_of, name_method, tell_apart
from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.snag import SnagConfig
from snag_dist.training.recipe import Recipe


def resolved(**changes: Any) -> dict[str, Any]:
    tree = {"name": "run", "store": "stores/world", "ingest": {"source": {"kind": "world"}}, **changes}
    return Recipe.model_validate(tree).to_tree()


NAMES = {
    "SNAG": {},
    "SNAG, FC": {"encoder": {"fusion": {"kind": "concat"}}},
    "SNAG, WS": {"encoder": {"fusion": {"kind": "weighted_sum"}}},
    "SNAG, AT": {"encoder": {"fusion": {"kind": "attentive_sum"}}},
    "SNAG, TS": {"encoder": {"fusion": {"kind": "confidence_sum"}}},
    "SNAG, graph only": {"encoder": {"fusion": {"kind": "graph"}}},
}


@pytest.mark.parametrize("label", NAMES)
def test_variants_of_table_3(label: str) -> None:
    method = SnagConfig.model_validate(NAMES[label]).model_dump(mode="json")
    assert (name_method(method).label, name_method(method).gmnm) == (label, True)


def test_noise_is_named() -> None:
    def name(noise: dict[str, Any]) -> tuple[str, bool]:
        named = name_method(SnagConfig.model_validate({"noise": noise}).model_dump(mode="json"))
        return named.label, named.gmnm

    assert name({"kind": "none"}) == ("SNAG", False)
    assert name({"kind": "dropout", "probability": 0.2}) == ("SNAG, dropout 0.2", False)


def test_an_adversary_counts_only_with_a_weight() -> None:
    def name(adversary: Any) -> str:
        return name_method(AdamfConfig.model_validate({"adversary": adversary}).model_dump(mode="json")).label

    assert name(None) == "AdaMF"
    assert name({}) == "AdaMF-MAT"
    assert name({"weight": 0.0}) == "AdaMF"


@pytest.mark.parametrize(
    ("kind", "label"), [("snag_alignment", "SNAG"), ("eva", "EVA"), ("mclea", "MCLEA"), ("meaformer", "MEAformer")]
)
def test_methods_of_alignment(kind: str, label: str) -> None:
    assert name_method(resolved(method={"kind": kind})["method"]).label == label


def test_what_ranks_do_not_depend_on_is_no_choice() -> None:
    here = choices_of(resolved(), "", {"text": "hashing"})
    there = resolved(name="other", seed=7, runs="elsewhere", store="x/world", cluster={"num_workers": 4})
    assert choices_of(there, "", {"text": "hashing"}) == here
    assert choices_of(resolved(train={"epochs": 7}), "", {"text": "hashing"}) != here
    assert choices_of(resolved(), "", {"text": "another"}) != here
    assert tell_apart([here]) == [""]


def test_the_plain_stage_of_an_iterative_run_is_a_plain_run() -> None:
    plain, iterative = (resolved(method={"kind": "eva"}, iterative=it) for it in (None, {"every": 2}))
    assert choices_of(plain, "plain", {}) == choices_of(iterative, "plain", {})
    assert choices_of(plain, "iterative", {}) != choices_of(iterative, "iterative", {})


def test_differences_are_named_shortly() -> None:
    runs = [resolved(), resolved(train={"lr": 0.003}), resolved(train={"epochs": 80})]
    assert tell_apart([choices_of(run, "", {}) for run in runs]) == [
        "train.epochs=50, train.lr=0.001",
        "train.epochs=50, train.lr=0.003",
        "train.epochs=80, train.lr=0.001",
    ]


def test_of_another_kind_only_the_kind_is_named() -> None:
    runs = [resolved(), resolved(table={"kind": "rowwise_adagrad"})]
    assert tell_apart([choices_of(run, "", {}) for run in runs]) == ["table.kind=adam", "table.kind=rowwise_adagrad"]


def test_of_other_channels_only_the_names() -> None:
    seen = [{}, {"text": "hashing, 256-d"}]
    assert tell_apart([choices_of(resolved(), "", channels) for channels in seen]) == [
        "channels=graph",
        "channels=graph+text",
    ]


def test_how_a_run_is_saved_watched_and_planned_is_no_choice() -> None:
    run = resolved(
        train={"verify_store": False, "checkpoint": {"keep": 5}},
        plan={"num_hosts": 2},
        telemetry={"wandb": {"project": "x"}},
    )
    assert choices_of(run, "", {}) == choices_of(resolved(), "", {})
