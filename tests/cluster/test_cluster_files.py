"""The files that bring a cluster up are checked without one: against Ray's own schema, KubeRay's, and each other."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray._private import ray_constants
from ray.autoscaler._private.util import prepare_config, validate_config

from snag_dist.training.gauges import GAUGES, PREFIX

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
BIN = Path(sys.executable).parent
KUBERAY = json.loads((Path(__file__).parent / "kuberay_v1.json").read_text())
RAY_UP = ("aws", "gcp", "onprem")
KUBERNETES = ("raycluster", "rayjob-train", "rayjob-tune")


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())


def cluster_spec(tree: dict[str, Any]) -> dict[str, Any]:
    return tree["spec"] if tree["kind"] == "RayCluster" else tree["spec"]["rayClusterSpec"]


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_takes_the_file(name: str) -> None:
    prepared = prepare_config(load(name))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_refuses_the_file_with_a_misspelt_field(name: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config({**load(name), "idle_timeout": 5}))


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_starts_with_a_token_and_the_dashboard_on_loopback(name: str) -> None:
    tree = load(name)
    head, worker = (" ".join(tree[f"{role}_start_ray_commands"]) for role in ("head", "worker"))
    assert "RAY_JOB_STOP_WAIT_TIME_S=120 RAY_AUTH_MODE=token ray start --head" in head
    assert "RAY_AUTH_MODE=token ray start --address=$RAY_HEAD_IP:6379" in re.sub(r"\s+", " ", worker)
    assert "--dashboard-host=127.0.0.1" in head
    assert list(tree["file_mounts"].values()) == ["~/.ray/auth_token"]
    assert "/shared" in json.dumps(tree)


@pytest.mark.parametrize("name", RAY_UP)
def test_options_of_ray_start_exist(name: str) -> None:
    known = subprocess.run([BIN / "ray", "start", "--help"], capture_output=True, text=True, check=True).stdout
    tree = load(name)
    commands = " ".join(tree["head_start_ray_commands"] + tree["worker_start_ray_commands"])
    options = set(re.findall(r"--[a-z-]+", commands))
    assert options
    assert [option for option in options if option not in known] == []


@pytest.mark.parametrize("name", KUBERNETES)
def test_kuberay_takes_the_file(name: str) -> None:
    jsonschema.validate(load(name), KUBERAY)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "authOptions", "mode"), "none"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "workerGroupSpecs", 0, "replica"), 2),
        (("spec", "headGroupSpec", "template", "spec", "containers", 0, "imag"), "x"),
        (("kind",), "RayService"),
    ],
)
def test_kuberay_would_refuse_a_wrong_field(path: tuple[Any, ...], value: Any) -> None:
    tree = json.loads(json.dumps(load("raycluster")))
    node = tree
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, KUBERAY)


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_has_token_shared_storage_and_memory(name: str) -> None:
    spec = cluster_spec(load(name))
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert ray.__version__.split(".")[:2] == spec["rayVersion"].split(".")[:2]
    for pod in pods(spec):
        mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert "persistentVolumeClaim" in volumes[mounts["/shared"]]
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_worker_pod_that_must_go_leaves_time_for_a_checkpoint(name: str) -> None:
    for group in cluster_spec(load(name))["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        environment = {variable["name"]: variable["value"] for variable in pod["containers"][0]["env"]}
        # Ray drains the node when the pod is told to end, and ends it after so many seconds itself.
        drain = float(environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert ray_constants.RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S < drain < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_spot_workers_pass_the_notice_of_their_cloud_on(name: str) -> None:
    commands = load(name)["worker_start_ray_commands"]
    assert "ray start" in commands[-2]
    script = f"/opt/snag_dist/cluster/drain_on_notice.py {name} "
    assert f"RAY_AUTH_MODE=token nohup python {script}" in commands[-1]
    assert commands[-1].endswith("&")
    copied = [value.split() for kind, value in instructions() if kind == "COPY"]
    assert ["cluster/drain_on_notice.py", "cluster/drain_on_notice.py"] in copied
    assert ("WORKDIR", "/opt/snag_dist") in instructions()


@pytest.mark.parametrize("name", ["rayjob-train", "rayjob-tune"])
def test_a_job_goes_on_where_the_last_try_ended(name: str) -> None:
    spec = load(name)["spec"]
    assert spec["backoffLimit"] > 0
    words = shlex.split(spec["entrypoint"])
    settings = dict(words[place + 1].split("=", 1) for place, word in enumerate(words) if word == "--set")
    # Every try is a new cluster: what it goes on from must outlive the one before, under the same name.
    assert settings["store"].startswith("/shared/")
    assert settings["runs"].startswith("/shared/")
    assert "--run" not in words
    workers = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    cpus = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]) * workers["replicas"]
    wanted = int(settings.get("cluster.num_workers", 1)) * float(settings["cluster.cpus_per_worker"])
    assert wanted < cpus
    recipe = words[words.index("--recipe") + 1].removeprefix("/opt/snag_dist/")
    assert (ROOT / recipe).is_file()


def test_slurm_script_is_bash_and_its_options_exist() -> None:
    script = CLUSTER / "train.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text().replace("\\\n", " ")
    line = next(line for line in text.splitlines() if "ray symmetric-run" in line)
    ours, theirs = line.partition("ray symmetric-run")[2].split(" -- ", 1)
    assert "jobs/train.py" in theirs
    known = "".join(
        subprocess.run([BIN / "ray", command, "--help"], capture_output=True, text=True, check=True).stdout
        for command in ("symmetric-run", "start")
    )
    options = re.findall(r"--[a-z-]+", ours)
    assert "--min-nodes" in options
    assert [option for option in options if option not in known] == []
    assert not {"--head", "--node-ip-address", "--port", "--block"} & set(options)


def test_slurm_script_without_options_is_one_line_and_exit_code_2() -> None:
    done = subprocess.run(["bash", CLUSTER / "train.sbatch"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "train.sbatch: expected options of jobs/train.py, got none; sbatch cluster/train.sbatch --recipe FILE\n"
    )


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in (CLUSTER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def test_a_job_that_is_stopped_has_time_for_its_checkpoint_wherever_a_head_starts() -> None:
    environment = " ".join(value for kind, value in instructions() if kind == "ENV")
    assert "RAY_JOB_STOP_WAIT_TIME_S=120" in environment.split()
    assert "export RAY_JOB_STOP_WAIT_TIME_S=120" in (CLUSTER / "local.sh").read_text()


def test_base_images_are_pinned() -> None:
    parts = instructions()
    defaults = dict(value.split("=", 1) for kind, value in parts if kind == "ARG")
    images = [
        re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], value) for kind, value in parts if kind == "FROM"
    ]
    assert images
    for image in images:
        assert re.fullmatch(r"[a-z0-9/.-]+:\d+\.\d+\.\d+[a-z0-9.-]*", image), image
        minor = tuple(map(int, image.partition(":")[2].split(".")[:2]))
        assert (3, 11) <= minor < (3, 14)


def test_image_is_made_from_pyproject_for_either_device() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runs = " ".join(value for kind, value in instructions() if kind == "RUN")
    extras = re.search(r'pip install [^&]*"\.\[([a-z,]+)\]"', runs)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    dependencies = project["dependencies"] + project["optional-dependencies"]["vision"]
    pins = re.findall(r'"((?:torch|torchvision)[<>=][^"]*)"', runs)
    assert len(pins) == 2
    assert [pin for pin in pins if pin not in dependencies] == []
    assert re.findall(r"(\w+)\) index=", runs) == ["cpu", "gpu"]


def test_image_copies_what_is_tracked_and_nothing_that_is_ignored() -> None:
    copied = [path for kind, value in instructions() if kind in ("COPY", "ADD") for path in value.split()[:-1]]
    assert {"pyproject.toml", "snag_dist", "jobs"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path
        ignored = subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=ROOT).returncode
        assert ignored == 1, path
    left_out = (ROOT / ".dockerignore").read_text().splitlines()
    for pattern in (ROOT / ".gitignore").read_text().split():
        name = pattern.strip("/")
        assert {name, f"**/{name}"} & set(left_out), pattern


def test_working_directory_of_a_job_is_small_and_runs() -> None:
    # git reads patterns as Ray does, with a file of its own in the place of .gitignore.
    ignored = ["git", "ls-files", "-ci", "--exclude-from=.rayignore"]
    tracked = ["git", "ls-files"]
    listed = [
        set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
        for command in (tracked, ignored)
    ]
    carried = listed[0] - listed[1]
    assert {"jobs/train.py", "jobs/recipes/world.toml", "snag_dist/api.py", "pyproject.toml"} <= carried
    assert not [path for path in carried if path.startswith(("tests/", "tools/"))]
    assert sum((ROOT / path).stat().st_size for path in carried if (ROOT / path).is_file()) < 16 << 20


def test_the_board_and_the_gauges_name_the_same_metrics() -> None:
    board = json.loads((CLUSTER / "monitoring" / "grafana.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in re.findall(r"\b[a-z_]*snag_dist_\w+", expression)}
    assert named == {PREFIX + name for name in GAUGES}
    # No expression without a metric of ours, and every tag it groups by or selects is one of the metric's.
    for expression in expressions:
        metrics = re.findall(rf"{PREFIX}(snag_dist_\w+)", expression)
        assert metrics, expression
        tags = {"run"}.union(*(GAUGES[metric].tags for metric in metrics))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            assert {tag.strip() for tag in group.split(",")} <= tags
    for panel in board["panels"]:
        for target in panel["targets"]:
            metrics = re.findall(rf"{PREFIX}(snag_dist_\w+)", target["expr"])
            tags = {"run"}.union(*(GAUGES[metric].tags for metric in metrics))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= tags


def test_prometheus_reads_the_list_that_ray_keeps() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    tree = yaml.safe_load((CLUSTER / "monitoring" / "prometheus.yml").read_text())
    files = [file for job in tree["scrape_configs"] for entry in job["file_sd_configs"] for file in entry["files"]]
    assert [Path(file).name for file in files] == [PROMETHEUS_SERVICE_DISCOVERY_FILE]


def test_the_readme_tells_of_every_file() -> None:
    text = (CLUSTER / "README.md").read_text()
    names = [path.name for path in CLUSTER.iterdir() if path.is_file() and path.suffix != ".env"]
    assert [name for name in names if name != "README.md" and f"`{name}`" not in text] == []
    for path in re.findall(r"`((?:jobs|cluster|tools)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or path == "cluster/local.env", path
