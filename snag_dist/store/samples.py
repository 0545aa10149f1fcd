"""A few entities as a person sees them: kept with every feature table, and drawn on one contact sheet.

Rows are drawn at random when a store is made, so its first rows are random entities, and the same ones for every
modality.
"""

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from snag_dist.store.modality import Modality
from snag_dist.store.opened import Store
from snag_dist.store.schema import SAMPLE_SCHEMA, SAMPLES

NUM_SAMPLED_ROWS = 256
"""Rows of which samples are kept; an entity of them that lacks the modality has none."""
_THUMBNAIL = 192
_COLUMNS, _ROWS = 6, 4


def save_samples(modality: Modality, path: Path) -> None:
    """Keep what the first rows that have the modality look like, as text or thumbnail."""
    rows = modality.rows[modality.rows < NUM_SAMPLED_ROWS].tolist()
    show = modality.show
    shown = [(row, show(index)) for index, row in enumerate(rows)] if show is not None else []
    samples = [
        {"row": row, "text": sample, "picture": None}
        if isinstance(sample, str)
        else {"row": row, "text": None, "picture": _thumbnail(sample)}
        for row, sample in shown
        if sample is not None
    ]
    pq.write_table(pa.Table.from_pylist(samples, schema=SAMPLE_SCHEMA), path)


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "PNG")
    return file.getvalue()


def read_samples(store: Store) -> dict[int, dict[str, str | Image.Image]]:
    """Read the samples of all modalities: row to modality to text or picture."""
    found: dict[int, dict[str, str | Image.Image]] = {}
    for modality in store.modalities():
        for sample in pq.read_table(store.feature_folder(modality) / SAMPLES).to_pylist():
            picture = sample["picture"]
            shown = sample["text"] if picture is None else Image.open(io.BytesIO(picture))
            found.setdefault(sample["row"], {})[modality] = shown
    return found


def draw_contact_sheet(store: Store, path: Path) -> bool:
    """Draw random entities with their pictures and texts, those with most modalities first; a PNG.

    Returns:
        Whether there was anything to draw: vectors that were made elsewhere cannot be looked at.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    samples = read_samples(store)
    rows = sorted(samples, key=lambda row: (-len(samples[row]), row))[: _COLUMNS * _ROWS]
    if not rows:
        return False
    entities = store.entities()
    figure, axes = pyplot.subplots(_ROWS, _COLUMNS, figsize=(2.4 * _COLUMNS, 3.1 * _ROWS))
    for cell in axes.flat:
        cell.axis("off")
    for cell, row in zip(axes.flat, rows, strict=False):
        _draw_entity(cell, entities["key"][row].as_py(), entities["name"][row].as_py(), samples[row])
    figure.suptitle(f"{store.path.name}: {len(rows)} random entities", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    pyplot.close(figure)
    return True


def _draw_entity(cell: Any, key: str, name: str, shown: Mapping[str, str | Image.Image]) -> None:
    pictures = [np.asarray(sample.convert("RGB")) for sample in shown.values() if not isinstance(sample, str)]
    texts = [sample for sample in shown.values() if isinstance(sample, str)]
    if pictures:
        cell.imshow(pictures[0])
    else:
        cell.set(xlim=(0, 1), ylim=(0, 1))
        cell.text(0.5, 0.5, "no picture", ha="center", va="center", fontsize=7, color="grey")
    cell.set_title(textwrap.shorten(name or key, 34, placeholder="..."), fontsize=8, parse_math=False)
    words = "\n".join(textwrap.wrap(" / ".join(texts), 34)[:4])
    cell.text(0.5, -0.04, words, transform=cell.transAxes, ha="center", va="top", fontsize=6, parse_math=False)
