"""Measure and record every figure: python tools/bench/run.py [NAME ...] --data DATA

Without names it lists what there is. A figure is printed with machine, versions, medians and their spread, becomes
tools/bench/results/NAME.json and is appended to the history beside it. Figures that are compared come from one run.
Stores and runs that a benchmark needs are made once, in a folder of work.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parent))

import alignment
import all_entities
import all_entity_runs
import checkpoints
import damage
import dbpedia
import emoji
import entity_tokens
import exact_ranks
import export_at_size
import exported
import extraction
import first_pass
import gpu
import ingest
import modulus
import overhead
import parity
import pykeen_comparison
import scaling
import step_throughput
import streaming
import table_at_size
from needs import ROOT, EmojiGraphs, Need, Nothing, Places, RawData, RunOf, StoreOf
from records import RESULTS, describe_machine, write_record
from trained import Place

from snag_dist.console import run_job, say
from snag_dist.errors import ConfigError

Figures = dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """One figure, or several that are compared.

    Attributes:
        measures: in a few words.
        need: what it is run on.
        minutes: on two cores, about, what it is run on not included.
        measure: returns the figures, given a path and a seed.
        train: the same of one that trains recipes, given a place.
    """

    measures: str
    need: Need
    minutes: float
    measure: Callable[[Path, int], Figures] | None = None
    train: Callable[[Place], Figures] | None = None


WORLD, DB15K = StoreOf("world.toml"), StoreOf("db15k.toml", "DB15K")
# As tools/chaos.py trains it.
LARGER_WORLD = RunOf("world.toml", "world-3000", changes=("ingest.source.num_entities=3000", "train.epochs=230"))

BENCHMARKS: dict[str, Benchmark] = {
    "modulus": Benchmark("the kernel, forward and backward, against eager tensors", Nothing(), 0.3, modulus.measure),
    "step_throughput": Benchmark("a whole step against the released way", DB15K, 1, step_throughput.measure),
    "pykeen": Benchmark("structure-only RotatE against PyKEEN", DB15K, 10, pykeen_comparison.measure),
    "exact_ranks": Benchmark("exact ranks against numpy, and their speed, all in", DB15K, 4, exact_ranks.measure),
    "first_pass": Benchmark("ranks after a first pass in a coarser format", DB15K, 11, first_pass.measure),
    "all_entities": Benchmark("a step against all entities, and a plain loop's", DB15K, 2, all_entities.measure),
    "overhead": Benchmark("Ray, DeepSpeed and exchange at one worker", DB15K, 6, overhead.measure),
    "scaling": Benchmark("two workers against one", DB15K, 8, scaling.measure),
    "table_at_size": Benchmark("steps at 15 thousand and 5 M rows, memory", Nothing(), 4, table_at_size.measure),
    "ingest": Benchmark("ingest of DBpedia-665k", RawData("DBpedia-665k"), 2, ingest.measure),
    "ingest_world": Benchmark("ingest of a world of 5 M entities", Nothing(), 2, ingest.measure_world),
    "streaming": Benchmark(
        "loss of streamed triples beside those in memory, three seeds",
        StoreOf("fb15k_237.toml", "FB15k-237"),
        10,
        train=streaming.measure,
    ),
    "dbpedia": Benchmark(
        "DBpedia-665k in 20 minutes: pace, epochs, dev MRR",
        StoreOf("dbpedia_665k.toml", "DBpedia-665k"),
        25,
        train=dbpedia.measure,
    ),
    "all_entity_runs_db15k": Benchmark(
        "DB15K against all entities: curves and test, whole encoder and structure alone",
        DB15K,
        150,
        train=all_entity_runs.measure_db15k,
    ),
    "all_entity_runs_mkg_w": Benchmark(
        "MKG-W against all entities: the same",
        StoreOf("mkg_w.toml", "MKG-W"),
        120,
        train=all_entity_runs.measure_mkg_w,
    ),
    "parity": Benchmark("losses and ranks at 1, 2 and 4 workers", WORLD, 4, parity.measure),
    "checkpoints": Benchmark("what checkpoints cost; a run at 2, 1, 4, 2 workers", DB15K, 10, checkpoints.measure),
    "damage": Benchmark("damaged files, and a full disk", WORLD, 4, damage.measure),
    "extraction": Benchmark("extraction against the bare encoder, and its memory", Nothing(), 8, extraction.measure),
    "alignment": Benchmark(
        "memory and seconds of alignment", StoreOf("zh_en.toml", "DBP15K/zh_en"), 30, alignment.measure
    ),
    "emoji": Benchmark("both emoji graphs extracted, and neighbours", EmojiGraphs(), 3, emoji.measure),
    "export": Benchmark("exports of a run in four formats", RunOf("db15k.toml", "db15k", "DB15K"), 2, exported.measure),
    "export_at_size": Benchmark("the export of 5 M entities", Nothing(), 6, export_at_size.measure),
    "entity_tokens": Benchmark("entity tokens in a small language model", LARGER_WORLD, 4, entity_tokens.measure),
    "gpu": Benchmark("kernels, steps, table and ranks on one GPU (tools/bench/gpu.sh)", Nothing(), 10, gpu.measure),
}


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which; none lists them, `all` takes those of a CPU.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(envvar="SNAG_DIST_DATA", help="Folder of the raw data, with DB15K, MKG-W and others in it."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="What the benchmark needs, where it is there already: a store, a run, raw data.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for stores and runs that are made.")] = ROOT / "build" / "bench",
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of the recipes that a benchmark trains.")
    ] = None,
    seed: int = 0,
) -> None:
    """Run benchmarks and write down what they saw."""
    if not names:
        say(list_benchmarks())
        return
    if names == ["all"]:
        names = [name for name in BENCHMARKS if name != "gpu"]
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        raise ConfigError(f"{unknown[0]}: expected one of {', '.join(BENCHMARKS)}; mend the name")
    places = Places(None if data is None else data.absolute(), work.absolute())
    changes = tuple(set_ or ())
    if len(names) > 1:
        options = ["--work", str(work), "--results", str(results), "--seed", str(seed)]
        options += [] if data is None else ["--data", str(data)]
        options += [] if store is None else ["--store", str(store)]
        run_each(names, options + [word for change in changes for word in ("--set", change)])
        return
    run_one(names[0], places, None if store is None else store.absolute(), results, changes, seed)


def list_benchmarks() -> str:
    """A line a benchmark: its name, about how long it takes, what it measures, what it is run on."""
    lines = [
        f"{name:<22}{benchmark.minutes:>5g} min  {benchmark.measures}; run on {benchmark.need.words}"
        for name, benchmark in BENCHMARKS.items()
    ]
    return "\n".join([*lines, "what it is run on is made from --data DATA first, which takes longer"])


def run_each(names: list[str], options: list[str]) -> None:
    """Run several, each in a process of its own: Ray and DeepSpeed keep hold of the first they meet.

    Raises:
        ConfigError: some failed; what they said stands above.
    """
    ends = {name: subprocess.run([sys.executable, __file__, name, *options], check=False).returncode for name in names}
    failed = [f"{name} ({end})" for name, end in ends.items() if end]
    if failed:
        raise ConfigError(
            f"{', '.join(failed)}: ended with that exit code; mend what they say above, and run them again"
        )


def run_one(name: str, places: Places, store: Path | None, results: Path, changes: tuple[str, ...], seed: int) -> None:
    """Find or make what one benchmark needs, measure, and keep what was seen."""
    benchmark = BENCHMARKS[name]
    if changes and benchmark.train is None:
        raise ConfigError(f"--set: expected a benchmark that trains recipes, got {name}; leave --set out")
    path = benchmark.need.make(places) if store is None else benchmark.need.check(store)
    runs = places.work / "runs" / name
    measure = benchmark.measure or partial(_train, benchmark.train, runs, changes)
    machine, start = describe_machine(), time.time()
    figures = measure(path, seed)
    given = ["--data", "DATA"] if store is None else ["--store", store.name]
    if isinstance(benchmark.need, Nothing):
        given = []
    command = ["python", "tools/bench/run.py", name, *given, "--seed", str(seed)]
    command += [word for change in changes for word in ("--set", change)]
    seconds = time.time() - start
    write_record(name, figures, command=command, machine=machine, seed=seed, seconds=seconds, folder=results)
    if benchmark.train is not None:
        # The next time is measured anew.
        runs.rename(runs.with_name(f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"))


def _train(
    train: Callable[[Place], Figures] | None, runs: Path, changes: tuple[str, ...], store: Path, seed: int
) -> Figures:
    assert train is not None
    return train(Place(store, runs, seed, changes))


if __name__ == "__main__":
    run_job(main)
