"""A plan in lines for a person."""

from collections.abc import Mapping
from dataclasses import dataclass

from snag_dist.store.opened import Store
from snag_dist.training.plan.calibration import Calibration, calibrate
from snag_dist.training.plan.cost import RunCost
from snag_dist.training.plan.items import Where
from snag_dist.training.plan.load import StepLoad
from snag_dist.training.plan.memory import build_task
from snag_dist.training.plan.sizes import GraphSizes
from snag_dist.training.plan.traffic import Traffic
from snag_dist.training.plan.verdict import Machines, Verdict, gigabytes
from snag_dist.training.recipe import Recipe

_PLACES: Mapping[Where, str] = {"device": "GPU", "host": "host memory", "mapped": "mapped files"}


@dataclass(frozen=True)
class RunPlan:
    """What a run needs.

    Attributes:
        sizes: of the graph.
        load: of a step, one worker.
        verdict: memory against the machines.
        traffic: of a step, one worker.
        calibration: seconds; None where nothing was timed.
        cost: of all epochs; None where nothing was timed.
    """

    sizes: GraphSizes
    load: StepLoad
    verdict: Verdict
    traffic: Traffic
    calibration: Calibration | None
    cost: RunCost | None = None

    @classmethod
    def of(cls, recipe: Recipe, store: Store | None, *, timed: bool) -> "RunPlan":
        """Plan a recipe; `timed` takes a few steps on made-up rows, unless the run does not fit.

        Raises:
            ConfigError: a count is not known.
        """
        sizes = GraphSizes.of(recipe, store)
        task = build_task(recipe, sizes)
        load = StepLoad.of(recipe, sizes, task)
        verdict = Verdict.of(recipe, sizes, Machines.of(recipe))
        traffic = Traffic.of(recipe, sizes, load, task)
        calibration = calibrate(recipe, sizes, verdict.machines.num_hosts) if timed and verdict.fits else None
        cost = None if calibration is None else RunCost.of(recipe, calibration)
        return cls(sizes, load, verdict, traffic, calibration, cost)

    def lines(self) -> list[str]:
        """Say all of it."""
        return [*self._memory_lines(), *self._step_lines(), *self._verdict_lines()]

    def _memory_lines(self) -> list[str]:
        memory = self.verdict.memory
        named = [
            ("all the time", memory.resident),
            *(("while: " + name, items) for name, items in memory.phases.items()),
        ]
        lines = ["a worker holds"]
        for title, items in named:
            lines.append(f"  {title}")
            lines += [
                f"    {item.name}: {gigabytes(item.num_bytes)} ({_PLACES[item.where]})"
                for item in items
                if item.num_bytes
            ]
        peaks = [f"{gigabytes(memory.peak(where))} {place}" for where, place in _PLACES.items() if memory.peak(where)]
        return [*lines, f"  at its peak: {', '.join(peaks)}"]

    def _step_lines(self) -> list[str]:
        load, traffic = self.load, self.traffic
        queries = (
            f"queries {gigabytes(traffic.queries)}, their gradients and slopes {gigabytes(traffic.query_gradients)}, "
            f"sums of scores {gigabytes(traffic.statistics)}, "
        )
        lines = [
            f"a step of a worker: {load.rows:,} rows, {load.encoded:,} entities encoded, {load.pairs:,} pairs scored",
            f"  sends {gigabytes(traffic.total)}: ids {gigabytes(traffic.ids)}, codes {gigabytes(traffic.codes)}, "
            f"their gradients {gigabytes(traffic.gradients)}, {queries if load.queries else ''}"
            f"dense gradients {gigabytes(traffic.dense)}",
        ]
        timed = self.calibration
        if timed is None:
            return lines
        return [
            *lines,
            f"  takes {1e3 * timed.step_seconds:.3g} ms here ({1e3 * timed.compute_seconds:.3g} computing with "
            f"{timed.threads} threads, {1e3 * timed.network_seconds:.3g} on the network); {timed.steps:,} steps an "
            f"epoch: {timed.epoch_seconds:.3g} s",
            *([] if self.cost is None else [self.cost.line()]),
        ]

    def _verdict_lines(self) -> list[str]:
        verdict, machines = self.verdict, self.verdict.machines
        lines = [
            f"a host of {verdict.workers_per_host} workers: {gigabytes(verdict.host_peak)} of "
            f"{gigabytes(machines.host_bytes)}, {gigabytes(verdict.shared_bytes)} of it triples they share"
        ]
        if machines.device_bytes is not None:
            lines.append(f"a GPU: {gigabytes(verdict.device_peak)} of {gigabytes(machines.device_bytes)}")
        return [*lines, "it fits" if verdict.fits else "it does not fit"]
