"""Weights of modalities by presence: hand-computed means, and that parts add up to the whole."""

from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import ConfigError, DataError, NumericError, ShapeError
from snag_dist.evaluation.modality_weights import ModalityWeights, PatternWeights, read_weights, weigh

NAMES = ("graph", "text", "vision")
CONFIDENCE = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.7, 0.3, 0.0], [1.0, 0.0, 0.0], [0.4, 0.6, 0.0]])
PRESENT = CONFIDENCE > 0


def test_means_by_hand() -> None:
    weights = ModalityWeights.of(weigh(CONFIDENCE, PRESENT, NAMES))
    assert [(pattern.name, pattern.num_entities) for pattern in weights.patterns] == [
        ("graph+text", 3),
        ("graph", 1),
        ("graph+text+vision", 1),
    ]
    assert weights.patterns[0].mean == pytest.approx({"graph": 1.6 / 3, "text": 1.4 / 3, "vision": 0.0})
    assert weights.patterns[2].mean == pytest.approx({"graph": 0.2, "text": 0.3, "vision": 0.5})


def test_a_present_token_without_weight_belongs_to_its_pattern() -> None:
    weights = ModalityWeights.of(weigh(np.array([[1.0, 0.0]]), np.array([[True, True]]), ("graph", "text")))
    assert weights.patterns == (
        PatternWeights(present=("graph", "text"), num_entities=1, mean={"graph": 1.0, "text": 0.0}),
    )


def test_parts_add_up_to_the_whole_however_they_are_cut() -> None:
    generator = np.random.default_rng(0)
    present = generator.random((101, 3)) < 0.5
    # Multiples of 2^-10: sums are exact in any order.
    confidence = (generator.integers(0, 1024, (101, 3)) / 1024 * present).astype(np.float32)
    whole = ModalityWeights.of(weigh(confidence, present, NAMES))
    assert len(whole.patterns) == 8
    for cuts in ([50], [0, 1, 2, 100], [7, 7, 80]):
        blocks = zip(np.split(confidence, cuts), np.split(present, cuts), strict=True)
        first, *others = [weigh(block, mask, NAMES) for block, mask in blocks]
        for other in others:
            first = first + other
        assert ModalityWeights.of(first) == whole


def test_no_entity_gives_no_pattern() -> None:
    empty = weigh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.bool_), NAMES)
    assert ModalityWeights.of(empty).patterns == ()
    assert ModalityWeights.of(empty + weigh(CONFIDENCE, PRESENT, NAMES)).patterns[0].num_entities == 3


def test_seeds_count_alike() -> None:
    one = ModalityWeights.of(weigh(CONFIDENCE, PRESENT, NAMES))
    two = ModalityWeights.of(weigh(np.array([[0.0, 1.0, 0.0]]), PRESENT[:1], NAMES))
    average = ModalityWeights.average([one, two])
    by_name = {pattern.name: pattern for pattern in average.patterns}
    assert by_name["graph+text"].num_entities == 2
    assert by_name["graph+text"].mean == pytest.approx({"graph": 0.8 / 3, "text": (1.4 / 3 + 1) / 2, "vision": 0.0})
    assert by_name["graph"].mean["graph"] == 1.0
    with pytest.raises(DataError, match=r"weights\.json: expected the tokens graph, text, vision in all runs"):
        ModalityWeights.average([one, ModalityWeights(names=("graph",), patterns=())])


def test_json_and_files_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "run" / "weights.json"
    with pytest.raises(DataError, match=r"weights\.json: expected the weights of the modalities, found none"):
        read_weights(path)
    weights = ModalityWeights.of(weigh(CONFIDENCE, PRESENT, NAMES))
    weights.write(path)
    assert read_weights(path) == weights
    path.write_text("{")
    with pytest.raises(DataError, match=r"weights\.json: expected JSON, got"):
        read_weights(path)
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"weights\.json: names: required"):
        read_weights(path)


def test_wrong_arrays_are_named() -> None:
    with pytest.raises(ShapeError, match=r"expected \(N, 2\) confidence and presence for graph, text, got \(5, 3\)"):
        weigh(CONFIDENCE, PRESENT, ("graph", "text"))
    with pytest.raises(ShapeError, match="expected at most 62 distinct tokens, got"):
        weigh(CONFIDENCE, PRESENT, ("graph", "text", "text"))
    broken = CONFIDENCE.copy()
    broken[3, 1] = np.nan
    with pytest.raises(NumericError, match="weights row 3: expected finite weights"):
        weigh(broken, PRESENT, NAMES)
    with pytest.raises(ShapeError, match=r"expected tokens \('graph', 'text', 'vision'\), got \('a',\)"):
        _ = weigh(CONFIDENCE, PRESENT, NAMES) + weigh(np.ones((1, 1)), np.ones((1, 1), dtype=np.bool_), ("a",))
