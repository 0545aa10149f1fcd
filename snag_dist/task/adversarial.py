"""Two players on the positives of completion: generators make fake codes, the model tells them from true ones.

Model and generators have an optimiser each and step at once, on the same batch. Fake codes are made at the owner of an
entity and travel beside the true ones.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from snag_dist.config import Config
from snag_dist.model.generator import GeneratorConfig, Generators
from snag_dist.objective.losses import LossReport
from snag_dist.task.completion import CompletionBatch, CompletionTask


class AdversaryConfig(Config):
    """The adversary of AdaMF-MAT."""

    generator: GeneratorConfig = GeneratorConfig()
    """Sizes of the generators."""
    weight: float = Field(default=1e-4, ge=0)
    """mu, of the fakes in the loss of the model; the released commands pass 0, which leaves plain AdaMF."""
    lr: float = Field(default=1e-4, gt=0)
    """Learning rate of the generators."""


class Adversary(nn.Module):
    """Generators, and what both players minimise."""

    def __init__(self, config: AdversaryConfig, modalities: tuple[str, ...], width: int):
        super().__init__()
        self.generators = Generators(config.generator, modalities, width)
        self.lr = config.lr
        self._weight = config.weight

    def model_loss(self, task: CompletionTask, codes: Tensor, fakes: Tensor, batch: CompletionBatch) -> LossReport:
        """mu * sum over fakes of Loss(true score, fake score), added to the loss of the task.

        Args:
            task: of the model.
            codes, fakes: (N, D) of `batch.entities`. Gradients reach the generators too; their optimiser begins its
                own step from zero.
            batch: a slice; the result is scaled like `CompletionTask.loss`.
        """
        true_scores, fake_scores = score_fakes(task, codes, fakes, batch)
        loss = sum_over_fakes(true_scores, fake_scores, better="true") * batch.share
        return LossReport(self._weight * loss, {"fakes": loss.detach()})

    def generator_loss(self, task: CompletionTask, codes: Tensor, fakes: Tensor, batch: CompletionBatch) -> LossReport:
        """sum over fakes of Loss(fake score, true score); true codes get no gradient."""
        true_scores, fake_scores = score_fakes(task, codes.detach(), fakes, batch)
        loss = sum_over_fakes(true_scores, fake_scores, better="fake") * batch.share
        return LossReport(loss, {"generator": loss.detach()})


def score_fakes(
    task: CompletionTask, codes: Tensor, fakes: Tensor, batch: CompletionBatch
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Scores of the batch's true triples with true and with fake codes.

    Returns:
        (Q,) true scores, and three times (Q,): the given entity fake, its answer fake, both fake.
    """
    answer = batch.answer.unsqueeze(1)
    given = task.queries(codes.index_select(0, batch.known), batch.relations, batch.find_tail)
    faked = task.queries(fakes.index_select(0, batch.known), batch.relations, batch.find_tail)

    def score(queries: Tensor, candidates: Tensor) -> Tensor:
        return task.scorer.score_own(queries, candidates, answer).squeeze(1)

    return score(given, codes), (score(faked, codes), score(given, fakes), score(faked, fakes))


def sum_over_fakes(true_scores: Tensor, fake_scores: tuple[Tensor, ...], *, better: Literal["true", "fake"]) -> Tensor:
    """Sum over queries and fakes of -1/2 [log s(better) + log s(-worse)], (Q,) scores each.

    Source: AdaMF-MAT, eqs. (8)-(10).
    """
    fakes = torch.stack(fake_scores)
    high, low = (true_scores.expand_as(fakes), fakes) if better == "true" else (fakes, true_scores.expand_as(fakes))
    return -0.5 * (functional.logsigmoid(high) + functional.logsigmoid(-low)).sum()
