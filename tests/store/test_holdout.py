"""Entities held out of training: a store without them, and all that the whole one knows of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.evaluation.slices import EntityFacts
from snag_dist.store.gather import FeatureRows
from snag_dist.store.holdout import HoldoutConfig, NewEntities, without_held
from snag_dist.store.opened import Store, open_store

pytestmark = pytest.mark.ray
CONFIG = HoldoutConfig(share=0.1, seed=4)
Fact = tuple[str, int, str]


@pytest.fixture
def store(world_store: Store, tmp_path: Path) -> Store:
    return open_store(shutil.copytree(world_store.path, tmp_path / "world"))


def facts(store: Store, split: str) -> set[Fact]:
    keys = store.entities()["key"].to_pylist()
    return {(keys[head], relation, keys[tail]) for head, relation, tail in store.triples(split).tolist()}


def test_what_is_left_has_no_triple_of_theirs_and_all_others(store: Store) -> None:
    known = without_held(store, CONFIG)
    whole_keys, known_keys = (set(one.entities()["key"].to_pylist()) for one in (store, known))
    held = whole_keys - known_keys
    assert known_keys < whole_keys
    assert 15 <= len(held) <= 45
    for split in ("train", "valid", "test"):
        expected = {fact for fact in facts(store, split) if not held & {fact[0], fact[2]}}
        assert facts(known, split) == expected
    record = known.manifest.holdout
    assert record is not None
    assert (record.share, record.seed, record.parent_fingerprint) == (0.1, 4, store.fingerprint)
    assert known.path == store.path / "holdouts" / "0.1-4"
    assert known.manifest.source == f"all but {len(held)} entities of {store.manifest.source}"
    known.verify()


def test_the_draw_is_kept_and_another_seed_draws_others(store: Store) -> None:
    first = without_held(store, CONFIG)
    stamp = (first.path / "manifest.json").stat().st_mtime_ns
    assert without_held(store, CONFIG).fingerprint == first.fingerprint
    assert (first.path / "manifest.json").stat().st_mtime_ns == stamp
    assert without_held(store, HoldoutConfig(share=0.1, seed=5)).fingerprint != first.fingerprint


def test_all_are_numbered_anew_and_found_again(store: Store) -> None:
    known = without_held(store, CONFIG)
    new = NewEntities.of(store, CONFIG)
    keys, known_keys = (one.entities()["key"].to_pylist() for one in (store, known))
    joint = new.partition(3)
    assert sorted(new.joint_ids) == list(range(store.num_entities))
    # A known entity is where its row of the store that was trained on says.
    for row, id_ in enumerate(joint.ids_of_known(np.arange(known.num_entities))):
        assert keys[new.rows_of_ids[id_]] == known_keys[row]
    for number, id_ in enumerate(joint.ids_of_new(np.arange(len(new.rows)))):
        assert new.rows_of_ids[id_] == new.rows[number]
        assert keys[new.rows[number]] not in known_keys
    told = {tuple(fact) for fact in new.triples_of_new().tolist()}
    everything = set().union(*(facts(store, split) for split in ("train", "valid", "test")))
    left = set().union(*(facts(known, split) for split in ("train", "valid", "test")))
    named = {(keys[new.rows_of_ids[h]], r, keys[new.rows_of_ids[t]]) for h, r, t in told}
    assert named == everything - left
    assert len(named) == len(told) > 0


def test_their_vectors_are_those_of_the_whole_store(store: Store) -> None:
    new = NewEntities.of(store, CONFIG)
    vectors, present = new.features("vision", None).gather(new.rows)
    expected, has = FeatureRows.open(store, "vision", 0, store.num_entities).gather(new.rows)
    assert np.array_equal(vectors, expected)
    assert np.array_equal(present, has)


def test_workers_find_it_and_do_not_make_it(store: Store) -> None:
    with pytest.raises(DataError, match=r"holdouts/0\.1-4.*: expected"):
        without_held(store, CONFIG, make=False)
    assert not (store.path / "holdouts").exists()
    known = without_held(store, CONFIG)
    assert without_held(store, CONFIG, make=False).fingerprint == known.fingerprint
    manifest = known.path / "manifest.json"
    text = manifest.read_text().replace(known.manifest.identity, "0" * 64)
    manifest.write_text(text)
    with pytest.raises(DataError, match=r"holdouts/0\.1-4: expected all but \d+ entities .*start the run again"):
        without_held(store, CONFIG, make=False)
    assert manifest.read_text() == text


def test_slices_know_who_is_new_and_what_the_others_have(store: Store) -> None:
    known = without_held(store, CONFIG)
    new = NewEntities.of(store, CONFIG)
    alone = EntityFacts.of_store(known, ("vision",))
    facts = alone.of_whole(new, {"vision": new.features("vision", None)})
    keys, known_keys = (one.entities()["key"].to_pylist() for one in (store, known))
    row_of = {key: row for row, key in enumerate(keys)}
    present = FeatureRows.open(store, "vision", 0, store.num_entities).present
    assert facts.new is not None
    assert {keys[row] for row in np.flatnonzero(facts.new)} == set(keys) - set(known_keys)
    assert [facts.degree[row_of[key]] for key in known_keys] == alone.degree.tolist()
    assert not facts.degree[facts.new].any()
    assert np.array_equal(facts.present["vision"], present)


def test_what_cannot_be_held_out_is_told(store: Store, pair_store: Store) -> None:
    with pytest.raises(
        DataError, match=r"holdout\.share: .* some of 300 entities out, got 1e-06 and 0; choose another"
    ):
        without_held(store, HoldoutConfig(share=1e-6))
    with pytest.raises(ConfigError, match=r"expected a store of one graph, got two with links"):
        without_held(pair_store, CONFIG)
