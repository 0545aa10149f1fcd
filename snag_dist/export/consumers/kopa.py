"""KoPA: entity and relation embeddings as a prefix of an LLM's prompt.

`kopa.pth` holds exactly `ent_embeddings.weight` and `rel_embeddings.weight`, of one width. KoPA numbers entities as
`entity2id.txt` does, so rows are in the order of the source, not of the store.

Source: Zhang et al., "Making Large Language Models Perform Better in Knowledge Graph Completion" (ACM MM 2024); it
lays a relation table of half the width beside itself, so relations are written as wide as entities.
"""

import torch

from snag_dist.export.consumers.handed import Handed
from snag_dist.export.relations import wide_relations

FILE = "kopa.pth"


def write_kopa(handed: Handed) -> None:
    """Write `kopa.pth`; the entity table passes through a mapped file, not through memory."""
    scratch = handed.folder / "scratch"
    size = handed.num_entities * handed.width
    entities = torch.from_file(str(scratch), shared=True, size=size, dtype=torch.float32)
    entities = entities.view(handed.num_entities, handed.width)
    row_of_id = torch.from_numpy(handed.source.store.rows_of_source_ids)
    for ids in handed.row_blocks():
        entities[ids] = handed.codes(row_of_id[ids])
    tables = {"ent_embeddings.weight": entities, "rel_embeddings.weight": wide_relations(handed.source).contiguous()}
    torch.save(tables, handed.folder / FILE)
    del entities, tables
    scratch.unlink()
