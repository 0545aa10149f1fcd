"""Texts of entities, from a table, a folder, Parquet, WebDataset shards or their own names, to a text modality."""

from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field

from snag_dist.config import Config
from snag_dist.store.encoders import HashingConfig, TextEncoderConfig, resolve
from snag_dist.store.media.folder import FolderConfig
from snag_dist.store.media.parquet import MediaParquetConfig
from snag_dist.store.media.webdataset import WebdatasetConfig
from snag_dist.store.modality import Modality, match_keys
from snag_dist.store.name_texts import NamesConfig
from snag_dist.store.opened import Store
from snag_dist.store.schema import FeatureDtype
from snag_dist.store.sentences import SentenceFileConfig

TextSourceConfig = Annotated[
    SentenceFileConfig | FolderConfig | MediaParquetConfig | WebdatasetConfig | NamesConfig,
    Field(discriminator="kind"),
]


class TextConfig(Config):
    """Vectors of texts, one an entity."""

    kind: Literal["text"] = "text"
    """Tells this kind of features from the others."""
    source: TextSourceConfig
    """Where the texts are."""
    encoder: TextEncoderConfig = HashingConfig()
    """What makes vectors of them."""
    dtype: FeatureDtype = "float16"
    """Type of the stored numbers."""

    def hashes(self) -> list[str]:
        """Return hashes of the texts and of the model that makes the vectors.

        Raises:
            DataError: one of them is not found, or see `open`.
        """
        return [self.source.identity("texts"), resolve(self.encoder).record.weights_sha256]

    def open(self, store: Store, scratch: Path) -> Modality:
        """Read the texts and join them to the rows of a store.

        Raises:
            DataError: the source or one of its columns is missing, a line is malformed, a key repeats, or the
                encoder's model is not found.
        """
        encoder = resolve(self.encoder)
        source = self.source
        texts = source.read_texts(store) if isinstance(source, NamesConfig) else source.read_texts()
        matches = match_keys(store, texts.keys, are_ids=source.keys == "id", place=texts.place)
        payload = texts.texts.take(pa.array(matches.positions))
        return Modality(
            rows=matches.rows,
            payload=payload,
            encoder=encoder,
            place=lambda index: texts.place(int(matches.positions[index])),
            source=texts.source,
            unknown_keys=matches.unknown,
            problems=texts.problems,
            show=lambda index: payload[index].as_py(),
        )
