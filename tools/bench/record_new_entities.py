"""Record what new entities lose: python tools/bench/record_new_entities.py NAME --held RUN --full RUN

Compares runs that were trained without some entities with one that saw all, on the test triples that have one of those
entities: the same queries and candidates, codes from modalities alone on the one side, trained rows on the other.
Writes tools/bench/results/NAME.json.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

sys.path.insert(0, str(Path(__file__).parent))

from records import describe_machine, save_record, today

from snag_dist.config import validate
from snag_dist.evaluation.report import read_report
from snag_dist.evaluation.slices import NEW_SIDE
from snag_dist.store.holdout import NewEntities
from snag_dist.store.opened import open_store
from snag_dist.training.recipe import NEW, Recipe
from snag_dist.training.run_folder import RunFolder

_KEYS = ("head", "relation", "tail", "direction")


def describe(held: RunFolder, full: RunFolder) -> dict[str, Any]:
    """Figures of a run without some entities, beside one with all."""
    recipe = validate(Recipe, held.read_config(), str(held.config))
    assert recipe.holdout is not None
    whole, other = open_store(recipe.store), full.read_config()
    alike: dict[str, tuple[Any, Any]] = {
        "epochs": (recipe.train.epochs, other["train"]["epochs"]),
        "seed": (recipe.seed, other["seed"]),
        "store": (whole.fingerprint, full.read_status()["store_fingerprint"]),
    }
    for what, (one, another) in alike.items():
        assert one == another, f"{held.path.name} and {full.path.name} differ in {what}: {one}, {another}"
    new = NewEntities.of(whole, recipe.holdout)
    reports = {split: read_report(held.metrics(split)) for split in ("test", NEW)}
    of_test = {tuple(triple) for triple in whole.triples("test").tolist()}
    ranks = {"new": _ranks(held, NEW), "trained": _ranks(full, "test")}
    asked = [key for key in ranks["new"] if key[:3] in of_test]
    # By the side that is new; the few with both count in neither.
    sides = np.array([new.held[[key[0], key[2]] if key[3] == "tail" else [key[2], key[0]]] for key in asked])
    known_is_new, answer_is_new = sides[:, 0] & ~sides[:, 1], sides[:, 1] & ~sides[:, 0]
    matched: dict[str, Any] = {"queries": len(asked)}
    for name, table in ranks.items():
        reciprocal = np.array([1.0 / table[key] for key in asked])
        matched[name] = {
            "mrr": round(float(reciprocal.mean()), 4),
            "mrr_asked_about": round(float(reciprocal[known_is_new].mean()), 4),
            "mrr_as_answer": round(float(reciprocal[answer_is_new].mean()), 4),
            "hits@10": round(float(np.mean([table[key] <= 10 for key in asked])), 4),
        }
    by_side = [piece for piece in reports[NEW].slices if piece.group == NEW_SIDE]
    return {
        "held_out": {"entities": len(new.rows), "of": whole.num_entities, "seed": recipe.holdout.seed},
        "row_dropout": held.read_config()["method"]["encoder"]["row_dropout"],
        "epochs": recipe.train.epochs,
        "all_queries_about_them": {
            "queries": reports[NEW].metrics.num_queries,
            "mrr": round(reports[NEW].metrics.realistic.mrr, 4),
            "by_side": {piece.name: round(piece.metrics.realistic.mrr, 4) for piece in by_side},
        },
        "test_split_among_trained": {
            "queries": reports["test"].metrics.num_queries,
            "mrr": round(reports["test"].metrics.realistic.mrr, 4),
        },
        "test_triples_with_one_of_them": matched,
    }


def _ranks(folder: RunFolder, split: str) -> dict[tuple[Any, ...], float]:
    table: pa.Table = pq.read_table(folder.ranks(split))
    keys = zip(*(table[name].to_pylist() for name in _KEYS), strict=True)
    return dict(zip(keys, table["rank_realistic"].to_pylist(), strict=True))


def main(
    name: Annotated[str, typer.Argument(help="Name of the result.")],
    held: Annotated[list[Path], typer.Option(help="Run with a holdout. May be given often.")],
    full: Annotated[list[Path], typer.Option(help="Run that saw all entities of the same store, one for each --held.")],
    command: Annotated[str, typer.Option(help="Command the runs were made with.")],
    note: Annotated[list[str] | None, typer.Option(help="How the settings were chosen.")] = None,
) -> None:
    """Write a result from run folders."""
    pairs = list(zip(map(RunFolder, held), map(RunFolder, full), strict=True))
    record = {
        "name": name,
        "date": today(),
        "command": command,
        "machine": {key: value for key, value in describe_machine().items() if key != "load_at_start"},
        "versions": pairs[0][0].read_status()["versions"],
        "notes": note or [],
        "runs": {one.path.name: describe(one, other) for one, other in pairs},
    }
    print(save_record(record))


if __name__ == "__main__":
    typer.run(main)
