"""tools/llm_demo.py: entity tokens tell a language model something, and a real one is taken as it is."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import llm_demo

from snag_dist.export.source import RunSource

pytestmark = pytest.mark.ray


def test_the_right_tokens_are_worth_more_than_those_of_another_entity(exported: Path) -> None:
    losses = llm_demo.run(exported, llm=None, steps=250, batch=32, lr=5e-3, seed=0, split="train")
    assert losses["right"] < losses["other"] - 0.2
    assert losses["right"] < losses["trained_on_random"]


def test_a_real_llm_stays_as_it_is(run: Path, exported: Path, tmp_path: Path) -> None:
    tokenizer, llm = llm_demo.small_llm(RunSource.open(run).store, 0)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    tokenizer.save_pretrained(tmp_path)
    llm.save_pretrained(tmp_path)
    _, frozen = llm_demo.real_llm(tmp_path)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    losses = llm_demo.run(exported, llm=tmp_path, steps=10, batch=16, lr=1e-3, seed=0)
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses.values())


def test_only_answers_count(run: Path) -> None:
    store = RunSource.open(run).store
    tokenizer, _ = llm_demo.small_llm(store, 0)
    triples = store.triples("test")[:5]
    questions = llm_demo.Questions.of(triples, store, tokenizer)
    names, relations = store.entities()["name"].to_pylist(), store.relations()["name"].to_pylist()
    for row, (_, relation, tail) in enumerate(triples.tolist()):
        answer = questions.ids[row][questions.labels[row] != llm_demo.PAD]
        assert tokenizer.decode(answer) == names[tail]
        said = questions.ids[row][questions.attended[row]]
        assert tokenizer.decode(said) == f"{relations[relation].replace('_', ' ')} : {names[tail]}"
    assert questions.heads.tolist() == triples[:, 0].tolist()
