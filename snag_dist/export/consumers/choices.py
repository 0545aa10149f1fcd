"""The consumers one may ask for, and the one way in."""

from pathlib import Path
from typing import Literal

from snag_dist.config import Config
from snag_dist.export.consumers.faiss_index import FaissConfig, require_faiss, write_faiss
from snag_dist.export.consumers.handed import Handed
from snag_dist.export.consumers.kblam import write_kblam
from snag_dist.export.consumers.kopa import write_kopa
from snag_dist.export.consumers.llava import LlavaConfig, require_llm, write_llava
from snag_dist.export.consumers.parquet import write_parquet
from snag_dist.export.hf.tables_snag import open_tables
from snag_dist.export.source import RunSource

Consumer = Literal["kopa", "kblam", "llava", "faiss", "parquet"]


class ConsumersConfig(Config):
    """For whom files are written beside the export's own."""

    to: tuple[Consumer, ...] = ()
    """Consumers; each has a folder of its name in the export."""
    llava: LlavaConfig = LlavaConfig()
    """The projector."""
    faiss: FaissConfig = FaissConfig()
    """The index."""


def check_consumers(config: ConsumersConfig) -> None:
    """Refuse, before anything is written, what cannot be.

    Raises:
        ConfigError: a package or a path is missing.
    """
    if "faiss" in config.to:
        require_faiss()
    if "llava" in config.to:
        require_llm(config.llava)


def write_consumers(export: Path, source: RunSource, config: ConsumersConfig) -> None:
    """Write the files of every consumer asked for.

    Args:
        export: the export in the making; its entity tables and `entities.parquet` are written.
        source: the run behind it.
        config: which, and how.
    """
    for consumer in config.to:
        folder = export / consumer
        folder.mkdir(exist_ok=True)
        handed = Handed(folder, source, open_tables(export))
        if consumer == "kopa":
            write_kopa(handed)
        elif consumer == "kblam":
            write_kblam(handed)
        elif consumer == "llava":
            write_llava(handed, config.llava)
        elif consumer == "faiss":
            write_faiss(handed, config.faiss)
        else:
            write_parquet(handed)
