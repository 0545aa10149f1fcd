"""A step of ours, B=1024 and a shared pool of K=256, next to the released way.

The released way: every positive has 32 own negatives, and every occurrence of an entity, 2 * 33 * 1024 of them, goes
through the encoder; scores by plain torch, one Adam over everything. Same network, same data, same threads.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from workbench import group_of_one, make_recipe, make_worker, method_of, summarise, task_of, time_calls

from snag_dist.kg.truth import TruthIndex
from snag_dist.model.features import EntityInputs
from snag_dist.random import Moment
from snag_dist.sampling.negatives import PerTripleConfig
from snag_dist.task.completion import assemble
from snag_dist.training.batches import MemoryTriples

BATCH, POOL, OWN = 1024, 256, 32
THREADS = 2


def measure(store: Path, seed: int) -> dict[str, Any]:
    """Time both steps on a store."""
    with TemporaryDirectory() as runs, group_of_one() as group:
        recipe = make_recipe(store, Path(runs), seed=seed, method={"negatives": {"num": POOL}})
        worker = make_worker(recipe, group, THREADS)
        triples = worker.store.triples("train")
        truth = TruthIndex.build(triples, worker.store.num_entities, worker.store.num_relations)
        source = MemoryTriples(triples, BATCH, group, seed)
        batches = iter([part for _ in range(2) for part in source.epoch(0, 0) if len(part.positives) == BATCH])
        sampler = method_of(recipe).build_sampler(truth)
        worker.stepper.begin_epoch()
        step = iter(range(1 << 30))

        def ours() -> None:
            part = next(batches)
            moment = Moment(seed, 0, next(step))
            worker.stepper.step(assemble(sampler.draw(part.positives, 0, moment), BATCH), moment, 1e-3)

        shared = time_calls(ours, warm=5, num=25)
        released_step = _ReleasedStep(worker, truth, seed)
        released = time_calls(lambda: released_step(next(batches).positives), warm=1, num=5)
    ours_s, released_s = sorted(shared)[len(shared) // 2], sorted(released)[len(released) // 2]
    return {
        "batch": BATCH,
        "threads": THREADS,
        "ours": {
            **summarise(shared),
            "negatives": f"{POOL} shared",
            "triples_per_second": round(BATCH / ours_s),
            "candidates_per_second": round(BATCH * POOL / ours_s),
        },
        "released_way": {
            **summarise(released),
            "negatives": f"{OWN} own, every occurrence encoded",
            "triples_per_second": round(BATCH / released_s),
            "candidates_per_second": round(BATCH * OWN / released_s),
        },
        "ratio_triples_per_second": round(released_s / ours_s, 2),
        "ratio_candidates_per_second": round(released_s / ours_s * POOL / OWN, 1),
    }


class _ReleasedStep:
    """One step as the released code takes it."""

    def __init__(self, worker: Any, truth: TruthIndex, seed: int):
        self._task = task_of(worker)
        self._features = worker.features
        self._rows = torch.nn.Parameter(worker.stepper.table.rows.clone())
        self._optimizer = torch.optim.Adam([self._rows, *self._task.parameters()], lr=1e-4)
        self._sampler = PerTripleConfig(num=OWN).build(truth)
        self._seed = seed
        self._step = 0

    def __call__(self, positives: Any) -> None:
        self._step += 1
        moment = Moment(self._seed, 0, self._step)
        corrupted = self._sampler.draw(positives, 0, moment)
        own = corrupted.negatives[0].ids
        sides = corrupted.find_tail[:, None]
        heads = np.concatenate([positives[:, :1], np.where(sides, positives[:, :1], own)], axis=1)
        tails = np.concatenate([positives[:, 2:], np.where(sides, own, positives[:, 2:])], axis=1)
        relations = torch.from_numpy(np.repeat(positives[:, 1:2], OWN + 1, axis=1).reshape(-1))
        score = self._score(heads.reshape(-1), relations, tails.reshape(-1), moment).view(len(positives), -1)
        true, false = score[:, 0], score[:, 1:]
        weights = torch.softmax(2.0 * false.detach(), dim=1)
        loss = -0.5 * (functional.logsigmoid(true).mean() + (weights * functional.logsigmoid(-false)).sum(1).mean())
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _score(self, heads: Any, relations: Tensor, tails: Any, moment: Moment) -> Tensor:
        known, answer = self._encode(heads, moment), self._encode(tails, moment)
        everything = torch.ones(len(relations), dtype=torch.bool)
        difference = self._task.queries(known, relations, everything) - answer
        real, imaginary = difference.chunk(2, dim=1)
        return 12.0 - torch.stack([real, imaginary]).norm(dim=0).sum(dim=1)

    def _encode(self, ids: Any, moment: Moment) -> Tensor:
        vectors: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        order = np.argsort(ids, kind="stable")
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        for name, source in self._features.items():
            values, known = source.gather(ids[order])
            vectors[name], present[name] = torch.from_numpy(values)[back], torch.from_numpy(known)[back]
        index = torch.from_numpy(ids)
        inputs = EntityInputs(index, self._rows.index_select(0, index), vectors, present)
        return self._task.encode(inputs, moment).codes
