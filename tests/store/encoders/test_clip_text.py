from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from snag_dist.errors import ConfigError
from snag_dist.store.encoders import OpenClipTextConfig, resolve
from snag_dist.store.encoders.clip_text import _cutter_of

open_clip = pytest.importorskip("open_clip")
torch = pytest.importorskip("torch")

SHORT = ["a city", "the north", ""]
# Ten words, each one token; a window of 8 holds six of them.
LONG = "a city in the north a city in the south"


def encode(config: OpenClipTextConfig, sentences: list[str]) -> np.ndarray:
    return resolve(config).spec.load().vectors(pa.array(sentences, pa.large_string()))


def direct(folder: Path, sentences: list[str]) -> np.ndarray:
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        return model.eval().encode_text(tokenizer(sentences)).numpy()


@pytest.fixture(params=["tiny_clip", "tiny_word_clip"])
def clip(request: pytest.FixtureRequest) -> Path:
    """Each kind of tokenizer."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("long_texts", ["truncate", "mean"])
def test_short_texts_are_open_clips_either_way(clip: Path, long_texts: str):
    config = OpenClipTextConfig(model=str(clip), normalize=False, long_texts=long_texts)
    made = encode(config, SHORT)
    assert made.dtype == np.float32 and made.shape == (3, 32)
    np.testing.assert_allclose(made, direct(clip, SHORT), rtol=1e-5, atol=1e-6)
    assert np.abs(made[0] - made[1]).max() > 1e-3


def test_a_long_text_is_cut_as_open_clip_cuts_it(clip: Path):
    made = encode(OpenClipTextConfig(model=str(clip), normalize=False), [LONG])
    np.testing.assert_allclose(made, direct(clip, [LONG]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made, direct(clip, ["a city in the north a"]), rtol=1e-5, atol=1e-6)


def test_the_mean_of_windows_weighs_them_by_their_words(clip: Path):
    config = OpenClipTextConfig(model=str(clip), normalize=False, long_texts="mean", batch_size=2)
    made = encode(config, ["a city", LONG, "the north"])
    first, second = direct(clip, ["a city in the north a", "city in the south"])
    np.testing.assert_allclose(made[1], (6 * first + 4 * second) / 10, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made[[0, 2]], direct(clip, ["a city", "the north"]), rtol=1e-5, atol=1e-6)
    scaled = encode(config.model_copy(update={"normalize": True, "truncate": 5}), [LONG])
    np.testing.assert_allclose(scaled[0], made[1, :5] / np.linalg.norm(made[1, :5]), rtol=1e-5, atol=1e-6)


def test_half_precision_is_close(tiny_clip: Path):
    full = encode(OpenClipTextConfig(model=str(tiny_clip)), SHORT)
    half = encode(OpenClipTextConfig(model=str(tiny_clip), dtype="bfloat16"), SHORT)
    assert 0 < np.abs(full - half).max() < 0.02


def test_no_texts_give_no_vectors(tiny_clip: Path):
    assert encode(OpenClipTextConfig(model=str(tiny_clip)), []).shape == (0, 32)


def test_tokens_of_a_long_text_are_never_drawn_at_random(tiny_clip: Path, tmp_path: Path):
    for file in tiny_clip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config_file = tmp_path / "open_clip_config.json"
    text = config_file.read_text().replace('"heads": 2', '"heads": 2, "tokenizer_kwargs": {"reduction_mask": "random"}')
    config_file.write_text(text)
    made = encode(OpenClipTextConfig(model=str(tmp_path), normalize=False), [LONG] * 3)
    np.testing.assert_allclose(made, direct(tiny_clip, [LONG] * 3), rtol=1e-5, atol=1e-6)


def test_windows_of_a_tokenizer_we_do_not_know_are_refused():
    with pytest.raises(
        ConfigError, match="encoder.long_texts: expected a model with open_clip's own .* got object; set"
    ):
        _cutter_of(object())


def test_the_record_says_text_tower(tiny_clip: Path):
    assert resolve(OpenClipTextConfig(model=str(tiny_clip))).record.name == f"open_clip {tiny_clip} text tower"
