"""A sweep on a tiny world, through Ray Tune and Ray Train, to its report; called again, it does nothing new."""

import json
from pathlib import Path

import pytest
import ray

import snag_dist
from snag_dist.errors import ConfigError, ResourceError
from snag_dist.store.opened import open_store
from snag_dist.training.recipe import load_recipe
from snag_dist.training.run_folder import RunFolder, write_json
from snag_dist.tune.config import Sweep, load_sweep
from snag_dist.tune.ladder import read_ladder, read_rung
from snag_dist.tune.space import PROBABILITY, RATIO
from snag_dist.tune.trial import read_trials

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(900)]

WORLD = Path(__file__).parents[2] / "jobs" / "recipes" / "world_sweep.toml"


def tiny(folder: Path, *overrides: str) -> Sweep:
    """Two cells of one seed, one of them without noise."""
    space = f'{{"{PROBABILITY}"={{kind="grid",values=[0.2]}},"{RATIO}"={{kind="grid",values=[0.0,0.7]}}}}'
    return load_sweep(
        WORLD,
        [
            f"store={folder}/store",
            f"runs={folder}/runs",
            "ingest.source.num_entities=300",
            "train.epochs=2",
            "train.evaluate_every=1",
            "train.batch_size=256",
            "train.schedule.kind=constant",
            "method.encoder.width=32",
            "cluster.num_workers=1",
            "tune.max_concurrent=2",
            "tune.seeds=[0]",
            f"tune.space={space}",
            *overrides,
        ],
    )


def test_a_sweep_ends_in_a_winner_and_called_again_does_nothing_new(tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"tune\.max_concurrent: 20 trials of 1 workers of 0\.5 CPUs need 10\.2 CPUs"
    ):
        snag_dist.search(tiny(tmp_path, "tune.max_concurrent=20"))
    sweep = tiny(tmp_path)
    outcome = snag_dist.search(sweep)

    records = read_trials(sweep.trials)
    assert [record.epochs for record in records] == [2, 2]
    assert outcome.winner is not None
    assert outcome.noise_off is not None
    assert outcome.winner.mean == max(record.best or 0 for record in records)
    assert outcome.noise_off.changes == {PROBABILITY: 0.2, RATIO: 0.0}
    scored = {record.name for record in records if RunFolder(sweep.trials / record.name).metrics("test").is_file()}
    compared = [*outcome.winner.trials, *outcome.noise_off.trials]
    assert scored == {record.name for record in compared}
    assert len(outcome.scores[0].mrr) == 1

    winner = load_recipe(sweep.best).to_tree()
    trained = json.loads(RunFolder(sweep.trials / outcome.winner.trials[0].name).config.read_text())
    assert winner == {**trained, "name": "world-sweep-best", "runs": f"{tmp_path}/runs"}
    assert "<html" in (sweep.report / "index.html").read_text()

    # A trial is what jobs/train.py trains: the winner's recipe gives the winner's figures again.
    report = snag_dist.train(load_recipe(sweep.best))["world-sweep-best"]
    of_trial = RunFolder(sweep.trials / outcome.winner.trials[0].name).metrics("test")
    assert report["metrics"] == json.loads(of_trial.read_text())["metrics"]

    # A sweep of an earlier version, whose recipes knew fewer fields, goes on.
    owner = json.loads((sweep.path / "sweep.json").read_text())
    assert owner["recipe"].pop("holdout") is None
    write_json(sweep.path / "sweep.json", owner)
    before = {path: path.stat().st_mtime_ns for path in sweep.path.rglob("*") if path.is_file()}
    again = snag_dist.search(sweep)
    assert again == outcome
    rewritten = {path.parent.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert rewritten <= {"world-sweep", "report"}
    assert {path for path in sweep.path.rglob("*") if path.is_file()} == set(before)

    with pytest.raises(ConfigError, match=r"world-sweep: name 'world-sweep' is already used by a sweep around another"):
        snag_dist.search(tiny(tmp_path, "train.epochs=3"))


def test_trials_that_fall_behind_are_stopped(tmp_path: Path) -> None:
    # Proposed by TPE, its first points given: the second one hardly learns, and is in the worse half at the first rung.
    rates = [0.02, 1e-6, 0.01]
    sweep = tiny(
        tmp_path,
        # Small batches, so that there is time to stop it in: Tune ends a trial from outside.
        "train.epochs=9",
        "train.batch_size=16",
        "tune.max_concurrent=1",
        f'tune.search={{kind="optuna",num=3,points={json.dumps([{"train.lr": rate} for rate in rates])}}}'.replace(
            ": ", "="
        ),
        'tune.scheduler={kind="asha",grace_epochs=3,reduction_factor=2}',
        'tune.space={"train.lr"={kind="loguniform",low=1e-7,high=0.1}}',
    )
    outcome = snag_dist.search(sweep)
    records = read_trials(sweep.trials)
    tried = [record for record in records if not record.compared]
    assert [record.changes["train.lr"] for record in tried] == rates
    first, second, _ = tried
    assert first.is_complete and first.epochs == 9
    assert second.state == "stopped" and 3 <= second.epochs < 9
    assert outcome.winner is not None and outcome.winner.changes["train.lr"] != 1e-6
    # GMNM off is none of the settings: it is trained for the comparison, to its end, and scored like the winner.
    [compared] = [record for record in records if record.compared]
    assert compared.is_complete and RunFolder(sweep.trials / compared.name).metrics("test").is_file()
    # The stopped trial freed its workers itself; nothing stays placed.
    assert {group["state"] for group in ray.util.placement_group_table().values()} == {"REMOVED"}
    # Tune heard of every evaluation.
    results = list(sweep.path.rglob("ray/round-*/*/result.json"))
    heard = sorted(len(path.read_text().splitlines()) for path in results)
    assert heard[0] >= 3 and heard[-1] >= 9


def test_rungs_train_all_settings_on_a_core_and_the_best_on_the_whole(tmp_path: Path) -> None:
    def rungs(**choices: object) -> Sweep:
        others = "".join(f",{name}={json.dumps(value)}" for name, value in choices.items())
        return tiny(tmp_path, f"tune.fidelity={{rungs=[{{share=0.5,epochs=0.5,keep=1}}]{others}}}")

    sweep = rungs()
    outcome = snag_dist.search(sweep)
    ladder = read_ladder(sweep)
    assert ladder is not None
    cheap, whole = ladder.rungs
    core, store = open_store(cheap.store), open_store(sweep.recipe.store)
    assert core.manifest.core is not None
    assert core.manifest.core.parent_fingerprint == store.fingerprint
    assert cheap.num_triples == core.manifest.num_triples["train"] < whole.num_triples
    on_core, on_whole = read_rung(sweep, cheap), read_rung(sweep, whole)
    assert [(record.epochs, record.is_complete) for record in on_core] == [(1, True)] * 2
    folder = RunFolder(sweep.path / "rungs" / cheap.name / "trials" / on_core[0].name)
    assert folder.read_status()["store_fingerprint"] == core.fingerprint
    # The better one on the core goes on, is trained anew, and wins, since nothing else is compared with it.
    best = max(on_core, key=lambda record: record.best or 0.0)
    assert [(record.name, record.epochs) for record in on_whole] == [(best.name, 2)]
    assert outcome.winner is not None
    assert outcome.winner.trials[0].name == best.name
    found = outcome.prediction
    assert found is not None
    assert found.triples_seen == 2 * cheap.num_triples + 2 * whole.num_triples
    assert found.grid_triples == 2 * 2 * whole.num_triples
    assert json.loads((sweep.report / "rungs.json").read_text())["num_settings"] == 2

    # Called again it trains nothing; as a study it trains on the whole what did not go on, and nothing else.
    logs = {path: path.read_bytes() for path in sweep.path.rglob("log.jsonl")}
    assert snag_dist.search(sweep) == outcome
    assert {path: path.read_bytes() for path in sweep.path.rglob("log.jsonl")} == logs
    studied = snag_dist.search(rungs(study=True)).prediction
    assert studied is not None
    assert studied.rungs[0].with_whole is not None
    assert (studied.rungs[0].with_whole.num_settings, abs(studied.rungs[0].with_whole.tau or 0)) == (2, 1.0)
    assert studied.halving is not None
    assert {path: path.read_bytes() for path in logs} == logs
    assert len(list(sweep.path.rglob("log.jsonl"))) <= len(logs) + 1

    # What only the store can tell is told before anything is trained.
    same = "tune.fidelity={rungs=[{share=0.5,epochs=0.5},{share=0.499,epochs=0.5}]}"
    with pytest.raises(ConfigError, match=r"rungs\.1: expected a rung unlike those before, got core-\d_epochs-1 again"):
        snag_dist.search(tiny(tmp_path, same))
    with pytest.raises(ConfigError, match=r"store: expected k of at most \d+, the deepest core, got 99; lower k"):
        snag_dist.search(tiny(tmp_path, "tune.fidelity={rungs=[{k=99,epochs=0.5}]}"))
