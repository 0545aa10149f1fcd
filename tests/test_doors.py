"""Doors: nothing from outside is run, no name from outside leaves its folder, and what listens listens on loopback."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snag_dist.errors import CheckpointError, ConfigError, DataError
from snag_dist.export.hf.tables_snag import INDEX, open_tables
from snag_dist.export.source import find_checkpoint
from snag_dist.names import is_plain, stays_inside
from snag_dist.redaction import hide_secrets, is_secret_name
from snag_dist.shard.group import Group
from snag_dist.shard.partition import Partition
from snag_dist.store.encoders.weights import find_model
from snag_dist.store.manifest import FileRecord, StoreManifest, hash_file, read_manifest, write_manifest
from snag_dist.store.opened import Store
from snag_dist.training.checkpoint_files import FORMAT_VERSION
from snag_dist.training.checkpoint_versions import Versions
from snag_dist.training.cursor import read_cursor
from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
WORLD = ROOT / "jobs" / "recipes" / "world.toml"
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
LOADERS = {"load", "loads", "Unpickler", "open"}
OUTSIDE = ["../evil", "/etc/evil", "a/../../evil", "..", "a/./b", "a//b", "", "a\\..\\b", "C:evil", "a\0b"]


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def find_doors(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and reason of everything in a source that could run what it reads."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in PICKLES and {a.name for a in node.names} & LOADERS:
            yield node.lineno, f"from {node.module} import a loader"
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"system", "popen"}
        ):
            yield node.lineno, "from os import system"
        if isinstance(node, ast.Import):
            renamed = [alias.name for alias in node.names if alias.name in PICKLES and alias.asname]
            if renamed:
                yield node.lineno, f"{renamed[0]} under another name"
        if not isinstance(node, ast.Call):
            continue
        name, options = dotted(node.func), {word.arg: word.value for word in node.keywords}
        module, _, function = name.rpartition(".")
        if module in PICKLES and function in LOADERS:
            yield node.lineno, f"{name} runs what it reads"
        if name == "torch.load" and not is_constant(options.get("weights_only"), True):
            yield node.lineno, "torch.load without weights_only=True"
        if "allow_pickle" in options and not is_constant(options["allow_pickle"], False):
            yield node.lineno, "allow_pickle"
        if "trust_remote_code" in options and not is_constant(options["trust_remote_code"], False):
            yield node.lineno, "trust_remote_code"
        if "shell" in options and not is_constant(options["shell"], False):
            yield node.lineno, "a shell"
        if name in {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}:
            yield node.lineno, f"{name} is a shell"
        if name in {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"}:
            yield node.lineno, name
        if function == "read_pickle" or (module == "yaml" and function in {"load", "load_all", "unsafe_load"}):
            yield node.lineno, f"{name} makes any object"
        if name.endswith("Tuner.restore"):
            yield node.lineno, "Tune unpickles the folder of an experiment"
        if function in {"extractall", "unpack_archive"}:
            yield node.lineno, f"{name} writes where the archive says"


SOURCES = [path for folder in ("snag_dist", "jobs", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_source_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}: {why}" for path in SOURCES for line, why in find_doors(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads",
        "import pickle as p",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "subprocess.run(command, shell=True)",
        "os.system('x')",
        "from os import popen",
        "eval(text)",
        "exec(text)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        "tar.extractall(folder)",
        "tune.Tuner.restore(folder, trainable=train)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ],
)
def test_each_door_would_be_seen(source: str) -> None:
    assert list(find_doors(source))


def test_no_door_is_seen_where_there_is_none() -> None:
    source = "torch.load(p, weights_only=True)\nnp.load(p)\nnp.load(p, allow_pickle=False)\nmodel.eval()\njson.load(f)"
    assert list(find_doors(source)) == []


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_told(name: str) -> None:
    assert not stays_inside(name)
    assert not is_plain(name)


def test_names_that_stay_are_told() -> None:
    assert all(map(stays_inside, ["a", "a/b.npy", "hot/shard-00000.present.npy", "..a", "a..b", ".hidden"]))
    assert is_plain("step-00000012")
    assert not is_plain("a/b")


def store_manifest(**changes: object) -> StoreManifest:
    tree = {
        "format_version": 2,
        "fingerprint": "f" * 64,
        "identity": "i",
        "seed": 0,
        "virtual_shards": 1,
        "num_entities": 2,
        "num_relations": 1,
        "num_triples": {"train": 1},
        "source": "somewhere",
        "config": {},
        "licence": "",
        "audit": {},
        "versions": {},
        "files": {},
    }
    return StoreManifest.model_validate({**tree, **changes})


@pytest.mark.parametrize("absolute", [False, True])
def test_a_manifest_names_only_what_lies_below_it(absolute: bool, tmp_path: Path) -> None:
    folder, evil = tmp_path / "store", tmp_path / "evil"
    folder.mkdir()
    evil.write_bytes(b"abc")
    name = str(evil) if absolute else "../evil"
    # Size and hash are right: without the check of the name the file would be taken.
    write_manifest(folder, store_manifest(files={name: FileRecord(num_bytes=3, sha256=hash_file(evil))}))
    with pytest.raises(DataError) as caught:
        read_manifest(folder, StoreManifest, remedy="make it anew")
    expected = f"{folder}/manifest.json: files: expected paths below the folder, got {name!r}; make it anew"
    assert str(caught.value) == expected


@pytest.mark.parametrize("split", ["../train", "/train"])
def test_a_manifest_names_splits_plainly(split: str, tmp_path: Path) -> None:
    write_manifest(tmp_path, store_manifest(num_triples={split: 1}))
    with pytest.raises(DataError, match=r"num_triples: expected plain names of splits, got '.*train'; make it anew"):
        read_manifest(tmp_path, StoreManifest, remedy="make it anew")


@pytest.mark.parametrize("modality", ["../outside", "/outside"])
def test_a_modality_is_not_looked_for_outside_the_store(modality: str, tmp_path: Path) -> None:
    (tmp_path / "store" / "outside").mkdir(parents=True)
    (tmp_path / "store" / "features").mkdir()
    store = Store(tmp_path / "store", store_manifest())
    with pytest.raises(DataError, match="the store has no features for modality"):
        store.feature(modality)


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere", "step-00000001/../../elsewhere"])
def test_a_pointer_names_a_checkpoint_beside_it(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    (folder.checkpoints / "BEST").write_text(name + "\n")
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(folder, Store(tmp_path, store_manifest()))
    assert str(caught.value) == (
        f"{folder.checkpoints}/BEST: expected the name of a checkpoint beside it, got {name!r}; write the name of one "
        "into it"
    )


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere"])
def test_a_run_goes_on_from_a_checkpoint_of_its_own(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for pointer in ("LATEST", "BEST"):
        (folder / pointer).write_text(name + "\n")
    assert read_cursor(folder) is None
    versions = Versions(folder, Partition(10, 1, 1), Group(), "f" * 64, warn=lambda text: None)
    with pytest.raises(CheckpointError, match=f"LATEST: expected step-NUMBER, found '{name}'"):
        versions.choose()
    with pytest.raises(CheckpointError, match=f"BEST: expected step-NUMBER, found '{name}'"):
        versions.named("BEST")


@pytest.mark.parametrize("file", ["../evil.safetensors", "/evil.safetensors"])
def test_a_checkpoint_lists_files_beside_its_manifest(file: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    checkpoint = folder.checkpoints / "step-00000001"
    checkpoint.mkdir(parents=True)
    (folder.checkpoints / "BEST").write_text("step-00000001\n")
    files = {file: {"sha256": "0", "num_bytes": 0}}
    manifest = {"format_version": FORMAT_VERSION, "store_fingerprint": "f" * 64, "files": files}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"files: expected names of files beside it, got '.*evil.*'; point BEST"):
        find_checkpoint(folder, Store(tmp_path, store_manifest()))


@pytest.mark.parametrize("file", ["../evil.safetensors", "/evil.safetensors", "a/b.safetensors", ".."])
def test_an_export_lists_files_beside_its_index(file: str, tmp_path: Path) -> None:
    index = {"files": [file], "first_rows": [0], "columns": ["codes"], "metadata": {"num_entities": 2}}
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError) as caught:
        open_tables(tmp_path)
    assert str(caught.value) == f"{INDEX}: files: expected names of files beside it, got {file!r}; export again"


@pytest.mark.parametrize("inner", ["../torch", "/etc", "a/../../x"])
def test_weights_in_a_package_lie_below_it(inner: str) -> None:
    with pytest.raises(DataError, match=r"expected a folder of the package after the /, got .*; name one below it"):
        find_model(f"package:numpy/{inner}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name=../evil", "name: .*match pattern.*got '../evil'"),
        ("name=/evil", "name: .*match pattern.*got '/evil'"),
        ("name=..", r"name: .*match pattern.*got '\.\.'"),
    ],
)
def test_a_run_lies_in_its_folder_of_runs(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(WORLD, [override])


def test_a_variant_lies_in_the_folder_of_runs() -> None:
    with pytest.raises(ConfigError, match=r"name: .*match pattern.*got 'world-\.\./\.\./evil'"):
        load_recipe(WORLD, ['variants={"../../evil"={"train.lr"=0.5}}']).with_variants()


URL = "https://me:hunter2@host/x?a=1&token=hunter2"


@pytest.mark.parametrize(
    "override",
    [
        f"telemetry.mlflow.tracking_url={URL}",
        f"train.epochs={URL}",
        f"train.epochs={'x' * 60}{URL}",
        f"train.epochs=['{URL}']",
        f"train={URL}",
        f"ingest.source.kind={URL}",
        f"train.epochs.more={URL}",
        f"[{URL}",
        f"train.epochs=[{URL}",
        "telemetry.wandb.api_key=hunter2",
        "telemetry.wandb={project='x', password='hunter2'}",
    ],
)
def test_a_secret_in_a_value_is_not_shown(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(WORLD, [override])
    said = str(caught.value)
    assert "hunter2" not in said
    assert "..." in said or override.startswith("train.epochs.more"), said


def test_a_secret_in_a_recipe_is_not_shown(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'base = "{URL}"\n')
    with pytest.raises(ConfigError, match=r"https:/.*\.\.\.@host.*token=\.\.\.") as caught:
        load_recipe(recipe)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "https://...@host/x?a=1&token=..."),
        ("got 's3://a:b@c/d', then http://h/?sig=z&page=2", "got 's3://...@c/d', then http://h/?sig=...&page=2"),
        ("https://host/a?page=2&design=b", "https://host/a?page=2&design=b"),
        ("mail me@host, or a=b&c", "mail me@host, or a=b&c"),
    ],
)
def test_what_is_hidden_of_a_text(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
    assert str(DataError(text)) == shown


def test_names_of_secrets_are_told_from_those_of_keys_and_tokens() -> None:
    secrets = ["api_key", "apikey", "key", "auth_token", "password", "aws_secret_access_key", "sig", "X-Amz-Signature"]
    fields = ["keys", "key_column", "tokens", "tokenizer", "author", "design", "monkey"]
    assert [name for name in secrets if not is_secret_name(name)] == []
    assert [name for name in fields if is_secret_name(name)] == []


def test_a_standing_head_listens_on_loopback_with_a_token() -> None:
    text = (ROOT / "cluster" / "local.sh").read_text()
    start = next(line for line in text.splitlines() if line.startswith("ray start"))
    assert re.findall(r"--dashboard-host=(\S+)", start) == ["127.0.0.1"]
    assert text.index("export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0") < text.index("ray start --head --block")
    assert "export RAY_AUTH_MODE=token" in text
    assert text.index("umask 077") < text.index("token=")
    for path in sorted((ROOT / "cluster").rglob("*")):
        if path.is_file():
            assert "0.0.0.0" not in path.read_text(), path
            assert "RAY_AUTH_MODE=disabled" not in path.read_text(), path


PROBE = """
import json, sys, time, urllib.request
from pathlib import Path
import psutil, ray
from snag_dist.shard.group import Group
from snag_dist.training.launch import connect
from snag_dist.training.recipe import ClusterConfig, load_recipe
from snag_dist.training.run_folder import RunFolder, write_json
from snag_dist.training.telemetry import Telemetry

connect(ClusterConfig())

@ray.remote(num_cpus=0.1)
class Trainer:
    def log(self, folder, recipe):
        run = RunFolder(Path(folder))
        write_json(run.checkpoints / "LATEST", "step-00000004")
        self.telemetry = Telemetry(run, Group(), load_recipe(Path(recipe)), num_candidates=8)
        self.telemetry.log(4, 0, {"loss": 2.5, "terms": {"a": 1.0}, "gradient_norm": 0.5, "rows_encoded": 9.0,
            "lr": 0.1, "triples_per_second": 10.0, "steps": 2, "elapsed_seconds": 1.0, "seconds": {"encode": 0.5}})
        self.telemetry.log(4, 1, {"dev": {"mrr": 0.2}, "best_dev_mrr": 0.2, "evaluation_seconds": 1.0})

trainer = Trainer.remote()
ray.get(trainer.log.remote(sys.argv[1], sys.argv[2]))
sockets = []
for process in psutil.Process().children(recursive=True):
    try:
        sockets += [(process.name(), c.laddr.ip) for c in process.net_connections("tcp") if c.status == "LISTEN"]
    except psutil.Error:
        continue
node = ray.nodes()[0]
url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
end, text = time.monotonic() + 60, ""
while time.monotonic() < end and "snag_dist_restarts" not in text:
    time.sleep(1)
    text = urllib.request.urlopen(url, timeout=10).read().decode()
lines = [line for line in text.splitlines() if line.startswith("ray_snag_dist")]
print(json.dumps({"sockets": sockets, "lines": lines}))
"""


@pytest.mark.own_ray
def test_ray_of_this_machine_serves_our_gauges_on_loopback_only(tmp_path: Path) -> None:
    from snag_dist.training.gauges import GAUGES, PREFIX

    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", PROBE, str(tmp_path / "world"), str(WORLD)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, _ in found["sockets"]} >= {"gcs_server", "raylet"}
    assert {ip for _, ip in found["sockets"]} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, found["sockets"]
    served = {line.partition("{")[0] for line in found["lines"]}
    assert served == {PREFIX + name for name in GAUGES}
    assert all('run="world"' in line for line in found["lines"])
