"""Two graphs with links as a source: both in one space of rows, every triple for training, links unsplit."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from snag_dist.config import Config
from snag_dist.errors import DataError
from snag_dist.kg.alignment import GraphPair
from snag_dist.kg.alignment_formats import link_files, read_alignment
from snag_dist.kg.truth import Ids
from snag_dist.store.schema import LINK_SCHEMA, LINKS, SOURCE_ID_SCHEMA, SOURCE_IDS

_REQUIRED = ("ent_ids_1", "ent_ids_2", "triples_1", "triples_2")
_ATTRIBUTES = ("training_attrs_1", "training_attrs_2")
_NAMES = "translated_names.tsv"


class AlignmentConfig(Config):
    """A folder in the layout of DBP15K or OpenEA."""

    kind: Literal["alignment"] = "alignment"
    """Tells this source from the others."""
    folder: Path
    """The folder, with `ent_ids_1`, `ent_ids_2`, `triples_1`, `triples_2`, links, and maybe attributes and names."""

    def files(self) -> list[Path]:
        """List the files that are read.

        Raises:
            DataError: none of the files that links are read from is there.
        """
        required = [self.folder / name for name in _REQUIRED]
        # A wrong folder is told by its first file, not by the links it lacks.
        links = link_files(self.folder) if all(path.is_file() for path in required) else []
        optional = [self.folder / name for name in (*_ATTRIBUTES, _NAMES)]
        return [*required, *links, *(path for path in optional if path.is_file())]

    def read(self) -> GraphPair:
        """Read both graphs and their links.

        Raises:
            DataError: see `read_alignment`.
        """
        return read_alignment(self.folder)


def attribute_files(folder: Path) -> list[Path]:
    """List the files with attributes.

    Raises:
        DataError: there is none.
    """
    found = [folder / name for name in _ATTRIBUTES if (folder / name).is_file()]
    if not found:
        raise DataError(
            f"{folder}: expected attributes in {' or '.join(_ATTRIBUTES)}, found neither; mend the folder, or leave "
            "the modality out of the recipe"
        )
    return found


def write_pair(pair: GraphPair, rows: Ids, folder: Path) -> None:
    """Write the links of two graphs, and the numbers their files give the entities.

    Args:
        pair: whose dense ids are the source ids of the store.
        rows: (E,) the row of every source id.
        folder: of the store in the making.
    """
    links = rows[pair.links]
    pq.write_table(pa.table([pa.array(column) for column in links.T], schema=LINK_SCHEMA), folder / LINKS)
    by_row = [pa.array(np.arange(len(rows))), pa.array(pair.ids[np.argsort(rows)])]
    pq.write_table(pa.table(by_row, schema=SOURCE_ID_SCHEMA), folder / SOURCE_IDS)
