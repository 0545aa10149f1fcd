"""An export: what it holds, that it is the trained model, that it is whole or not there."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from snag_dist.errors import CheckpointError, ConfigError
from snag_dist.export.directory import ExportConfig, describe_plan, export_run
from snag_dist.export.hf import SnagEncoder
from snag_dist.export.source import RunSource
from snag_dist.export.tables import quantise
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.shard.table import EntityTable, InitialRows
from snag_dist.store.gather import FeatureRows
from snag_dist.training.checkpoint import rows_file
from snag_dist.training.completion_scoring import encode_owned

pytestmark = pytest.mark.ray

Exporter = Callable[..., Path]

# What a machine has that was given torch, safetensors and transformers, and nothing of this project.
BARE = """
import importlib.machinery, sys
ABSENT = {"ray", "deepspeed", "pyarrow", "pydantic", "numba", "pandas", "faiss", "torchvision", *sys.argv[2:]}
class Installed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else super().find_spec(name, path, target)
sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, Installed]
"""
ROOT = Path(__file__).parents[2]
OWN_CLASS = """
import torch
from snag_dist.export.hf import SnagEncoder
model = SnagEncoder.from_pretrained(sys.argv[1])
known = model(entity_ids=torch.tensor([0, 1]))
print(known.tokens.shape, known.pooled.shape)
"""
LEAKED = """
print(known.pooled.double().sum().item())
assert not [name for name in sys.modules if name.split('.')[0] in ABSENT]
"""


def lines_of_the_readme() -> str:
    """The lines with which the README loads an export, of the export that is the program's argument."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    [block] = [block for block in blocks if "AutoModel" in block]
    assert block.count('"exports/world"') == 1
    return "\n" + block.replace('"exports/world"', "sys.argv[1]")


@pytest.mark.parametrize(("program", "absent"), [(lines_of_the_readme(), ["snag_dist"]), (OWN_CLASS, [])])
def test_it_loads_where_nothing_of_this_project_is_installed(
    program: str, absent: list[str], exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "" if absent else str(ROOT))
    command = [sys.executable, "-c", BARE + program + LEAKED, str(exported), *absent]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    expected = SnagEncoder.from_pretrained(exported)(entity_ids=torch.tensor([0, 1])).pooled
    assert done.stdout.startswith("torch.Size([2, 3, 32]) torch.Size([2, 32])")
    assert float(done.stdout.split()[-1]) == pytest.approx(float(expected.double().sum()), abs=1e-6)


def trained_codes(source: RunSource) -> torch.Tensor:
    """Codes as evaluation makes them: all rows in a table, the worker's own pass."""
    num, shards = source.store.num_entities, source.store.virtual_shards
    partition = Partition(num, shards, 1)
    width = source.encoder.width
    group = Group(0, 1, torch.device("cpu"))
    table = EntityTable(source.recipe.table, partition, group, width=width, start=InitialRows("uniform", 1.0), seed=0)
    for shard in range(shards):
        table.load_shard_state(shard, load_file(source.checkpoint / rows_file(shard)))
    features = {name: FeatureRows.open(source.store, name, 0, num) for name in source.encoder.modalities}
    return encode_owned(source.task, table, features, partition, 0, torch.float32).codes


def test_codes_are_those_of_the_trained_model_and_both_paths_agree(run: Path, exported: Path) -> None:
    source = RunSource.open(run)
    model = SnagEncoder.from_pretrained(exported)
    assert len(list(exported.glob("entities-*-of-*.safetensors"))) > 2
    ids = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    looked_up = model(entity_ids=ids)
    torch.testing.assert_close(looked_up.pooled, trained_codes(source)[ids], atol=1e-6, rtol=0)
    rows = np.arange(300)
    vectors, present = {}, [torch.ones(300, dtype=torch.bool)]
    for name in source.encoder.modalities:
        values, known = FeatureRows.open(source.store, name, 0, 300).gather(rows)
        vectors[name] = torch.from_numpy(values)[ids]
        present.append(torch.from_numpy(known)[ids])
    with torch.no_grad():
        encoded = model(entity_ids=ids, features=vectors, mask=torch.stack(present, dim=1))
    assert not bool(encoded.mask.all())
    for name in ("tokens", "pooled", "confidence"):
        torch.testing.assert_close(looked_up[name], encoded[name], atol=1e-6, rtol=0)
    assert torch.equal(looked_up.mask, encoded.mask)


def test_every_file_is_there_and_has_its_checksum(exported: Path) -> None:
    check = ["sha256sum", "--check", "SHA256SUMS"]
    checked = subprocess.run(check, cwd=exported, capture_output=True, text=True, check=True).stdout.splitlines()
    files = {path.name for path in exported.iterdir()} - {"SHA256SUMS"}
    assert {line.removesuffix(": OK") for line in checked} == files
    named = {"config.json", "model.safetensors", "relations.safetensors", "entities.parquet", "relations.parquet"}
    assert named | {"README.md", "provenance.json", "modeling_snag.py"} < files
    index = json.loads((exported / "entities.safetensors.index.json").read_text())
    for tensor, file in index["weight_map"].items():
        assert tensor in load_file(exported / file)
    assert all((exported / file).stat().st_size < (1 << 16) + 4096 for file in index["files"])


def test_entities_and_relations_are_told(run: Path, exported: Path) -> None:
    store = RunSource.open(run).store
    people = pq.read_table(exported / "entities.parquet")
    assert people.column_names == ["row", "key", "name", "has_text", "has_vision", "num_train_triples"]
    assert people.select(["row", "key", "name"]).equals(store.entities().select(["row", "key", "name"]))
    present = FeatureRows.open(store, "vision", 0, 300).present
    assert people["has_vision"].to_numpy().tolist() == present.tolist()
    triples = store.triples("train")
    degrees = np.bincount(triples[:, [0, 2]].ravel(), minlength=300)
    assert people["num_train_triples"].to_numpy().tolist() == degrees.tolist()
    assert pq.read_table(exported / "relations.parquet").equals(store.relations())


def test_the_convention_in_the_config_gives_the_score(run: Path, exported: Path) -> None:
    source = RunSource.open(run)
    scorer = json.loads((exported / "config.json").read_text())["scorer"]
    codes = SnagEncoder.from_pretrained(exported)(entity_ids=torch.tensor([5, 9])).pooled
    relations = load_file(exported / "relations.safetensors")["relations"]
    # As the convention is written: complex halves, a phase for each, the sum of moduli from the margin.
    head, tail = (torch.complex(*code.chunk(2)) for code in codes)
    phases = scorer["radians"] * relations[3]
    score = scorer["margin"] - (head * torch.exp(1j * phases) - tail).abs().sum()
    queries = source.task.queries(codes[:1], torch.tensor([3]), torch.tensor([True]))
    torch.testing.assert_close(score, source.task.scorer.score(queries, codes[1:])[0, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dtype", "close"), [("bf16", 2**-8), ("fp16", 2**-11), ("int8", 0.501 / 127)])
def test_narrow_formats_round_and_no_more(dtype: str, close: float, exported: Path, export: Exporter) -> None:
    ids = torch.arange(300)
    exact = SnagEncoder.from_pretrained(exported)(entity_ids=ids)
    folder = export(dtype=dtype)
    found = SnagEncoder.from_pretrained(folder)(entity_ids=ids)
    for name in ("pooled", "tokens"):
        error = (found[name] - exact[name]).abs().amax(dim=-1)
        assert bool((error <= close * exact[name].abs().amax(dim=-1) + 1e-7).all())
        assert float(error.max()) > 0
    assert torch.equal(found.confidence, exact.confidence)
    assert found.pooled.dtype == torch.float32
    size = sum(path.stat().st_size for path in folder.glob("entities-*"))
    assert size < 0.6 * sum(path.stat().st_size for path in exported.glob("entities-*"))


def test_eight_bits_of_a_vector_of_zeros_are_zeros() -> None:
    values, scale = quantise(torch.tensor([[0.0, 0.0], [-2.54, 1.27]]))
    assert values.tolist() == [[0, 0], [-127, 64]]
    assert scale.tolist() == pytest.approx([1.0, 0.02])


def test_without_tokens(export: Exporter) -> None:
    found = SnagEncoder.from_pretrained(export(tokens=False))(entity_ids=torch.tensor([1]))
    assert found.tokens is None
    assert found.pooled.shape == (1, 32)


def test_ids_that_are_not_there(exported: Path) -> None:
    model = SnagEncoder.from_pretrained(exported)
    with pytest.raises(IndexError, match=r"entity_ids: expected ids in \[0, 300\), got 300"):
        model(entity_ids=torch.tensor([2, 300]))
    assert model(entity_ids=torch.zeros(0, dtype=torch.int64)).pooled.shape == (0, 32)


def test_saved_again_it_encodes_features_but_knows_no_entities(exported: Path, tmp_path: Path) -> None:
    model = SnagEncoder.from_pretrained(exported)
    model.save_pretrained(tmp_path / "weights")
    again = SnagEncoder.from_pretrained(tmp_path / "weights")
    vectors = torch.ones(2, 1024)
    assert torch.equal(again(features={"text": vectors}).pooled, model(features={"text": vectors}).pooled)
    with pytest.raises(ValueError, match=r"does not lie beside the weights; load the whole export"):
        again(entity_ids=torch.tensor([0]))


def changed_run(run: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the run under a changed recipe, beside the same store."""
    copy = folder / "runs" / "changed"
    shutil.copytree(run, copy)
    tree = json.loads((copy / "config.json").read_text())
    change(tree)
    (copy / "config.json").write_text(json.dumps(tree))
    return copy


def test_vectors_that_training_drew_are_absent(run: Path, exported: Path, export: Exporter, tmp_path: Path) -> None:
    def impute_by_noise(tree: dict[str, Any]) -> None:
        tree["method"]["encoder"]["projections"] = {"vision": {"layers": 1, "impute": "noise"}}

    folder = export(source=changed_run(run, tmp_path, impute_by_noise))
    ids = torch.arange(300)
    # The weights are those of `drop`, so the whole export must be.
    found, expected = (SnagEncoder.from_pretrained(path)(entity_ids=ids) for path in (folder, exported))
    assert torch.equal(found.pooled, expected.pooled)
    assert not bool(found.mask[:, 2].all())
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["features"]["vision"]["imputed_by_noise_in_training"] is True
    assert "training drew random vectors for them, which are not exported" in (folder / "README.md").read_text()


def test_alignment_runs_are_refused(run: Path, export: Exporter, tmp_path: Path) -> None:
    def align(tree: dict[str, Any]) -> None:
        tree["method"] = {"kind": "snag_alignment"}

    with pytest.raises(ConfigError, match=r"expected a method of completion \(snag, adamf\), got 'snag_alignment'"):
        export(source=changed_run(run, tmp_path, align))


@pytest.mark.parametrize("file", ["dense.safetensors", "rows-00007.safetensors"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_left(
    file: str, run: Path, export: Exporter, tmp_path: Path
) -> None:
    copy = changed_run(run, tmp_path, lambda tree: None)
    checkpoint = copy / "checkpoints" / (copy / "checkpoints" / "BEST").read_text().strip()
    content = bytearray((checkpoint / file).read_bytes())
    content[-1] ^= 1
    (checkpoint / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{file}: expected sha256 .* missing or damaged; point BEST at another"):
        export(source=copy)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_an_export_that_breaks_off_leaves_nothing(run: Path, export: Exporter, tmp_path: Path) -> None:
    copy = changed_run(run, tmp_path, lambda tree: None)
    (copy / "metrics-test.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"metrics-test\.json: protocol: required"):
        export(source=copy)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_what_is_no_finished_run(run: Path, export: Exporter, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a run folder with config\.json, found none"):
        export(source=tmp_path / "nothing")
    copy = changed_run(run, tmp_path, lambda tree: None)
    name = (copy / "checkpoints" / "BEST").read_text().strip()
    best = copy / "checkpoints" / name / "manifest.json"
    tree = json.loads(best.read_text())
    # Without its digest: else it is told that the file was written in.
    best.write_text(json.dumps({**tree, "store_fingerprint": "f" * 64, "digest": None}))
    with pytest.raises(CheckpointError, match=r"made on store ffffffffffff, this store is"):
        export(source=copy)
    best.unlink()
    with pytest.raises(CheckpointError, match=r"expected the manifest of a checkpoint, found none"):
        export(source=copy)
    (copy / "checkpoints" / "BEST").unlink()
    with pytest.raises(CheckpointError, match=r"expected a best checkpoint, found none; train the run to its first"):
        export(source=copy)


def test_a_directory_that_is_there_is_kept(run: Path, exported: Path) -> None:
    before = (exported / "SHA256SUMS").read_text()
    with pytest.raises(ConfigError, match=r"expected a new directory, but it is there; choose another with --out"):
        export_run(run, exported)
    assert (exported / "SHA256SUMS").read_text() == before


def test_the_plan_states_the_size(run: Path, exported: Path, tmp_path: Path) -> None:
    total = json.loads((exported / "entities.safetensors.index.json").read_text())["metadata"]["total_size"]
    plan = describe_plan(run, tmp_path / "out", ExportConfig())
    assert f"entities: 300 of {total // 300} bytes in fp32" in plan
    assert not (tmp_path / "out").exists()
