"""The exported network is the trained one: every fusion, one and two layers, each answer to a missing modality."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from snag_dist.export.hf import SnagEncoder, SnagEncoderConfig
from snag_dist.model.encoder import Encoder, EncoderConfig, ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.model.fusion import FusionConfig
from snag_dist.model.noise import NoNoise

NUM, WIDTH = 9, 8
WIDTHS = {"text": 6, "vision": 5}
KINDS = [config.model_fields["kind"].default for config in get_args(get_args(FusionConfig)[0])]
FUSIONS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in KINDS),
    {"kind": "attention", "code": "graph"},
    {"kind": "attention", "tanh": False, "attention": {"num_heads": 1, "feed_forward_width": 10, "activation": "gelu"}},
    {"kind": "confidence_sum", "tanh": False, "attention": {"feed_forward_width": 10, "activation": "relu"}},
]


def both(**fields: Any) -> tuple[Encoder, SnagEncoder]:
    """A trained encoder with random weights, and the exported one with the same."""
    torch.manual_seed(0)
    config = EncoderConfig.model_validate({"width": WIDTH, **fields})
    facts = {
        name: ModalityFacts(width, ColumnStatistics(torch.zeros(width), torch.ones(width)))
        for name, width in WIDTHS.items()
    }
    trained = Encoder(config, facts, NoNoise())
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    projections = {name: config.projections.get(name, config.projection) for name in WIDTHS}
    light = SnagEncoder(
        SnagEncoderConfig(
            width=WIDTH,
            modalities=[
                {"name": name, "width": WIDTHS[name], "layers": p.layers, "impute": p.impute}
                for name, p in projections.items()
            ],
            fusion=config.fusion.model_dump(mode="json"),
            project_graph=config.project_graph,
        )
    )
    light.load_state_dict({**trained.state_dict(), "row_mean": torch.randn(WIDTH)})
    return trained.eval(), light.eval()


def inputs() -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Rows (N, D), features by modality, and (N, M) which of them an entity has; each combination occurs."""
    torch.manual_seed(1)
    mask = torch.ones(NUM, 3, dtype=torch.bool)
    mask[1:4, 1] = False
    mask[3:6, 2] = False
    return torch.randn(NUM, WIDTH), {name: torch.randn(NUM, width) for name, width in WIDTHS.items()}, mask


def assert_equal(trained: Encoder, light: SnagEncoder) -> None:
    rows, features, mask = inputs()
    present = {"text": mask[:, 1], "vision": mask[:, 2]}
    with torch.no_grad():
        fused = trained(EntityInputs(torch.arange(NUM), rows, features, present), 0, None)
        found = light(features=features, mask=mask, rows=rows)
    for name, expected in (("pooled", fused.codes), ("tokens", fused.tokens), ("confidence", fused.confidence)):
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: "-".join(map(str, fusion.values()))[:40])
def test_every_fusion_is_the_trained_one(fusion: dict[str, Any]) -> None:
    assert_equal(*both(fusion=fusion))


@pytest.mark.parametrize("impute", ["drop", "learned", "zero"])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_projection_is_the_trained_one(layers: int, impute: str) -> None:
    own = {"vision": {"layers": 3 - layers, "impute": "drop"}}
    trained, light = both(projection={"layers": layers, "impute": impute}, projections=own, project_graph=layers == 2)
    assert_equal(trained, light)
    rows, features, mask = inputs()
    found = light(features=features, mask=mask, rows=rows).mask
    assert found is not None
    assert torch.equal(found[:, 1], torch.ones(NUM, dtype=torch.bool) if impute != "drop" else mask[:, 1])
    assert torch.equal(found[:, 2], mask[:, 2])


@pytest.mark.parametrize("fusion", [f for f in FUSIONS if f["kind"] != "graph"], ids=str)
def test_a_new_entity_is_encoded_from_its_modalities_beside_the_mean_row(fusion: dict[str, Any]) -> None:
    _, light = both(fusion=fusion)
    _, features, _ = inputs()
    new = light(features=features)
    as_mean = light(features=features, rows=light.row_mean.expand(NUM, -1))
    assert torch.equal(new.pooled, as_mean.pooled)
    assert bool(torch.isfinite(new.pooled).all())
    other = light(features={**features, "text": features["text"] + 1.0})
    assert not torch.allclose(new.pooled, other.pooled)
    one = light(features={"text": features["text"]})
    assert one.mask.tolist() == [[True, True, False]] * NUM


def test_masked_rows_of_a_mixed_batch_are_new_entities() -> None:
    _, light = both()
    rows, features, mask = inputs()
    mask[:, 0] = torch.arange(NUM) % 2 == 0
    mask[:, 1] = True
    mixed = light(features=features, mask=mask, rows=rows).pooled
    assert torch.equal(
        mixed[1::2], light(features=features, mask=mask & torch.tensor([False, True, True])).pooled[1::2]
    )
    mask[:, 0] = True
    assert torch.equal(mixed[::2], light(features=features, mask=mask, rows=rows).pooled[::2])


def test_exports_to_a_graph_with_a_dynamic_batch() -> None:
    _, light = both()
    rows, features, mask = inputs()
    batch = torch.export.Dim("batch", min=1, max=4096)
    arguments = {"features": features, "mask": mask, "rows": rows}
    shapes = {"features": {name: {0: batch} for name in features}, "mask": {0: batch}, "rows": {0: batch}}
    program = torch.export.export(light, (), arguments, dynamic_shapes=shapes)
    for num in (1, 4, NUM):
        part = {"features": {name: v[:num] for name, v in features.items()}, "mask": mask[:num], "rows": rows[:num]}
        torch.testing.assert_close(program.module()(**part).pooled, light(**part).pooled, atol=1e-6, rtol=0)


def test_what_cannot_be_encoded_is_said() -> None:
    _, light = both()
    rows, features, mask = inputs()
    with pytest.raises(ValueError, match=r"forward: expected entity_ids or features, got neither"):
        light()
    with pytest.raises(ValueError, match=r"features: 'sound' is no modality of this encoder; it has text, vision"):
        light(features={"sound": rows})
    with pytest.raises(ValueError, match=r"features: expected vectors of a modality, got none"):
        light(features={})
    with pytest.raises(ValueError, match=r"features\['text'\]: expected \(9, 6\), got \(9, 5\)"):
        light(features={"text": features["vision"]})
    with pytest.raises(ValueError, match=r"mask: expected \(9, 3\) for graph, text, vision, got \(9, 2\)"):
        light(features=features, mask=mask[:, 1:])
    with pytest.raises(ValueError, match=r"mask: says that entities have 'graph', which was not given"):
        light(features=features, mask=mask)
    nothing = torch.ones(NUM, 3, dtype=torch.bool)
    nothing[:, 0] = False
    nothing[4] = False
    with pytest.raises(ValueError, match=r"entity 4 of the batch: expected a modality or a row, got none"):
        light(features=features, mask=nothing)
    with pytest.raises(ValueError, match=r"entity_ids: entities\.safetensors\.index\.json does not lie beside"):
        light(entity_ids=torch.tensor([0]))
    with pytest.raises(ValueError, match=r"mask: the tables hold codes of whole entities"):
        light(entity_ids=torch.tensor([0]), mask=mask[:1])
    _, structural = both(fusion={"kind": "graph"})
    with pytest.raises(
        ValueError, match=r"entity 0 of the batch: expected a learned row, since the encoder sees struct"
    ):
        structural(features=features)
    with pytest.raises(ValueError, match=r"fusion\.kind: 'sum' is not known"):
        SnagEncoder(SnagEncoderConfig(fusion={"kind": "sum"}))
