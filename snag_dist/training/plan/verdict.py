"""Whether a run fits the machines, and which field to change where it does not."""

import math
import os
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from snag_dist.errors import ResourceError
from snag_dist.training.plan.items import Item, Where
from snag_dist.training.plan.memory import WorkerMemory, plan_memory
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.recipe import Recipe

# int64 triples, once a host, read by all of its workers.
_TRIPLE_BYTES = 24
# Of a triple in a stream: in a window that is read and shuffled, and in one that is on its way to the workers.
_STREAMED_BYTES = 100

_REMEDIES: Mapping[str, str] = {
    "table.placement": "set table.placement=disk (with table.kind=rowwise_adagrad), or use more hosts",
    "table.kind": "set table.kind=rowwise_adagrad (one number a row), or table.placement=disk with lazy_adam",
    "train.fanout": "set train.fanout={fanout}, so that a step draws so many neighbours of an entity instead of taking "
    "all, or lower train.batch_size",
    "train.batch_size": "lower train.batch_size, or raise cluster.num_workers",
    "train.engine.host_memory": "set train.engine.host_memory=return: slower, but what a step frees goes back",
    "method.loss.block": "lower method.loss.block",
    "method.loss.kept_rows": "lower method.loss.kept_rows: of the others, inner values are made again on the way back",
    "method.loss.kept_scores": "lower method.loss.kept_scores: the others are made again on the way back",
    "evaluate.first_pass": "set evaluate.first_pass=exact, or evaluate.precision=float32",
    "evaluate.budget_bytes": "lower evaluate.budget_bytes",
    "cluster.num_workers": "use fewer workers on each host: each has a process of its own, or more hosts",
    "train.residency.kind": "set train.residency.kind=stream, which maps one index for all workers of a host, or use "
    "fewer workers on each host",
    "method.encoder.width": "lower method.encoder.width, or use more hosts, each of which then holds fewer rows",
    "modalities": "name fewer modalities",
    "ingest.virtual_shards": "ingest with more virtual_shards",
}
_ON_DEVICE: Mapping[str, str] = {
    "table.placement": "set table.placement=host, or raise cluster.num_workers",
    "table.kind": "set table.kind=rowwise_adagrad (one number a row), or table.placement=host",
    "method.encoder.width": "raise cluster.num_workers: each GPU then owns fewer rows; or lower method.encoder.width",
}


@dataclass(frozen=True)
class Machines:
    """What a run may use.

    Attributes:
        num_hosts: that workers are spread over evenly.
        host_bytes: memory of one.
        device_bytes: memory of one GPU; None where it is not known, or none is used.
    """

    num_hosts: int
    host_bytes: int
    device_bytes: int | None

    @classmethod
    def of(cls, recipe: Recipe, hosts: list[int] | None = None) -> Self:
        """Take them from the section `plan` of a recipe, else from the cluster, else from this machine.

        Args:
            recipe: of the run.
            hosts: memory of every host of the cluster, where there is one.
        """
        plan = recipe.plan
        known = hosts or [host_bytes()]
        # Workers are placed where there is room; the even spread over all hosts is the best that can be.
        num_hosts = max(plan.num_hosts, min(len(known), recipe.cluster.fewest_workers))
        device_bytes = None
        if recipe.cluster.use_gpu:
            device_bytes = plan.device_bytes
            if device_bytes is None and torch.cuda.is_available():
                device_bytes = torch.cuda.get_device_properties(0).total_memory
        return cls(num_hosts, plan.host_bytes or min(known), device_bytes)


@dataclass(frozen=True)
class Verdict:
    """A run against the machines.

    Attributes:
        memory: of the worker that owns most rows.
        machines: it shall run on.
        workers_per_host: on the host that has most.
        shared_bytes: on a host, whatever the number of its workers: the triples, or the windows of a stream of them.
        fanout: the largest `train.fanout` with which a run of alignment that does not fit would; None where none does.
    """

    memory: WorkerMemory
    machines: Machines
    workers_per_host: int
    shared_bytes: int
    fanout: int | None = None

    @classmethod
    def of(cls, recipe: Recipe, sizes: GraphSizes, machines: Machines) -> Self:
        """Weigh a recipe."""
        shared = sizes.num_triples * _TRIPLE_BYTES
        if recipe.streams(sizes.num_triples):
            shared = min(recipe.train.residency.window_rows, sizes.num_triples) * _STREAMED_BYTES
        per_host = -(-recipe.cluster.fewest_workers // machines.num_hosts)

        def weigh(choices: Recipe) -> Self:
            return cls(plan_memory(choices, sizes), machines, per_host, shared)

        verdict = weigh(recipe)
        if verdict.fits or recipe.task != "alignment":
            return verdict
        # Fewer neighbours than there are, and than are drawn now. Those that fit are the smallest numbers.
        drawn = min(math.ceil(sizes.degree), recipe.train.fanout or sizes.num_entities)
        fitting = bisect_left(range(1, drawn), True, key=lambda num: not weigh(_with_fanout(recipe, num)).fits)
        return replace(verdict, fanout=fitting or None)

    @property
    def host_peak(self) -> int:
        """Bytes of a host, at most."""
        return self.workers_per_host * self.memory.peak("host") + self.shared_bytes

    @property
    def device_peak(self) -> int:
        """Bytes of a GPU, at most."""
        return self.memory.peak("device")

    @property
    def fits(self) -> bool:
        """Whether every place holds what is put into it."""
        device = self.machines.device_bytes
        return self.host_peak <= self.machines.host_bytes and (device is None or self.device_peak <= device)

    def require_fit(self) -> None:
        """Refuse a run that does not fit.

        Raises:
            ResourceError: naming the largest item, and the field that makes it smaller.
        """
        if self.host_peak > self.machines.host_bytes:
            field = self._first_field("host")
            raise ResourceError(
                f"{field}: expected at most {gigabytes(self.machines.host_bytes)} of host memory, got "
                f"{gigabytes(self.host_peak)} for {self.workers_per_host} workers on a host (each: "
                f"{_name(self.memory.peak_items('host'))}); {_REMEDIES[field].format(fanout=self.fanout)}"
            )
        device = self.machines.device_bytes
        if device is not None and self.device_peak > device:
            field = self._first_field("device")
            remedy = (_ON_DEVICE.get(field) or _REMEDIES[field]).format(fanout=self.fanout)
            raise ResourceError(
                f"{field}: expected at most {gigabytes(device)} on a GPU, got {gigabytes(self.device_peak)} "
                f"({_name(self.memory.peak_items('device'))}); {remedy}"
            )

    def _first_field(self, where: Where) -> str:
        field = next(item.remedy for item in self.memory.peak_items(where) if item.remedy)
        # Where no fanout is small enough, a smaller batch needs fewer neighbours too.
        return "train.batch_size" if field == "train.fanout" and self.fanout is None else field


def check_fits(recipe: Recipe, sizes: GraphSizes, hosts: list[int] | None = None) -> None:
    """Refuse a run that the machines cannot hold, before anything is allocated.

    Raises:
        ResourceError: it does not fit.
    """
    Verdict.of(recipe, sizes, Machines.of(recipe, hosts)).require_fit()


def _with_fanout(recipe: Recipe, fanout: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"fanout": fanout})})


def _name(items: list[Item]) -> str:
    return ", ".join(f"{item.name} {gigabytes(item.num_bytes)}" for item in items[:3])


def gigabytes(num_bytes: float) -> str:
    """Write bytes for a person."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def host_bytes() -> int:
    """Memory of this machine, or of the container the process is in where that has less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    texts = [path.read_text().strip() for path in limits if path.is_file()]
    return min([physical, *(int(text) for text in texts if text.isdigit())])
