"""The program of the benchmarks: it lists them, appends what was seen, and says in one line what it has not got."""

import json
import shlex
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from snag_dist.console import run_job
from snag_dist.errors import ConfigError
from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import RunFolder

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "bench"))

import needs
import run
from records import HISTORY, save_record, write_record
from streaming import compare
from trained import Place, curve, read_log, recipe_at

ROOT = Path(__file__).parents[2]


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run the program in this process; returns its exit code and what it said to both streams."""
    # A run of the tests may be told of the raw data.
    monkeypatch.delenv("SNAG_DIST_DATA", raising=False)

    def start(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        with pytest.raises(SystemExit) as ended:
            run_job(run.main)
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return start


def test_without_names_it_lists_what_there_is(bench: Say) -> None:
    code, said, _ = bench()
    assert code == 0
    lines = said.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(run.BENCHMARKS)
    for line, benchmark in zip(lines, run.BENCHMARKS.values(), strict=False):
        assert f"{benchmark.minutes:g} min" in line
        assert line.endswith(f"{benchmark.measures}; run on {benchmark.need.words}")


def test_every_benchmark_measures_in_one_way() -> None:
    for name, benchmark in run.BENCHMARKS.items():
        assert (benchmark.measure is None) != (benchmark.train is None), name


def test_what_is_missing_is_told_in_one_line_and_exit_code_2(bench: Say, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        code, said, complaint = bench(*words, "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"))
        assert (code, said, len(complaint.splitlines())) == (2, "", 1), complaint
        return complaint

    nowhere = tmp_path / "nowhere"
    assert refused("exact_ranks", "--store", str(nowhere)) == (
        f"error: --store {nowhere}: expected a store of db15k.toml, from DB15K, found no such folder; make one with "
        f"`python jobs/extract.py --recipe jobs/recipes/db15k.toml --set store={nowhere} --set data=PATH/DB15K`, "
        "or pass --data PATH alone, which does that\n"
    )
    assert "error: --data: expected the folder that has DB15K in it, got nothing" in refused("scaling")
    without = f"error: {tmp_path / 'DB15K'}: expected the data set DB15K, found no such folder; pass --data PATH"
    assert without in refused("scaling", "--data", str(tmp_path))
    assert "error: fast: expected one of modulus, " in refused("fast")
    no_recipe = refused("modulus", "--set", "train.epochs=1")
    assert "error: --set: expected a benchmark that trains recipes, got modulus" in no_recipe
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", run.BENCHMARKS)
def test_what_is_not_what_a_benchmark_needs_is_refused_with_a_remedy(name: str, tmp_path: Path) -> None:
    need = run.BENCHMARKS[name].need
    if isinstance(need, needs.Nothing):
        assert need.check(tmp_path) == tmp_path
        return
    with pytest.raises(ConfigError, match="expected ") as caught:
        need.check(tmp_path / "nowhere")
    for command in str(caught.value).split("`")[1::2]:
        _, program, *words = shlex.split(command)
        assert (ROOT / program).is_file()
        if "--recipe" in words:
            recipe = ROOT / words[words.index("--recipe") + 1]
            load_recipe(recipe, [change for word, change in pairwise(words) if word == "--set"])


def test_a_benchmark_is_printed_recorded_and_appended(
    bench: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    count = run.Benchmark(
        "how often it was asked", needs.Nothing(), 0.1, lambda _, seed: {"seed": seed, "x": len(asked)}
    )
    monkeypatch.setitem(run.BENCHMARKS, "count", count)
    asked: list[int] = []
    for number in range(2):
        code, said, _ = bench("count", "--seed", "3", "--results", str(tmp_path))
        assert (code, json.loads(said)["figures"]) == (0, {"seed": 3, "x": number})
        asked.append(number)
    newest = json.loads((tmp_path / "count.json").read_text())
    history = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert [record["figures"]["x"] for record in history] == [0, 1]
    assert history[1] == newest
    assert newest["command"] == "python tools/bench/run.py count --seed 3"
    assert {"name", "date", "machine", "versions", "seed", "wall_seconds"} <= newest.keys()


def test_several_run_in_processes_of_their_own(bench: Say, tmp_path: Path) -> None:
    code, _, complaint = bench("scaling", "overhead", "--work", str(tmp_path), "--results", str(tmp_path / "results"))
    assert code == 2
    assert "error: scaling (2), overhead (2): ended with that exit code" in complaint


def test_a_record_never_replaces_one_of_the_history(tmp_path: Path) -> None:
    write_record("a", {"x": 1}, command=["p"], machine={}, seed=0, seconds=1.0, folder=tmp_path)
    save_record({"name": "b", "figures": {"x": 2}}, tmp_path)
    write_record("a", {"x": 3}, command=["p"], machine={}, seed=0, seconds=1.0, folder=tmp_path)
    history = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert [(one["name"], one["figures"]["x"]) for one in history] == [("a", 1), ("b", 2), ("a", 3)]
    assert json.loads((tmp_path / "a.json").read_text())["figures"] == {"x": 3}


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    store = tmp_path / "stores" / "world"
    store.mkdir(parents=True)
    (store / "coverage.json").write_text("{}")
    assert needs.StoreOf("world.toml").make(needs.Places(None, tmp_path)) == store


def test_recipes_that_are_trained_lie_where_they_are_told(tmp_path: Path) -> None:
    place = Place(tmp_path / "store", tmp_path / "runs", 4, ("train.epochs=2",))
    recipe = recipe_at(place, "fb15k_237.toml", "train.epochs=7")
    assert (recipe.store, recipe.runs, recipe.seed) == (tmp_path / "store", tmp_path / "runs", 4)
    # What was asked for on the command line counts.
    assert recipe.train.epochs == 2
    assert [run.train.residency.kind for run in recipe.with_variants()] == ["memory", "stream"]


def step(number: int, epoch: int, loss: float, steps: int = 2) -> dict[str, float]:
    return {"step": number, "epoch": epoch, "loss": loss, "steps": steps, "elapsed_seconds": 1.5}


def test_a_curve_by_epoch(tmp_path: Path) -> None:
    lines = [
        step(2, 0, 4.0),
        step(3, 0, 1.0, steps=1),
        {"step": 3, "epoch": 1, "dev": {"mrr": 0.25}},
        step(5, 1, 9.0),
        # Taken again after an interruption: the last time counts.
        step(5, 1, 2.0),
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert curve(read_log(RunFolder(tmp_path))) == [
        {"epoch": 1, "seconds": 3.0, "train_loss": 3.0, "dev_mrr": 0.25},
        {"epoch": 2, "seconds": 4.5, "train_loss": 2.0},
    ]


def test_curves_are_compared_with_the_noise_of_seeds() -> None:
    def curves(*values: float) -> list[list[dict[str, float]]]:
        return [[{"epoch": 1, "loss": value}] for value in values]

    same = compare(curves(1.0, 2.0, 3.0), curves(2.0, 3.0, 4.0), "loss")
    [epoch] = same["by_epoch"]
    assert epoch["memory"] == {"mean": 2.0, "deviation": 1.0}
    # Error sqrt(2/3) = .8165, t of four degrees of freedom 2.7764: 1 +- 2.267.
    assert epoch["interval"] == pytest.approx([-1.26696, 3.26696], abs=1e-5)
    assert epoch["is_within_noise"] and same["epochs_within_noise"] == "1 of 1"
    other = compare(curves(1.0, 2.0, 3.0), curves(5.0, 6.0, 7.0), "loss")
    assert not other["by_epoch"][0]["is_within_noise"]
    assert other["largest_difference"]["difference"] == 4.0
