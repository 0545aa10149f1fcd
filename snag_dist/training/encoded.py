"""What evaluation knows of the entities a worker owns: their codes, and what each modality weighs in them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snag_dist.evaluation.modality_weights import ModalityWeights, weigh
from snag_dist.model.features import GRAPH
from snag_dist.shard.group import Group
from snag_dist.training.run_folder import RunFolder


@dataclass(frozen=True)
class Encoded:
    """Entities in the order of their rows.

    Attributes:
        codes: (E_local, P), what is ranked.
        confidence: (E_local, M) weights of the tokens, graph first, then the modalities by name.
        present: (E_local, M) bool, what the store has of each entity; an imputed token counts as absent.
    """

    codes: Tensor
    confidence: Tensor
    present: Tensor

    @classmethod
    def join(cls, parts: Iterable["Encoded"], num: int) -> "Encoded":
        """Put blocks, at least one, of `num` entities end to end. Each is copied as it comes, so none is held twice."""
        whole: Encoded | None = None
        first = 0
        for part in parts:
            if whole is None:
                whole = cls(*(field.new_empty(num, *field.shape[1:]) for field in part._fields()))
            stop = first + len(part.codes)
            for target, field in zip(whole._fields(), part._fields(), strict=True):
                target[first:stop] = field
            first = stop
        assert whole is not None
        return whole

    def _fields(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.codes, self.confidence, self.present

    def write_weights(self, modalities: Sequence[str], group: Group, folder: RunFolder) -> None:
        """Write what the modalities weigh, by what is present, over the entities of all workers. A collective."""
        names = (GRAPH, *sorted(modalities))
        own = weigh(self.confidence.float().cpu().numpy(), self.present.cpu().numpy(), names)
        first, *others = group.gather_objects(own)
        for other in others:
            first = first + other
        if group.rank == 0:
            ModalityWeights.of(first).write(folder.weights)


def mark_present(present: Mapping[str, Tensor], num: int) -> Tensor:
    """Return (N, M) bool from (N,) masks by modality: the graph token, which all have, then the modalities by name."""
    device = next(iter(present.values())).device if present else None
    graph = torch.ones(num, dtype=torch.bool, device=device)
    return torch.stack([graph, *(present[name] for name in sorted(present))], dim=1)
