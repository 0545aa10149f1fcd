"""Seconds of an epoch of PyKEEN's RotatE: run by pykeen_comparison.py in an environment of its own.

Reads one JSON object from standard input and writes one to standard output. Training is PyKEEN's own loop over sampled
negatives, with its defaults but for what the object names.
"""

# Not installed beside this project.
# pyright: reportMissingImports=false

import json
import logging
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pykeen.losses import NSSALoss
from pykeen.models import RotatE
from pykeen.nn import modules
from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory


def time_epochs(asked: dict[str, Any]) -> list[float]:
    """Train over the triples of a file, and return the seconds of each epoch but the first."""
    torch.set_num_threads(asked["threads"])
    torch.manual_seed(asked["seed"])
    if asked["norm"] == "modulus":
        # Its RotatE takes one Frobenius norm over all complex coordinates; the paper's is a sum of moduli.
        modules.negative_norm = lambda x, **_: -x.abs().sum(dim=-1)
    triples = torch.from_numpy(np.load(asked["triples"]))
    factory = CoreTriplesFactory.create(
        triples, num_entities=asked["num_entities"], num_relations=asked["num_relations"]
    )
    # Complex numbers: half as many as we have columns.
    model = RotatE(
        triples_factory=factory,
        embedding_dim=asked["width"] // 2,
        loss=NSSALoss(margin=12.0, adversarial_temperature=2.0),
        random_seed=asked["seed"],
    )
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        negative_sampler="basic",
        negative_sampler_kwargs={"num_negs_per_pos": asked["num_negatives"]},
    )
    # One call for all epochs: a second call of `train` would take up where the first ended, and do nothing.
    watch = _Epochs()
    loop.train(
        factory,
        num_epochs=1 + asked["epochs"],
        batch_size=asked["batch"],
        use_tqdm=False,
        use_tqdm_batch=False,
        callbacks=watch,
    )
    assert len(watch.ends) == 1 + asked["epochs"]
    return [end - start for start, end in pairwise(watch.ends)]


class _Epochs(TrainingCallback):
    """Notes when every epoch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
        """See PyKEEN."""
        self.ends.append(time.perf_counter())


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    wanted = json.load(sys.stdin)
    versions = {name: version(name) for name in ("pykeen", "torch", "numpy")}
    print(json.dumps({"seconds": time_epochs(wanted), "versions": versions}))
