from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snag_dist.errors import ConfigError, ResourceError
from snag_dist.store.encoders import OpenClipConfig, hash_model, resolve_vision

open_clip = pytest.importorskip("open_clip")
torch = pytest.importorskip("torch")


def pictures(count: int = 5) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20 + 7 * i, 50, 3), dtype=np.uint8)) for i in range(count)]


def encode(config: OpenClipConfig) -> np.ndarray:
    encoder = resolve_vision(config).spec.load()
    return encoder.encode([encoder.prepare(picture) for picture in pictures()])


def test_the_image_tower_is_open_clips(tiny_clip: Path):
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tiny_clip}")
    with torch.inference_mode():
        direct = model.eval().encode_image(torch.stack([transform(picture) for picture in pictures()]))
    made = encode(OpenClipConfig(model=str(tiny_clip), normalize=False))
    assert made.dtype == np.float32 and made.shape == (5, 32)
    np.testing.assert_allclose(made, direct.numpy(), rtol=1e-5, atol=1e-6)
    # The model's own mean and deviation are used: those of open_clip's default would give other numbers.
    other = open_clip.image_transform(32, is_train=False)(pictures()[0])
    assert np.abs(other.numpy() - transform(pictures()[0]).numpy()).max() > 0.1


def test_cut_first_then_scaled(tiny_clip: Path):
    whole = encode(OpenClipConfig(model=str(tiny_clip), normalize=False))
    cut = encode(OpenClipConfig(model=str(tiny_clip), truncate=3))
    by_hand = whole[:, :3] / np.sqrt((whole[:, :3] ** 2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(cut, by_hand, rtol=1e-5, atol=1e-6)
    assert resolve_vision(OpenClipConfig(model=str(tiny_clip), truncate=3)).spec.load().width == 3


def test_more_columns_than_there_are_is_refused_on_the_driver(tiny_clip: Path):
    with pytest.raises(
        ConfigError, match=r"encoder.truncate: expected at most the model's width \(32\), got 33; lower"
    ):
        resolve_vision(OpenClipConfig(model=str(tiny_clip), truncate=33))


def test_half_precision_is_close_but_not_the_same(tiny_clip: Path):
    full = encode(OpenClipConfig(model=str(tiny_clip)))
    half = encode(OpenClipConfig(model=str(tiny_clip), dtype="bfloat16"))
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.02


def test_batches_do_not_matter(tiny_clip: Path):
    encoder = resolve_vision(OpenClipConfig(model=str(tiny_clip), batch_size=2)).spec.load()
    assert encoder.batch_size == 2
    prepared = [encoder.prepare(picture) for picture in pictures()]
    assert prepared[0].shape == (3, 32, 32) and prepared[0].dtype == np.float32
    at_once = encode(OpenClipConfig(model=str(tiny_clip)))
    np.testing.assert_allclose(encoder.encode(prepared), at_once, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(encoder.encode(np.stack(prepared)), encoder.encode(prepared))
    assert encoder.encode([]).shape == (0, 32)


def test_threads_do_not_matter(tiny_clip: Path):
    encoder = resolve_vision(OpenClipConfig(model=str(tiny_clip))).spec.load()
    many = pictures() * 8
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encoder.prepare, many))
    for picture, prepared in zip(many, together, strict=True):
        np.testing.assert_array_equal(encoder.prepare(picture), prepared)


def test_the_record_names_tower_and_weights(tiny_clip: Path):
    resolved = resolve_vision(OpenClipConfig(model=str(tiny_clip), num_actors=3))
    assert resolved.record.name == f"open_clip {tiny_clip} image tower"
    assert resolved.record.revision.startswith("open_clip_torch ")
    assert resolved.record.weights_sha256 == hash_model(tiny_clip)
    assert resolved.num_actors == 3 and resolved.num_gpus == 0
    assert resolve_vision(OpenClipConfig(model=str(tiny_clip), device="cuda")).num_gpus == 1


def test_a_gpu_that_is_not_there_is_told(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="encoder.device: expected a GPU that torch can use, found none"):
        resolve_vision(OpenClipConfig(model=str(tiny_clip), device="cuda")).spec.load()
