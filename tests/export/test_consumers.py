"""What is written for others, read back as they read it."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from snag_dist.errors import ConfigError
from snag_dist.export.consumers.llava import Moments, fit
from snag_dist.export.consumers.llm_names import NameEmbeddings
from snag_dist.export.hf import SnagEncoder
from snag_dist.export.source import RunSource
from snag_dist.store.opened import Store

pytestmark = pytest.mark.ray

Exporter = Callable[..., Path]
EVERYONE = ("kopa", "kblam", "faiss", "parquet")


@pytest.fixture(scope="module")
def store(run: Path) -> Store:
    return RunSource.open(run).store


@pytest.fixture
def everyone(export: Exporter) -> Path:
    """An export for all consumers that need no LLM."""
    return export(to=EVERYONE)


def codes_of(folder: Path) -> Tensor:
    return SnagEncoder.from_pretrained(folder)(entity_ids=torch.arange(300)).pooled


def test_each_has_its_folder_in_checksums_and_card(everyone: Path) -> None:
    sums = [line.split("  ", 1)[1] for line in (everyone / "SHA256SUMS").read_text().splitlines()]
    card = (everyone / "README.md").read_text()
    for consumer in EVERYONE:
        assert any(name.startswith(f"{consumer}/") for name in sums)
        assert f"`{consumer}/`" in card


def test_kopa_reads_two_tables_in_the_order_of_the_source(everyone: Path, store: Store) -> None:
    tables = torch.load(everyone / "kopa" / "kopa.pth", weights_only=True)
    assert list(tables) == ["ent_embeddings.weight", "rel_embeddings.weight"]
    entities, relations = (nn.Embedding.from_pretrained(table) for table in tables.values())
    assert entities.embedding_dim == relations.embedding_dim == 32
    assert relations.num_embeddings == store.num_relations
    row_of_id = torch.from_numpy(store.rows_of_source_ids)
    assert not torch.equal(row_of_id, torch.arange(300))
    assert torch.equal(entities(torch.arange(300)), codes_of(everyone)[row_of_id])
    # A relation turns every coordinate: cosines and sines of one angle.
    cosine, sine = relations.weight.chunk(2, dim=1)
    torch.testing.assert_close(cosine**2 + sine**2, torch.ones_like(cosine))
    assert [path.name for path in (everyone / "kopa").iterdir()] == ["kopa.pth"]


def test_kblam_pairs_say_the_triples(everyone: Path, store: Store, run: Path) -> None:
    folder = everyone / "kblam"
    keys, values = (np.load(folder / f"train_snag_embd_{kind}.npy") for kind in ("key", "value"))
    entries = json.loads((folder / "train.json").read_text())
    triples = store.triples("train")
    assert keys.dtype == values.dtype == np.float32
    assert keys.shape == values.shape == (len(triples), 32)
    assert len(entries) == len(triples)
    head, relation, tail = triples[7].tolist()
    names, relations = store.entities()["name"], store.relations()["name"]
    what = relations[relation].as_py().replace("_", " ")
    assert entries[7]["name"] == names[head].as_py()
    assert entries[7]["description"] == names[tail].as_py()
    assert entries[7]["key_string"] == f"the {what} of {names[head].as_py()}"
    assert entries[7]["Q"] == f"What is the {what} of {names[head].as_py()}?"
    assert names[tail].as_py() in entries[7]["A"]
    codes, task = codes_of(everyone), RunSource.open(run).task
    np.testing.assert_array_equal(values[7], codes[tail].numpy())
    # The score of the triple, from the pair alone.
    scores = task.scorer.score(torch.from_numpy(keys[7:8]), codes)
    query = task.queries(codes[head : head + 1], torch.tensor([relation]), torch.tensor([True]))
    torch.testing.assert_close(scores, task.scorer.score(query, codes), atol=1e-5, rtol=0)


def test_parquet_loads_as_a_dataset(everyone: Path, store: Store, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from datasets import load_dataset

    data_files = str(everyone / "parquet" / "*.parquet")
    loaded = load_dataset("parquet", data_files=data_files, split="train", cache_dir=str(tmp_path))
    table = loaded.with_format("arrow")[:]
    assert table["key"].to_pylist() == store.entities()["key"].to_pylist()
    codes = np.stack(table["code"].to_pylist())
    np.testing.assert_array_equal(codes.astype(np.float32), codes_of(everyone).numpy())
    shares = sum(table[f"confidence_{name}"].to_numpy() for name in ("graph", "text", "vision"))
    np.testing.assert_allclose(shares, 1.0, atol=1e-6)
    assert all(
        share == 0
        for share, has in zip(table["confidence_vision"].to_pylist(), table["has_vision"].to_pylist(), strict=True)
        if not has
    )


def test_the_index_finds_the_nearest_with_the_helper_that_lies_beside_it(everyone: Path) -> None:
    spec = importlib.util.spec_from_file_location("search_snag", everyone / "faiss" / "search_snag.py")
    assert spec is not None and spec.loader is not None
    helper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helper)
    codes = codes_of(everyone)
    rows, similarities = helper.EntityIndex(everyone / "faiss").search(3.0 * codes[:20], 5)
    exact = torch.cosine_similarity(codes[:20, None], codes[None], dim=2).topk(5)
    assert rows[:, 0].tolist() == list(range(20))
    np.testing.assert_allclose(similarities, exact.values.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match=r"codes: expected \(Q, 32\), got \(2, 31\)"):
        helper.EntityIndex(everyone / "faiss").search(codes[:2, 1:], 5)


def test_an_approximate_index_is_trained_first(export: Exporter) -> None:
    from snag_dist.export.hf.search_snag import EntityIndex

    folder = export(to=["faiss"], faiss={"factory": "IVF4,SQ8"})
    index = EntityIndex(folder / "faiss")
    index.index.nprobe = 4
    rows, _ = index.search(codes_of(folder)[:50], 1)
    assert float(np.mean(rows[:, 0] == np.arange(50))) > 0.9
    with pytest.raises(ConfigError, match=r"faiss\.factory: expected what faiss\.index_factory takes, got 'Heap'"):
        export("other", to=["faiss"], faiss={"factory": "Heap"})
    assert not (folder.parent / "other").exists()


@pytest.fixture(scope="module")
def llm(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A small LLM of some width, whose tokenizer knows the words of the names."""

    def make(width: int) -> Path:
        folder = tmp_path_factory.mktemp(f"llm{width}")
        words = sorted({word for name in store.entities()["name"].to_pylist() for word in name.split()})
        vocabulary = {word: number for number, word in enumerate(["<unk>", *words])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=width,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    return make


def projector(kind: str, width: int, target: int) -> nn.Module:
    """As LLaVA builds it."""
    if kind == "linear":
        return nn.Linear(width, target)
    return nn.Sequential(nn.Linear(width, target), nn.GELU(), nn.Linear(target, target))


def load_projector(folder: Path, width: int, target: int) -> nn.Module:
    report = json.loads((folder / "llava" / "projector.json").read_text())
    assert (report["mm_hidden_size"], report["hidden_size"]) == (width, target)
    module = projector(report["mm_projector_type"], width, target)
    weights = torch.load(folder / "llava" / "mm_projector.bin", weights_only=True)
    prefix = "model.mm_projector."
    module.load_state_dict({name.removeprefix(prefix): value for name, value in weights.items()})
    return module


def test_both_projectors_are_the_fit_and_have_the_spread_of_the_names(
    export: Exporter, llm: Callable[[int], Path], store: Store
) -> None:
    folder = llm(72)
    outputs = {}
    for kind in ("linear", "mlp2x_gelu"):
        made = export(kind, to=["llava"], llava={"llm": folder, "projector": kind})
        with torch.no_grad():
            outputs[kind] = load_projector(made, 32, 72)(codes_of(made))
    torch.testing.assert_close(outputs["linear"], outputs["mlp2x_gelu"], atol=1e-5, rtol=0)
    names = NameEmbeddings.open(folder).of(store.entities()["name"].to_pylist())
    found = outputs["linear"]
    torch.testing.assert_close(found.mean(dim=0), names.mean(dim=0), atol=1e-5, rtol=0)
    spreads = [values.var(dim=0, correction=0).sum() for values in (found, names)]
    torch.testing.assert_close(*spreads, atol=0, rtol=1e-4)
    # Nearer to its own name than to another's.
    own = torch.cosine_similarity(found, names).mean()
    others = torch.cosine_similarity(found, names.roll(1, dims=0)).mean()
    assert float(own) > float(others) + 0.05


def test_a_narrow_llm_gets_the_directions_that_vary_most(export: Exporter, llm: Callable[[int], Path]) -> None:
    made = {
        kind: export(kind, to=["llava"], llava={"llm": llm(16), "projector": kind}) for kind in ("linear", "mlp2x_gelu")
    }
    codes = codes_of(made["linear"])
    with torch.no_grad():
        whole, part = (load_projector(made[kind], 32, 16)(codes) for kind in ("linear", "mlp2x_gelu"))
    residual = (whole - part).square().sum()
    total = (whole - whole.mean(dim=0)).square().sum()
    # Eight of sixteen directions, the largest: more than half of the variance.
    assert 0 < float(residual) < 0.5 * float(total)


def test_the_fit_is_least_squares_where_there_is_no_penalty() -> None:
    torch.manual_seed(0)
    x, true = torch.randn(200, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    y = x @ true.T + 2.0
    moments = Moments(5, 3)
    for part in range(0, 200, 50):
        moments.add(x[part : part + 50], y[part : part + 50])
    weight, bias, r2 = fit(moments, 1e-12)
    torch.testing.assert_close(weight, true, atol=1e-9, rtol=0)
    torch.testing.assert_close(bias, torch.full((3,), 2.0, dtype=torch.float64), atol=1e-9, rtol=0)
    assert r2 == pytest.approx(1.0)


def test_names_are_means_of_their_tokens(llm: Callable[[int], Path], store: Store) -> None:
    names = NameEmbeddings.open(llm(16))
    words = next(name for name in store.entities()["name"].to_pylist() if " " in name).split()
    found = names.of([" ".join(words), *words, ""])
    torch.testing.assert_close(found[0], found[1 : 1 + len(words)].mean(dim=0))
    assert torch.equal(found[-1], torch.zeros(16))


def test_an_llm_that_is_not_there(export: Exporter, tmp_path: Path, llm: Callable[[int], Path]) -> None:
    with pytest.raises(
        ConfigError, match=r"--to llava: expected the folder of an LLM, got none; pass --set llava\.llm"
    ):
        export(to=["llava"])
    with pytest.raises(ConfigError, match=r"llava\.llm: .*nowhere: expected an LLM with its tokenizer"):
        export(to=["llava"], llava={"llm": tmp_path / "nowhere"})
    folder = llm(16)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"expected input embeddings \(embed_tokens\.weight, .* found none; save the"):
        export(to=["llava"], llava={"llm": folder})
