"""How much a step gives a worker to do: rows read, entities encoded, codes that arrive, pairs that are scored.

Entities are taken to be drawn evenly; in real graphs some come up far more often, so fewer are distinct.
"""

from dataclasses import dataclass
from typing import Self

from snag_dist.method.adamf import AdamfConfig
from snag_dist.method.choices import AlignmentMethod, CompletionMethod
from snag_dist.objective.all_entities import AllEntitiesConfig
from snag_dist.sampling.negatives import PerTripleConfig, SharedConfig
from snag_dist.task.alignment import AlignmentTask
from snag_dist.task.completion import CompletionTask
from snag_dist.training.plan.activations import packed_width
from snag_dist.training.plan.sizes import GraphSizes, distinct
from snag_dist.training.recipe import Recipe


def global_batch(recipe: Recipe, sizes: GraphSizes) -> tuple[int, int]:
    """Triples or linked pairs of a step, over all workers, and steps of an epoch."""
    examples = sizes.num_triples
    if isinstance(recipe.method, AlignmentMethod):
        examples = max(1, round(sizes.num_links * recipe.links.train_share * (1.0 - recipe.links.dev_share)))
    batch = min(recipe.train.batch_size, examples)
    return batch, -(-examples // batch)


@dataclass(frozen=True)
class StepLoad:
    """Of one worker, on average.

    Attributes:
        rows: learned rows that are read and updated.
        encoded: entities encoded at their owner whose activations are held at a time.
        own_codes: codes of own rows that are held for a loss over all entities; else 0.
        arrived: codes that come to the batch, its own ones included.
        queries: of the whole batch that a loss over all entities brings to every owner; else 0.
        pairs: queries times candidates, or own pairs times pairs of the batch.
        code_width: numbers of a code on its way.
        halo: codes that come for the layers of a structure encoder, over all layers.
        asked: of those, neighbours of own entities, wherever they lie; the entities themselves are at hand.
        inner: entities that layers below the last one encode, whose codes are held for the way back.
        edges: that a step takes, over all layers.
        owned_edges: edges into own rows; 0 where there is no structure encoder.
        steps: in an epoch.
    """

    rows: int
    encoded: int
    own_codes: int
    arrived: int
    queries: int
    pairs: int
    code_width: int
    halo: int
    asked: int
    inner: int
    edges: int
    owned_edges: int
    steps: int

    @classmethod
    def of(cls, recipe: Recipe, sizes: GraphSizes, task: CompletionTask | AlignmentTask) -> Self:
        """Work it out for a recipe."""
        if isinstance(task, AlignmentTask):
            return cls._of_alignment(recipe, sizes, task)
        return cls._of_completion(recipe, sizes)

    @classmethod
    def _of_completion(cls, recipe: Recipe, sizes: GraphSizes) -> Self:
        method, workers = recipe.method, recipe.cluster.fewest_workers
        assert isinstance(method, CompletionMethod)
        if isinstance(method.loss, AllEntitiesConfig):
            return cls._of_all_entities(recipe, sizes, method.loss)
        negatives, width = method.negatives, method.encoder.width
        batch, steps = global_batch(recipe, sizes)
        own = -(-batch // workers)
        per_triple = 2 if negatives.sides == "both" else 1
        if isinstance(negatives, SharedConfig):
            pools, own_pools = (-(-num // negatives.chunk) * negatives.num for num in (batch, own))
        else:
            assert isinstance(negatives, PerTripleConfig)
            pools, own_pools = (num * per_triple * negatives.num for num in (batch, own))
        everything = distinct(2 * batch + pools, sizes.num_entities)
        encoded = -(-everything // workers)
        return cls(
            rows=encoded,
            encoded=encoded,
            own_codes=0,
            arrived=distinct(2 * own + own_pools, sizes.num_entities),
            queries=0,
            pairs=own * per_triple * negatives.num,
            # Fake codes travel beside the true ones.
            code_width=width * (2 if isinstance(method, AdamfConfig) and method.adversary is not None else 1),
            halo=0,
            asked=0,
            inner=0,
            edges=0,
            owned_edges=0,
            steps=steps,
        )

    @classmethod
    def _of_all_entities(cls, recipe: Recipe, sizes: GraphSizes, loss: AllEntitiesConfig) -> Self:
        workers = recipe.cluster.fewest_workers
        batch, steps = global_batch(recipe, sizes)
        queries = batch * (2 if loss.sides == "both" else 1)
        known = distinct(2 * batch, sizes.num_entities)
        own_rows = sizes.most_rows(workers)
        block = min(loss.block, own_rows)
        is_fresh = loss.candidates == "fresh"
        return cls(
            rows=own_rows if is_fresh else -(-known // workers),
            encoded=block if is_fresh else block - (-known // workers),
            own_codes=own_rows,
            arrived=distinct(2 * -(-batch // workers), sizes.num_entities),
            queries=queries,
            # Every owner scores the queries of all workers, a block of rows at a time.
            pairs=queries * block,
            code_width=recipe.method.encoder.width,
            halo=0,
            asked=0,
            inner=0,
            edges=0,
            owned_edges=0,
            steps=steps,
        )

    @classmethod
    def _of_alignment(cls, recipe: Recipe, sizes: GraphSizes, task: AlignmentTask) -> Self:
        method, workers = recipe.method, recipe.cluster.fewest_workers
        assert isinstance(method, AlignmentMethod)
        batch, steps = global_batch(recipe, sizes)
        own = -(-batch // workers)
        drawn = sizes.degree if recipe.train.fanout is None else min(sizes.degree, recipe.train.fanout)
        # Who is reached by an edge has that one more than entities have on average.
        met = min(sizes.degree + 1, recipe.train.fanout or sizes.num_entities)
        targets, halo, asked, edges = 2 * batch, 0, 0, 0.0
        for _ in range(task.num_layers):
            reached = targets - 2 * batch
            asked += distinct((2 * batch * drawn + reached * met) / workers, sizes.num_entities)
            edges += targets * (1 + drawn)
            targets = distinct(targets * (1 + drawn), sizes.num_entities)
            halo += -(-targets // workers)
        rows = -(-targets // workers)
        return cls(
            rows=rows,
            encoded=-(-2 * batch // workers),
            own_codes=0,
            arrived=2 * batch,
            queries=0,
            pairs=own * batch,
            code_width=packed_width(task),
            halo=halo,
            asked=asked,
            # The sources of a layer are what the one below it encodes; below the first one are the rows.
            inner=halo - rows,
            edges=-(-round(edges) // workers),
            owned_edges=-(-(2 * sizes.num_triples + sizes.num_entities) // workers),
            steps=steps,
        )
