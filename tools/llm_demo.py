"""Do the codes of an export tell a language model anything? python tools/llm_demo.py --export exports/world

Entity tokens go through a projector, as LLaVA's picture tokens do, and stand before a question in words that does not
name the entity: "<entity tokens> painted by :". The model is asked for the name of the tail. It is trained on the train
triples and asked the test triples, three ways: with the tokens of the right entity, with those of another one, and by a
model that was trained on tokens of random entities. What lies between the losses is what the tokens say.

Without --llm the model is a small one with random weights, made here, and learns the words too. With the path of a real
one, its weights stay as they are, and only the projector learns, from a start fitted to the LLM's embeddings of names.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from snag_dist.config import validate
from snag_dist.console import run_job, say
from snag_dist.export.consumers.llava import Moments, fit
from snag_dist.export.consumers.llm_names import NameEmbeddings
from snag_dist.export.network import load_hf
from snag_dist.store.encoders.torchvision_door import open_torchvision
from snag_dist.store.opened import Store
from snag_dist.training.graph import open_graph
from snag_dist.training.recipe import Recipe

PAD = -100
"""Label of a place whose loss does not count."""


@dataclass(frozen=True)
class Questions:
    """Triples in words.

    Attributes:
        heads: (T,) rows of the entities asked about.
        ids: (T, L) tokens of question and answer, padded.
        labels: (T, L) the same, `PAD` outside the answer.
        attended: (T, L) bool, False at padding.
    """

    heads: Tensor
    ids: Tensor
    labels: Tensor
    attended: Tensor

    @classmethod
    def of(cls, triples: NDArray[np.int64], store: Store, tokenizer: Any) -> "Questions":
        """Write (T, 3) triples as "relation : tail"."""
        names, relations = store.entities()["name"].to_pylist(), store.relations()["name"].to_pylist()
        asked = [
            tokenizer(f"{relations[r].replace('_', ' ')} :", add_special_tokens=False)["input_ids"]
            for _, r, _ in triples
        ]
        told = [tokenizer(f" {names[t]}", add_special_tokens=False)["input_ids"] for _, _, t in triples]
        length = max(len(a) + len(b) for a, b in zip(asked, told, strict=True))
        ids = torch.zeros(len(triples), length, dtype=torch.int64)
        labels = torch.full_like(ids, PAD)
        attended = torch.zeros_like(ids, dtype=torch.bool)
        for row, (a, b) in enumerate(zip(asked, told, strict=True)):
            ids[row, : len(a) + len(b)] = torch.tensor(a + b)
            labels[row, len(a) : len(a) + len(b)] = torch.tensor(b)
            attended[row, : len(a) + len(b)] = True
        return cls(torch.from_numpy(triples[:, 0].copy()), ids, labels, attended)


class Prompted(nn.Module):
    """A causal LM that reads entity tokens before words.

    Attributes:
        projector: from entity tokens (D) to the LM's width (H).
        llm: the LM.
    """

    def __init__(self, llm: Any, projector: nn.Module):
        super().__init__()
        self.llm: Any = llm
        self.projector = projector

    def forward(self, tokens: Tensor, mask: Tensor, questions: Questions, picked: Tensor) -> Tensor:
        """Mean loss of the answers to `picked` (B,) questions, after entity tokens (B, M, D), of which (B, M) count."""
        words = self.llm.get_input_embeddings()(questions.ids[picked])
        prompt = self.projector(tokens).to(words.dtype)
        labels = torch.cat([torch.full(mask.shape, PAD), questions.labels[picked]], dim=1)
        attended = torch.cat([mask, questions.attended[picked]], dim=1).long()
        return self.llm(inputs_embeds=torch.cat([prompt, words], dim=1), attention_mask=attended, labels=labels).loss


def small_llm(store: Store, seed: int) -> tuple[Any, Any]:
    """Make a tokenizer of the world's words, and a Llama of two layers with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    texts = [*store.entities()["name"].to_pylist(), *store.relations()["name"].to_pylist(), ":"]
    words = sorted({word for text in texts for word in text.replace("_", " ").split()})
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<unk>", *words])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words) + 1,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"), LlamaForCausalLM(config)


def real_llm(path: Path) -> tuple[Any, Any]:
    """Load an LM from its folder, frozen."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    llm = AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
    return tokenizer, llm.requires_grad_(False)


def fitted_projector(encoder: Any, llm: Path, store: Store) -> nn.Linear:
    """A linear projector that starts where the LLM has the words of an entity's name."""
    names = NameEmbeddings.open(llm)
    moments = Moments(encoder.config.width, names.width)
    texts = store.entities()["name"].to_pylist()
    for first in range(0, len(texts), 4096):
        rows = torch.arange(first, min(first + 4096, len(texts)))
        moments.add(encoder(entity_ids=rows).pooled, names.of(texts[first : first + 4096]))
    weight, bias, _ = fit(moments, 1e-2)
    projector = nn.Linear(encoder.config.width, names.width)
    with torch.no_grad():
        projector.weight.copy_(weight)
        projector.bias.copy_(bias)
    return projector


class Standardise(nn.Module):
    """Bring each column of each token to mean 0 and variance 1 over the graph: codes have much in common."""

    def __init__(self, tokens: Tensor):
        """Take the statistics of (n, M, D) tokens."""
        super().__init__()
        self.register_buffer("mean", tokens.mean(dim=0))
        self.register_buffer("std", tokens.std(dim=0).clamp_min(1e-6))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        """Standardise (B, M, D)."""
        return (tokens - self.mean) / self.std


def random_projector(encoder: Any, width: int) -> nn.Module:
    """An `mlp2x_gelu` with random weights, after standardised tokens."""
    # Rows are in random order, so the first of them are a sample.
    sample = encoder(entity_ids=torch.arange(min(4096, encoder.config.num_entities))).tokens
    size = encoder.config.width
    return nn.Sequential(Standardise(sample), nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))


def run(
    export: Path, *, llm: Path | None, steps: int, batch: int, lr: float, seed: int, split: str = "test"
) -> dict[str, float]:
    """Train with the right tokens and with random ones; return mean losses on the triples of a split, in nats a word.

    Returns:
        `right`: right tokens; `other`: the same model, tokens of another entity; `trained_on_random`: a model whose
        tokens meant nothing in training, with the right ones; its loss is what words alone can do.
    """
    open_torchvision()
    provenance = json.loads((export / "provenance.json").read_text(encoding="utf-8"))
    # Rows of an export are those of the graph that was trained on, which a holdout makes smaller than the store.
    store = open_graph(validate(Recipe, provenance["recipe"], str(export / "provenance.json")))
    encoder = load_hf().SnagEncoder.from_pretrained(export)
    losses: dict[str, float] = {}
    for shuffled in (False, True):
        tokenizer, model = small_llm(store, seed) if llm is None else real_llm(llm)
        width = model.get_input_embeddings().embedding_dim
        torch.manual_seed(seed)
        projector = random_projector(encoder, width) if llm is None else fitted_projector(encoder, llm, store)
        prompted = Prompted(model, projector)
        train, test = (Questions.of(store.triples(split), store, tokenizer) for split in ("train", split))
        _train(prompted, encoder, train, steps=steps, batch=batch, lr=lr, seed=seed, shuffled=shuffled)
        if shuffled:
            losses["trained_on_random"] = _evaluate(prompted, encoder, test, seed, other=False)
        else:
            losses["right"] = _evaluate(prompted, encoder, test, seed, other=False)
            losses["other"] = _evaluate(prompted, encoder, test, seed, other=True)
    return losses


def _train(
    model: Prompted, encoder: Any, questions: Questions, *, steps: int, batch: int, lr: float, seed: int, shuffled: bool
) -> None:
    model.train()
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        picked = torch.randint(len(questions.heads), (batch,), generator=generator)
        heads = questions.heads[picked]
        if shuffled:
            heads = torch.randint(encoder.config.num_entities, (batch,), generator=generator)
        known = encoder(entity_ids=heads)
        loss = model(known.tokens, known.mask, questions, picked)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _evaluate(model: Prompted, encoder: Any, questions: Questions, seed: int, *, other: bool) -> float:
    model.eval()
    heads = questions.heads
    if other:
        # A derangement of the questions: each gets the entity of another one.
        order = list(range(len(heads)))
        random.Random(seed).shuffle(order)
        heads = heads.clone()
        heads[torch.tensor(order)] = questions.heads[torch.tensor(order).roll(1)]
    total, num = 0.0, 0
    for first in range(0, len(heads), 256):
        picked = torch.arange(first, min(first + 256, len(heads)))
        known = encoder(entity_ids=heads[picked])
        words = int((questions.labels[picked] != PAD).sum())
        total += float(model(known.tokens, known.mask, questions, picked)) * words
        num += words
    return total / num


def demo(
    export: Annotated[Path, typer.Option(help="Directory that jobs/export.py made, with tokens.")],
    llm: Annotated[Path | None, typer.Option(help="Folder of a causal LM; a small one is made otherwise.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of training.")] = 400,
    batch: Annotated[int, typer.Option(help="Triples a step.")] = 64,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 2e-3,
    seeds: Annotated[int, typer.Option(help="Runs, with seeds 0, 1, ...")] = 3,
) -> None:
    """Print the losses on the test triples, a line a seed."""
    for seed in range(seeds):
        losses = run(export, llm=llm, steps=steps, batch=batch, lr=lr, seed=seed)
        say(f"seed {seed}: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))


if __name__ == "__main__":
    run_job(demo)
