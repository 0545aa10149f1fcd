"""What a small language model makes of entity tokens: tools/llm_demo.py on an export of a run, three seeds."""

import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from snag_dist.export.directory import export_run

sys.path.insert(0, str(Path(__file__).parents[1]))

import llm_demo

SEEDS, STEPS, BATCH, LR = 3, 400, 64, 2e-3


def measure(run: Path, seed: int) -> dict[str, Any]:
    """Export a run and ask its test triples, in nats a word of the answer; seeds count from `seed`."""
    with TemporaryDirectory() as folder:
        out = export_run(run, Path(folder) / "export")
        losses = {
            each: _rounded(llm_demo.run(out, llm=None, steps=STEPS, batch=BATCH, lr=LR, seed=each))
            for each in range(seed, seed + SEEDS)
        }
    return {
        "steps": STEPS,
        "batch": BATCH,
        "lr": LR,
        "losses_by_seed": losses,
        "mean": {name: round(fmean(found[name] for found in losses.values()), 4) for name in losses[seed]},
    }


def _rounded(losses: dict[str, float]) -> dict[str, float]:
    return {name: round(loss, 4) for name, loss in losses.items()}
