"""Completion splits of one of the graphs: test and valid hold nothing that train has not seen."""

import numpy as np

from emoji_graph.graphs import SideGraph, Triple
from snag_dist.errors import ConfigError
from snag_dist.kg.graph import Graph
from snag_dist.kg.repair import repair_splits


def split_triples(graph: SideGraph, *, valid_share: float, test_share: float, seed: int) -> dict[str, list[Triple]]:
    """Draw test, then valid, relation by relation in proportion to size; the rest is train.

    Every entity and relation keeps a train triple, so a share may come out smaller than asked for.

    Args:
        graph: the graph.
        valid_share, test_share: of all its triples, both above 0 and below 1 together.
        seed: of the draw.

    Returns:
        Split name to its triples, sorted.

    Raises:
        ConfigError: the shares are out of range.
        DataError: the graph is too small to hold anything out.
    """
    for option, share in (("--valid-share", valid_share), ("--test-share", test_share)):
        if not 0 < share < 0.5:
            raise ConfigError(f"{option}: expected a share above 0 and below 0.5, got {share}; 0.05 is usual")
    entities, relations = graph.entities(), graph.relations()
    entity_ids = {key: number for number, key in enumerate(entities)}
    relation_ids = {name: number for number, name in enumerate(relations)}
    ids = [(entity_ids[head], relation_ids[relation], entity_ids[tail]) for head, relation, tail in graph.triples]
    whole = Graph(tuple(entities), tuple(relations), {"train": np.array(ids, dtype=np.int64)})
    # A repair draws a dev set only; test is the dev set of a first one, and valid that of a second one on the rest.
    first, _ = repair_splits(whole, dev_share=test_share, seed=seed)
    rest = Graph(whole.entities, whole.relations, {"train": first.split("train")})
    second, _ = repair_splits(rest, dev_share=valid_share / (1 - test_share), seed=seed)
    drawn = {"train": second.split("train"), "valid": second.split("valid"), "test": first.split("valid")}
    return {
        split: sorted((entities[head], relations[relation], entities[tail]) for head, relation, tail in triples)
        for split, triples in drawn.items()
    }
