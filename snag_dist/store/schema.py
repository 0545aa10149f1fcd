"""The layout of a store: names of its files and Arrow schemas of its tables.

manifest.json                              written last: a folder without it is no store
entities.parquet, relations.parquet        row i describes entity row i, relation i
triples/<split>/part-00000-0.parquet       row ids, in the order of the source
links.parquet                              of an alignment store: rows of the two ends, in the order of the source
source_ids.parquet                         of an alignment store: the number the files give the entity of row i
features/<modality>/manifest.json          written last
features/<modality>/table/part-00000.parquet     interchange: the rows that have the modality
features/<modality>/hot/shard-00000.npy          what training maps: all rows of a shard, zeros where absent
features/<modality>/hot/shard-00000.present.npy  one bit a row
features/<modality>/statistics.npz         mean and std of every column
features/<modality>/report.json            norms, near-constant columns, duplicates
features/<modality>/samples.parquet        a few entities as a person sees them
features/<modality>/problems.parquet       items that gave no vector, by row, with the reason
missing/<modality>-.../                    an overlay: who keeps a modality, and the statistics that follow
cores/k-<k>/                               a store of its own: the k-core of this one
holdouts/<share>-<seed>/                   a store of its own: this one without entities held out of training
known_true/<splits>/                       the known-true index, where triples are streamed; see `truth_files`
audit.json                                 what the audit of the graph found
"""

from pathlib import Path
from typing import Literal

import pyarrow as pa

FORMAT_VERSION = 2

MANIFEST = "manifest.json"
ENTITIES = "entities.parquet"
RELATIONS = "relations.parquet"
LINKS = "links.parquet"
SOURCE_IDS = "source_ids.parquet"
TRIPLES = "triples"
FEATURES = "features"
MISSING = "missing"
CORES = "cores"
HOLDOUTS = "holdouts"
KNOWN_TRUE = "known_true"
AUDIT = "audit.json"
STATISTICS = "statistics.npz"
PROBLEMS = "problems.parquet"
REPORT = "report.json"
SAMPLES = "samples.parquet"

FeatureDtype = Literal["float16", "float32"]

ENTITY_SCHEMA = pa.schema(
    [("row", pa.int64()), ("key", pa.large_string()), ("graph", pa.int8()), ("name", pa.large_string())]
)
RELATION_SCHEMA = pa.schema([("id", pa.int32()), ("key", pa.large_string()), ("name", pa.large_string())])
TRIPLE_SCHEMA = pa.schema([("head", pa.int64()), ("relation", pa.int32()), ("tail", pa.int64())])
LINK_SCHEMA = pa.schema([("left", pa.int64()), ("right", pa.int64())])
SOURCE_ID_SCHEMA = pa.schema([("row", pa.int64()), ("id", pa.int64())])

PROBLEM_SCHEMA = pa.schema([("row", pa.int64()), ("item", pa.large_string()), ("reason", pa.large_string())])

SAMPLE_SCHEMA = pa.schema([("row", pa.int64()), ("text", pa.large_string()), ("picture", pa.large_binary())])


def feature_schema(width: int, dtype: FeatureDtype) -> pa.Schema:
    """Return the schema of a modality's table: the row, how many items are behind its vector, and the vector."""
    value = pa.float16() if dtype == "float16" else pa.float32()
    return pa.schema([("row", pa.int64()), ("num_items", pa.int32()), ("vector", pa.list_(value, width))])


def shard_file(shard: int) -> str:
    """Name the hot array of a virtual shard."""
    return f"hot/shard-{shard:05}.npy"


def presence_file(shard: int) -> str:
    """Name the presence bitmap of a virtual shard."""
    return f"hot/shard-{shard:05}.present.npy"


def table_file(part: int) -> str:
    """Name the Parquet file of a part of a feature table."""
    return f"table/part-{part:05}.parquet"


def triple_parts(store: Path, split: str) -> list[Path]:
    """List the Parquet files of a split, in the order of their rows."""
    return sorted((store / TRIPLES / split).glob("part-*.parquet"))
