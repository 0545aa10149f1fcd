"""FAISS: an index of the codes by cosine, and beside it the few lines that search it."""

import math
import shutil

import torch

from snag_dist.config import Config
from snag_dist.errors import ConfigError
from snag_dist.export.consumers.handed import Handed
from snag_dist.export.hf import search_snag

_EXACT_UP_TO = 200_000
_SAMPLE = 100_000


class FaissConfig(Config):
    """Which index is built."""

    factory: str | None = None
    """Description for `faiss.index_factory`; unset: exact (`Flat`) up to 200,000 entities, beyond that inverted lists
    of 8-bit vectors, which are searched in part."""


def require_faiss() -> None:
    """Refuse where faiss is not installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import faiss  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            "--to faiss: expected faiss, which is not installed; pip install 'snag-dist[export]'"
        ) from error


def write_faiss(handed: Handed, config: FaissConfig) -> None:
    """Build the index block by block; position in it is row.

    Raises:
        ConfigError: faiss does not know the description.
    """
    import faiss

    factory = config.factory or _choose(handed.num_entities)
    try:
        index = faiss.index_factory(handed.width, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise ConfigError(
            f"faiss.factory: expected what faiss.index_factory takes, got {factory!r}: {reason}"
        ) from error
    if not index.is_trained:
        # Rows are in random order, so the first of them are a sample.
        index.train(search_snag.unit(handed.codes(torch.arange(min(_SAMPLE, handed.num_entities))).numpy()))
    for rows in handed.row_blocks():
        index.add(search_snag.unit(handed.codes(rows).numpy()))
    faiss.write_index(index, str(handed.folder / search_snag.INDEX))
    shutil.copyfile(search_snag.__file__, handed.folder / "search_snag.py")


def _choose(num_entities: int) -> str:
    return "Flat" if num_entities <= _EXACT_UP_TO else f"IVF{round(4 * math.sqrt(num_entities))},SQ8"
