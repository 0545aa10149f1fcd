from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.world import World, WorldConfig
from snag_dist.store.gather import FeatureRows
from snag_dist.store.opened import Store
from snag_dist.store.world_features import WorldPixelsConfig, WorldTextConfig

pytestmark = pytest.mark.ray


def test_pixels_are_the_worlds_pictures_averaged_and_scaled(world: WorldConfig, world_store: Store):
    pictures, present = World(world).pictures(np.arange(300))
    rows = world_store.rows_of_source_ids
    gathered, has_picture = FeatureRows.open(world_store, "vision", 0, 300).gather(np.arange(300))
    np.testing.assert_array_equal(has_picture[rows], present)
    source_id = int(np.flatnonzero(present)[7])
    # The square of rows 4..7 and columns 8..11, its red: first of the three numbers of square 4 * 1 + 2.
    red = pictures[source_id, 4:8, 8:12, 0].mean() / 127.5 - 1
    assert gathered[rows[source_id]][(4 * 1 + 2) * 3] == pytest.approx(red, abs=1e-3)
    assert np.abs(gathered).max() <= 1


def test_sentences_are_those_of_the_world(world: WorldConfig, world_store: Store, tmp_path: Path):
    modality = WorldTextConfig().open(world_store, tmp_path)
    told = World(world).texts(np.arange(300))
    assert modality.payload.to_pylist()[world_store.rows_of_source_ids[17]] == told[17]
    assert world_store.feature("text").coverage == 1.0


def test_another_store_has_no_pictures(letter_store: Store, tmp_path: Path):
    with pytest.raises(DataError, match="expected the store of a generated world, got one of tsv"):
        WorldPixelsConfig().open(letter_store, tmp_path)


def test_squares_must_fit_the_picture(world_store: Store, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"pool: expected a divisor of the pictures' side \(16\), got 5"):
        WorldPixelsConfig(pool=5).open(world_store, tmp_path)
