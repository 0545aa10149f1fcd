from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.opened import Store
from snag_dist.store.samples import draw_contact_sheet, read_samples

pytestmark = pytest.mark.ray


def test_samples_are_the_sentences_and_pictures_of_the_first_rows(world: WorldConfig, world_store: Store):
    samples = read_samples(world_store)
    ids = np.argsort(world_store.rows_of_source_ids)
    made = World(world)
    assert sorted(samples) == list(range(256))
    assert samples[3]["text"] == made.texts(ids[3:4])[0]
    pictures, shown = made.pictures(ids[:256])
    assert {row for row in samples if "vision" in samples[row]} == set(np.flatnonzero(shown).tolist())
    row = int(np.flatnonzero(shown)[0])
    np.testing.assert_array_equal(np.asarray(samples[row]["vision"]), pictures[row])


def test_the_contact_sheet_is_a_picture_of_24_entities(world_store: Store, tmp_path: Path):
    assert draw_contact_sheet(world_store, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (1440, 1240)
        # Drawn on, not blank.
        assert len(np.unique(np.asarray(sheet.convert("L")))) > 50


def test_a_store_without_anything_to_see_has_no_sheet(letter_store: Store, tmp_path: Path):
    assert not draw_contact_sheet(letter_store, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
