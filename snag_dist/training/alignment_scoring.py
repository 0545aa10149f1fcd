"""Joint codes of all entities of two graphs, and the exact ranks of linked pairs under them.

Dev pairs select: the counterpart of each is looked for among all entities of the other graph, by cosine. A split that
is scored is ranked in every way that is reported: among the counterparts of its pairs (published) and among all
entities (the real question), by CSLS and by cosine, in both directions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snag_dist.errors import ConfigError, DataError
from snag_dist.evaluation.alignment_report import (
    AlignmentProtocol,
    AlignmentReport,
    AlignmentResult,
    Candidates,
    MiningRecord,
    Similarity,
)
from snag_dist.evaluation.alignment_report import Stage as StageName
from snag_dist.evaluation.rank_files import RankFolder
from snag_dist.evaluation.report import describe_channels
from snag_dist.kg.alignment import LEFT, RIGHT
from snag_dist.kg.links import LinkSplit
from snag_dist.model.features import EntityInputs
from snag_dist.ranking.metrics import RankMetrics
from snag_dist.ranking.pairs import PairRanks
from snag_dist.ranking.ranks import RankTable
from snag_dist.shard.exchange import Exchange
from snag_dist.shard.halo import plan_halo, run_halo
from snag_dist.shard.neighbours import OwnedEdges
from snag_dist.shard.pair_ranking import OwnedCodes, rank_owned_pairs, rank_owned_pairs_both_ways
from snag_dist.shard.table import EntityTable
from snag_dist.task.alignment import AlignmentTask
from snag_dist.training.assignment import Stage, Workplace
from snag_dist.training.checkpoint import Cursor
from snag_dist.training.encoded import Encoded, mark_present
from snag_dist.training.step import gather_features

Ids = NDArray[np.int64]

# Entities whose views are made at a time.
_BLOCK = 4096
_WAYS: tuple[Similarity, ...] = ("csls", "cosine")


class AlignmentScoring:
    """Ranks links under the current weights of a run.

    Attributes:
        sides: row ids of the left and of the right graph, ascending.
    """

    def __init__(
        self,
        place: Workplace,
        task: AlignmentTask,
        table: EntityTable,
        edges: OwnedEdges,
        exchange: Exchange,
        links: LinkSplit,
    ):
        self._place = place
        self._task = task
        self._table = table
        self._edges = edges
        self._exchange = exchange
        self._links = links
        graph = place.store.sides()
        self.sides: tuple[Ids, Ids] = (np.flatnonzero(graph == LEFT), np.flatnonzero(graph == RIGHT))

    @torch.no_grad()
    def encode(self) -> Encoded:
        """Encode every entity, each at its owner, without noise, dropout and sampling. A collective."""
        task, place = self._task, self._place
        was_training = task.training
        task.eval()
        first, stop = place.partition.rows(place.group.rank)
        own = torch.arange(first, stop)
        device = self._table.device
        halo = plan_halo(own, self._edges, self._exchange, num_layers=task.num_layers, device=device)
        rows = self._table.lookup(halo.rows).detach().to(place.dtype)
        begun = task.begin(EntityInputs(halo.rows.to(device), rows), None)
        graph = run_halo(halo, begun, task.layer, self._exchange)
        parts: list[Encoded] = []
        for block in own.split(_BLOCK):
            vectors, present = gather_features(block, place.features, device)
            span = slice(int(block[0]) - first, int(block[-1]) + 1 - first)
            views = task.encode(graph[span], EntityInputs(block.to(device), graph[span], vectors, present), None)
            parts.append(Encoded(task.codes(views), task.weights(views), mark_present(present, len(block))))
        task.train(was_training)
        return Encoded.join(parts, len(own))

    def dev_metrics(self) -> dict[str, float]:
        """Rank dev pairs among all entities of the other graph, by cosine, and return the metrics. A collective."""
        dev, codes = self._links.dev, self.encode().codes
        to_right = self._rank(codes, np.sort(dev[:, 0]), self.sides[1], dev).left_to_right
        to_left = self._rank(codes, self.sides[0], np.sort(dev[:, 1]), dev).right_to_left
        return (RankMetrics.of(to_right) + RankMetrics.of(to_left)).realistic.to_dict()

    def score_split(
        self, split: str, cursor: Cursor, stage: Stage, mining: Sequence[MiningRecord], *, is_final: bool
    ) -> dict[str, Any]:
        """Rank the links of a split in every way; write per-query ranks and the report. A collective.

        A list of candidates that an interrupted evaluation of the same checkpoint has finished is not ranked again.

        Args:
            split: "test" or "valid".
            cursor: of the checkpoint.
            stage: it was trained in.
            mining: checks of the iterative stage so far.
            is_final: whether it is the run's last stage; an earlier one has files of its own.

        Returns:
            The report as a plain tree, the same on every worker.
        """
        place = self._place
        pairs = self._pairs_of(split)
        encoded = self.encode()
        codes = encoded.codes
        lists: dict[Candidates, tuple[Ids, Ids]] = {
            "counterparts": (np.sort(pairs[:, 0]), np.sort(pairs[:, 1])),
            "all": self.sides,
        }
        name = split if is_final else f"{split}-{stage.name}"
        checkpoint = f"step-{cursor.step:08d}"
        results: list[AlignmentResult] = []
        for candidates, (left, right) in lists.items():
            folders: dict[Similarity, RankFolder] = {
                similarity: self._rank_folder(f"{name}-{candidates}-{similarity}", checkpoint) for similarity in _WAYS
            }
            for similarity, ranks in self._rank_list(codes, left, right, pairs, folders).items():
                results += AlignmentResult.of_ranks(
                    ranks,
                    candidates=candidates,
                    similarity=similarity,
                    num_left=len(left),
                    num_right=len(right),
                )
        if is_final:
            encoded.write_weights(place.recipe.used_modalities, place.group, place.folder)
        report = AlignmentReport.of(self._protocol(split, len(pairs), cursor, stage), results, mining or None)
        if place.group.rank == 0:
            report.write(place.folder.metrics(name))
        return report.model_dump(mode="json")

    def _rank(self, codes: Tensor, left: Ids, right: Ids, pairs: Ids) -> PairRanks:
        return rank_owned_pairs(*self._lists(codes, left, right, pairs), k_csls=0, **self._options())

    def _rank_list(
        self, codes: Tensor, left: Ids, right: Ids, pairs: Ids, folders: Mapping[Similarity, RankFolder]
    ) -> dict[Similarity, PairRanks]:
        """Rank pairs in one list of candidates both ways, or read what lies in the folders. A collective."""
        group, k_csls = self._place.group, self._place.recipe.evaluate.k_csls
        found = None
        if group.rank == 0:
            found = {similarity: _read_ranks(folder, len(pairs)) for similarity, folder in folders.items()}
        kept: dict[Similarity, PairRanks | None] = group.broadcast_object(found)
        if all(kept.values()):
            return cast("dict[Similarity, PairRanks]", kept)
        lists = self._lists(codes, left, right, pairs)
        ways = rank_owned_pairs_both_ways(*lists, k_csls=k_csls, **self._options())
        ranked: dict[Similarity, PairRanks] = {
            name: _by_rows(ranks, left, right) for name, ranks in zip(_WAYS, ways, strict=True)
        }
        if group.rank == 0:
            for similarity, folder in folders.items():
                folder.discard()
                both = RankTable.concatenate([ranked[similarity].left_to_right, ranked[similarity].right_to_left])
                folder.append(0, 2 * len(pairs), both)
        return ranked

    def _lists(self, codes: Tensor, left: Ids, right: Ids, pairs: Ids) -> tuple[OwnedCodes, OwnedCodes, Ids]:
        partition, rank = self._place.partition, self._place.group.rank
        positions = np.stack([np.searchsorted(left, pairs[:, 0]), np.searchsorted(right, pairs[:, 1])], axis=1)
        return OwnedCodes.of(left, codes, partition, rank), OwnedCodes.of(right, codes, partition, rank), positions

    def _options(self) -> dict[str, Any]:
        return {"group": self._place.group, "budget_bytes": self._place.recipe.evaluate.budget_bytes}

    def _pairs_of(self, split: str) -> Ids:
        splits = {"test": self._links.test, "valid": self._links.dev}
        if split not in splits:
            raise ConfigError(f"--split: expected one of {', '.join(splits)}, got {split!r}; links have no other split")
        return splits[split]

    def _rank_folder(self, name: str, checkpoint: str) -> RankFolder:
        identity = f"{self._place.store.fingerprint} {checkpoint} {name} {self._place.recipe.evaluate.k_csls}"
        return RankFolder(self._place.folder.ranks(name), identity, self._place.require_claim)

    def _protocol(self, split: str, num_pairs: int, cursor: Cursor, stage: Stage) -> AlignmentProtocol:
        recipe = self._place.recipe
        return AlignmentProtocol(
            split=split,
            num_pairs=num_pairs,
            k_csls=recipe.evaluate.k_csls,
            selection=f"best dev MRR ({cursor.best_mrr:.4f}) among all entities by cosine, evaluated every "
            f"{recipe.train.evaluate_every} epochs",
            checkpoint=f"step-{cursor.step:08d}",
            seed=recipe.seed,
            stage=cast(StageName, stage.name),
            channels=describe_channels(self._place.store, recipe.used_modalities),
            store_fingerprint=self._place.store.fingerprint,
            train_share=recipe.links.train_share,
            dev_share=recipe.links.dev_share,
            missing={name: missing.ratio for name, missing in recipe.missing.items()},
        )


def _by_rows(ranks: PairRanks, left: Ids, right: Ids) -> PairRanks:
    """Name pairs by rows of the store instead of positions in the lists."""
    to_right, to_left = (
        RankTable(left[table.head], table.relation, right[table.tail], table.find_tail, table.better, table.equal)
        for table in (ranks.left_to_right, ranks.right_to_left)
    )
    return PairRanks(to_right, to_left)


def _read_ranks(folder: RankFolder, num_pairs: int) -> PairRanks | None:
    """Read the ranks of both directions; None where they are not whole, or of another evaluation."""
    try:
        table = folder.read()
    except DataError:
        return None
    if len(table) != 2 * num_pairs:
        return None
    return PairRanks(table.take(np.arange(num_pairs)), table.take(np.arange(num_pairs, 2 * num_pairs)))
