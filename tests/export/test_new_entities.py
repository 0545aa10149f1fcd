"""Entities that training never saw: ranked by codes of their modalities alone, the same at any W, told in the card."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from distributed import run_distributed

import snag_dist
from snag_dist.errors import ConfigError, DataError
from snag_dist.export.directory import export_run
from snag_dist.export.network import load_hf
from snag_dist.export.source import RunSource
from snag_dist.shard.group import Group
from snag_dist.store.holdout import HoldoutConfig, NewEntities
from snag_dist.store.opened import open_store
from snag_dist.training.graph import open_graph
from snag_dist.training.recipe import Recipe, load_recipe
from snag_dist.training.run_folder import RunFolder, write_json
from snag_dist.training.worker import Worker, WorkerContext

pytestmark = [pytest.mark.ray, pytest.mark.distributed]

RECIPE = Path(__file__).parents[2] / "jobs" / "recipes" / "world.toml"
HOLDOUT = HoldoutConfig(share=0.1, seed=2)


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(
        RECIPE,
        [
            f"store={folder}/store",
            f"runs={folder}/runs",
            "variants={}",
            "ingest.source.num_entities=300",
            "holdout.share=0.1",
            "holdout.seed=2",
            "train.epochs=4",
            "train.evaluate_every=2",
            "train.batch_size=256",
            "method.encoder.width=32",
            "method.encoder.row_dropout=0.3",
            "cluster.num_workers=1",
            *overrides,
        ],
    )


def ignore(metrics: dict[str, Any]) -> None:
    """Report to nobody."""


@pytest.fixture(scope="module")
def folder(local_ray: None, group: Group, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("holdout")
    chosen = recipe(path)
    snag_dist.ingest(chosen)
    write_json(RunFolder(chosen.run_path).config, chosen.to_tree())
    triples = open_graph(chosen).triples("train")
    Worker(chosen, WorkerContext(group=group, report=ignore, triples=triples)).train()
    return path


def score_again(group: Group, tree: dict[str, Any]) -> dict[str, Any]:
    return Worker(Recipe.model_validate(tree), WorkerContext(group=group, report=ignore)).evaluate("new")


def ranks_of(run: Path) -> dict[tuple[int, int, int, str], float]:
    table = pq.read_table(RunFolder(run).ranks("new")).to_pydict()
    keys = zip(table["head"], table["relation"], table["tail"], table["direction"], strict=True)
    return dict(zip(keys, table["rank_realistic"], strict=True))


def test_ranks_are_those_of_codes_from_the_exported_encoder(folder: Path, tmp_path: Path) -> None:
    run = folder / "runs" / "world"
    found = ranks_of(run)
    source, whole = RunSource.open(run), open_store(folder / "store")
    new = NewEntities.of(whole, HOLDOUT)
    assert len(found) == 2 * len(new.triples_of_new())
    model = load_hf().SnagEncoder.from_pretrained(export_run(run, tmp_path / "out"))
    codes = torch.empty(whole.num_entities, 32)
    row_of_known = new.rows_of_ids[new.partition(1).ids_of_known(np.arange(source.store.num_entities))]
    codes[row_of_known] = model(entity_ids=torch.arange(source.store.num_entities)).pooled
    names = source.encoder.modalities
    gathered = {name: new.features(name, None).gather(new.rows) for name in names}
    no_row = torch.zeros(len(new.rows), dtype=torch.bool)
    mask = torch.stack([no_row, *(torch.from_numpy(gathered[name][1]) for name in names)])
    vectors = {name: torch.from_numpy(gathered[name][0].astype(np.float32)) for name in names}
    blank = ~mask.any(dim=0)
    assert not blank.any()
    codes[new.rows] = model(features=vectors, mask=mask.T).pooled
    known_true = np.concatenate([whole.triples(split) for split in ("train", "valid", "test")])
    off = 0
    for (head, relation, tail, direction), rank in found.items():
        find_tail = direction == "tail"
        known, answer, fixed, asked = (head, tail, 0, 2) if find_tail else (tail, head, 2, 0)
        query = source.task.queries(codes[[known]], torch.tensor([relation]), torch.tensor([find_tail]))
        scores = source.task.scorer.score(query, codes)[0]
        others = known_true[(known_true[:, fixed] == known) & (known_true[:, 1] == relation), asked]
        scores[[other for other in others if other != answer]] = -torch.inf
        better, equal = (scores > scores[answer]).sum(), (scores == scores[answer]).sum() - 1
        off += abs(float(better + 1 + equal / 2) - rank) > 1
    # The last bit of a code may move a rank where candidates lie close together.
    assert off <= 0.01 * len(found)


def test_two_workers_rank_alike(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.rmtree(RunFolder(tmp_path / "runs" / "world").ranks("new"))
    tree = {**recipe(folder).to_tree(), "runs": str(tmp_path / "runs")}
    report = run_distributed(score_again, 2, tree)[0]
    alone, together = ranks_of(folder / "runs" / "world"), ranks_of(tmp_path / "runs" / "world")
    assert alone.keys() == together.keys()
    assert np.mean([alone[key] != together[key] for key in alone]) < 0.01
    sides = {piece["name"] for piece in report["slices"] if piece["group"] == "held out of training"}
    assert {"known entity", "answer"} <= sides <= {"known entity", "answer", "both"}


def test_the_card_tells_the_gap(folder: Path, tmp_path: Path) -> None:
    run = folder / "runs" / "world"
    out = export_run(run, tmp_path / "out")
    card, provenance = (out / "README.md").read_text(), json.loads((out / "provenance.json").read_text())
    test, new = (json.loads(RunFolder(run).metrics(split).read_text())["metrics"] for split in ("test", "new"))
    assert f"| trained entities, test split | {test['realistic']['mrr']:.4f} |" in card
    assert f"| new entities | {new['realistic']['mrr']:.4f} |" in card
    assert "by how much was not measured" not in card
    assert provenance["metrics_of_new_entities"] == new
    # They are no rows of the export.
    num_rows = json.loads((out / "config.json").read_text())["num_entities"]
    assert num_rows == RunSource.open(run).store.num_entities < 300


def test_a_limit_is_kept_and_a_run_that_saw_all_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.rmtree(RunFolder(tmp_path / "runs" / "world").ranks("new"))
    report = snag_dist.evaluate(tmp_path / "runs" / "world", "new", ["evaluate.max_new_triples=20"])
    # Ranks of one limit are not taken for those of another.
    with pytest.raises(DataError, match=r"remove the folder and evaluate again"):
        snag_dist.evaluate(tmp_path / "runs" / "world", "new", ["evaluate.max_new_triples=30"])
    assert report["protocol"]["num_triples"] == 20
    assert report["protocol"]["num_candidates"] == 300
    config = tmp_path / "runs" / "world" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "holdout": None}))
    with pytest.raises(ConfigError, match=r"--split new: expected a run that was trained without some entities"):
        snag_dist.evaluate(tmp_path / "runs" / "world", "new")


def test_a_holdout_of_alignment_is_refused_and_variants_without_modalities_rank_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holdout: expected a method of completion, got 'snag_alignment'"):
        recipe(tmp_path, "method.kind=snag_alignment")
    # The recipes that come along have such a variant: it trains on the same graph.
    runs = load_recipe(RECIPE, ["holdout.share=0.1"]).with_variants()
    ranks_new = {run.name: run.ranks_new for run in runs}
    assert ranks_new == {"world": True, "world-graph-only": False, "world-gmnm-off": True}
