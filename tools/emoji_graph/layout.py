"""The files of the two graphs: the layout of DBP15K for alignment, and a folder a side for completion.

    ent_ids_1, ent_ids_2    id, tab, entity key; the ids of both graphs are one seeded random order
    rel_ids_1, rel_ids_2    id, tab, relation name; distinct over both graphs
    triples_1, triples_2    head id, relation id, tail id
    ill_ent_ids             id in graph 1, id in graph 2 of the same emoji
    texts.tsv, pictures/    of both graphs, whose keys are distinct: what one store of both takes
    left/, right/           train.tsv, valid.tsv, test.tsv (head, relation, tail keys), texts.tsv (header: key, text),
                            pictures/<key>.png

Graph 1 is left, graph 2 is right.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from emoji_graph.graphs import SideGraph, Triple
from snag_dist.random import Stream


def pair_pictures(left: SideGraph, right: SideGraph) -> list[tuple[str, str]]:
    """Return (left key, right key) of every emoji that both folders of drawings have a file of."""
    shared = sorted(set(left.emoji) & set(right.emoji))
    pairs = ((left.key(emoji), right.key(emoji)) for emoji in shared)
    return [(one, other) for one, other in pairs if one in left.pictures and other in right.pictures]


def write_alignment(
    folder: Path, left: SideGraph, right: SideGraph, links: Iterable[tuple[str, str]], seed: int
) -> None:
    """Write both graphs by ids.

    Args:
        folder: exists.
        left, right: the graphs; no key is in both.
        links: (left key, right key) of the same emoji.
        seed: of the order of the entities, so that ids tell nothing about links.
    """
    keys = [*left.entities(), *right.entities()]
    places = Stream(seed, "emoji/ids").permute(torch.arange(len(keys)), len(keys)).tolist()
    ids: dict[str, int] = dict(zip(keys, places, strict=True))
    num_relations = 0
    for number, side in ((1, left), (2, right)):
        relations = {name: num_relations + place for place, name in enumerate(side.relations())}
        num_relations += len(relations)
        _write_rows(folder / f"ent_ids_{number}", sorted((ids[key], key) for key in side.entities()))
        _write_rows(folder / f"rel_ids_{number}", sorted((place, name) for name, place in relations.items()))
        triples = ((ids[head], relations[relation], ids[tail]) for head, relation, tail in side.triples)
        _write_rows(folder / f"triples_{number}", sorted(triples))
    _write_rows(folder / "ill_ent_ids", sorted((ids[one], ids[other]) for one, other in links))


def write_media(folder: Path, *graphs: SideGraph) -> None:
    """Write the texts and pictures of some graphs by key, into a folder that has none."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    texts = [(key, text) for graph in graphs for key, text in graph.texts.items()]
    _write_rows(folder / "texts.tsv", [("key", "text"), *texts])
    for graph in graphs:
        for key, path in graph.pictures.items():
            shutil.copyfile(path, pictures / f"{key}.png")


def write_side(folder: Path, graph: SideGraph, splits: Mapping[str, list[Triple]]) -> None:
    """Write one graph by keys, with its texts and pictures, into a new folder."""
    write_media(folder, graph)
    for split, triples in splits.items():
        _write_rows(folder / f"{split}.tsv", triples)


def count_side(graph: SideGraph, splits: Mapping[str, list[Triple]]) -> dict[str, Any]:
    """Count what a graph holds, for its description."""
    entities = graph.entities()
    relations = Counter(relation for _, relation, _ in graph.triples)
    kinds = Counter(_what(key) for key in entities)
    return {
        "entities": len(entities),
        "entities_by_kind": dict(sorted(kinds.items())),
        "relations": len(relations),
        "triples": len(graph.triples),
        "triples_by_relation": dict(sorted(relations.items())),
        "splits": {split: len(triples) for split, triples in splits.items()},
        "pictures": len(graph.pictures),
        "emoji_without_picture": len(graph.emoji) - len(graph.pictures),
        "texts": len(graph.texts),
        "emoji_without_text": kinds["emoji"] - sum(_what(key) == "emoji" for key in graph.texts),
    }


def _what(key: str) -> str:
    """Return what an entity is: the second part of its key, where there is a third."""
    parts = key.split("-", 2)
    return parts[1] if len(parts) == 3 else "emoji"


def _write_rows(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    lines = ("\t".join(str(field) for field in row) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
