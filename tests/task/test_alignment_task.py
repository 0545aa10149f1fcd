"""Batches of pairs, and the task around a method."""

import numpy as np
import pytest
import torch

from snag_dist.errors import ShapeError
from snag_dist.method.facts import GraphFacts
from snag_dist.method.mclea import McleaConfig
from snag_dist.model.views import EntityViews, ViewsConfig
from snag_dist.task.alignment import assemble_pairs, joint_pairs, modality_pairs

PAIRS = np.array([[0, 7], [2, 9], [4, 6], [5, 11], [1, 8]])


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, 6)])
def test_a_slice_outside_its_batch_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(
        ShapeError, match=r"slice of pairs: expected it inside a batch that is not empty, \[0, 5\), got"
    ):
        assemble_pairs(PAIRS, *span)


def test_pairs_point_at_their_entities() -> None:
    batch = assemble_pairs(np.array([[9, 4], [4, 2]]), 1, 2)
    assert batch.entities.tolist() == [2, 4, 9]
    assert batch.entities[batch.left].tolist() == [9, 4]
    assert batch.entities[batch.right].tolist() == [4, 2]


def views(seed: int) -> EntityViews:
    draw = torch.Generator().manual_seed(seed)
    present = torch.tensor([[True, True], [True, seed == 1], [True, True]])
    tokens, outputs = torch.randn(2, 3, 2, 4, generator=draw)
    return EntityViews(tokens, outputs, torch.full((3, 2), 0.5), present)


def test_pairs_by_modality_and_in_joint_codes() -> None:
    left, right = views(0), views(1)
    before, after = (modality_pairs(left, right, 1, 3, outputs=outputs) for outputs in (False, True))
    assert len(before) == 2
    torch.testing.assert_close(before[1].all_left, torch.nn.functional.normalize(left.tokens[:, 1], dim=1))
    torch.testing.assert_close(after[0].right, torch.nn.functional.normalize(right.outputs[1:, 0], dim=1))
    # The second pair lacks its second modality on the left.
    assert before[0].counted().tolist() == [True, True]
    assert before[1].counted().tolist() == [False, True]
    joint = joint_pairs(lambda given: given.tokens.flatten(1), left, right, 1, 3)
    assert joint.all_left.shape == (3, 8)
    assert joint.offset == 1
    assert joint.counted().all()


def test_a_worker_without_pairs_still_takes_part() -> None:
    task = McleaConfig(encoder=ViewsConfig(width=4)).build_alignment(GraphFacts(12, 1, {}), 0)
    packed = torch.randn(10, 6, requires_grad=True)
    report = task.loss(packed, assemble_pairs(PAIRS, 5, 5))
    assert report.loss.item() == 0.0
    report.loss.backward()
    assert torch.equal(packed.grad, torch.zeros(10, 6))
