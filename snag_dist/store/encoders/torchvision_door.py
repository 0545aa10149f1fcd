"""The one door to torchvision, and through it to open_clip, timm, transformers and sentence-transformers.

PyPI's torchvision is built against CUDA. Beside a CPU build of torch its extension does not load, and then
importing torchvision ends with "operator torchvision::nms does not exist", because it describes two operators
that only the extension defines. Nothing here needs those operators: declaring them is enough for the import.

Whoever imports one of the five packages calls `open_torchvision` first.
"""

import importlib.util
import sys
from pathlib import Path

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")
# A library that nothing refers to takes its operators with it.
_libraries: list[object] = []


def open_torchvision() -> bool:
    """Make torchvision importable in this process, once.

    Where torchvision is not installed, is already imported, or has an extension that loads, nothing is
    changed.

    Returns:
        Whether the operators had to be declared.
    """
    if _libraries or "torchvision" in sys.modules:
        return bool(_libraries)
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return False

    import torch

    _load_extension(Path(next(iter(spec.submodule_search_locations))))
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return False
    # torchvision may declare other operators elsewhere, hence a fragment.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library.define(name + _SIGNATURE)
    _libraries.append(library)
    return True


def _load_extension(folder: Path) -> None:
    import torch

    for path in sorted(folder.glob("_C.*")):
        try:
            torch.ops.load_library(str(path))
        except OSError:
            # It was built against another torch: what it would have defined is declared above.
            continue
