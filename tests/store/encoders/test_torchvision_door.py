import subprocess
import sys
from pathlib import Path

import pytest

BROKEN_TORCHVISION = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold):
    return dets
"""


def run(program: str, *paths: Path) -> str:
    """Run a program in a process where nothing was imported before."""
    setup = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    done = subprocess.run([sys.executable, "-c", setup + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A torchvision whose extension does not load, as one built for another torch."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(BROKEN_TORCHVISION)
    (package / "_C.so").write_bytes(b"no library")
    return tmp_path


def test_a_torchvision_without_its_extension_can_be_imported(broken: Path):
    with pytest.raises(AssertionError, match="operator torchvision::nms does not exist"):
        run("import torchvision", broken)
    program = """
from snag_dist.store.encoders.torchvision_door import open_torchvision
first = open_torchvision()
import torchvision
print(first, open_torchvision())
"""
    assert run(program, broken) == "True True"


def test_a_torchvision_that_works_is_left_alone(broken: Path):
    # The operators are there already, as after loading an extension that fits.
    program = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from snag_dist.store.encoders.torchvision_door import open_torchvision
print(open_torchvision())
"""
    assert run(program, broken) == "False"


def test_without_torchvision_not_even_torch_is_imported():
    program = """
import importlib.util
importlib.util.find_spec = lambda name: None
from snag_dist.store.encoders.torchvision_door import open_torchvision
print(open_torchvision(), "torch" in sys.modules)
"""
    assert run(program) == "False False"


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_an_actor_that_loads_a_clip_goes_through_the_door(tower: str, tiny_clip: Path):
    program = f"""
from snag_dist.store.encoders import *
model = {str(tiny_clip)!r}
if {tower!r} == "vision":
    resolved = resolve_vision(OpenClipConfig(model=model))
else:
    resolved = resolve(OpenClipTextConfig(model=model))
assert "torch" not in sys.modules
print(resolved.spec.load().width)
"""
    assert run(program) == "32"


def test_an_actor_that_loads_a_sentence_model_goes_through_the_door(tiny_model: Path):
    program = f"""
from snag_dist.store.encoders import *
resolved = resolve(SentenceTransformersConfig(model={str(tiny_model)!r}))
assert "torch" not in sys.modules
print(resolved.spec.load().width)
"""
    assert run(program) == "32"
