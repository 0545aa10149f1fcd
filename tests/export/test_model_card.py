"""The card: no figure that is not in a file, and the limits that a reader must know."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from snag_dist.export.source import RunSource

pytestmark = pytest.mark.ray

Exporter = Callable[..., Path]


def test_figures_are_those_of_the_report(run: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    report = json.loads((run / "metrics-test.json").read_text())
    overall = report["metrics"]["realistic"]
    hits = " | ".join(f"{overall['hits'][k]:.4f}" for k in ("1", "3", "10"))
    assert f"| **all** | {overall['mrr']:.4f} | {hits} | {overall['mean_rank']:.1f} |" in card
    mrrs = {f"{piece['metrics']['realistic']['mrr']:.4f}" for piece in report["slices"]} | {f"{overall['mrr']:.4f}"}
    rows = re.findall(r"^\| [^|]+ \| (\d\.\d{4}) \|", card, flags=re.MULTILINE)
    assert len(rows) > 10
    assert set(rows) <= mrrs
    for said in (report["protocol"]["selection"], report["protocol"]["checkpoint"], "filtered by train, valid, test"):
        assert said in card


def test_audit_licences_and_encoders_are_told(run: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    store = RunSource.open(run).store
    for line in store.findings().lines():
        assert line in card
    assert "- Data: CC0, as a test" in card
    assert 'license_name: "CC0, as a test"' in card
    for name in ("text", "vision"):
        encoder = store.feature(name).encoder
        line = next(line for line in card.splitlines() if line.startswith(f"- {name}: vectors of {encoder.name}"))
        assert f"revision {encoder.revision}" in line
        assert line.endswith("licence Apache-2.0" if name == "text" else "ask the publisher of the encoder")
    provenance = json.loads((exported / "provenance.json").read_text())
    assert provenance["features"]["text"]["licence"] == "Apache-2.0"
    assert provenance["store"]["fingerprint"] == store.fingerprint
    assert provenance["store"]["licence"] == "CC0, as a test"
    assert provenance["recipe"] == json.loads((run / "config.json").read_text())
    assert provenance["metrics"] == json.loads((run / "metrics-test.json").read_text())["metrics"]
    assert provenance["checkpoint"] == (run / "checkpoints" / "BEST").read_text().strip()


def test_limits_are_counted(run: Path, exported: Path, export: Exporter) -> None:
    card = (exported / "README.md").read_text()
    vision = RunSource.open(run).store.feature("vision")
    assert f"- {300 - vision.num_present:,} of 300 entities have no vision: the token takes no part." in card
    assert "entities have no text" not in card
    assert (
        "stored in int8; the figures above were taken in full precision"
        in (export(dtype="int8") / "README.md").read_text()
    )


def test_figures_of_another_checkpoint_are_left_out(run: Path, export: Exporter, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "world"
    shutil.copytree(run, copy)
    report = json.loads((copy / "metrics-test.json").read_text())
    report["protocol"]["checkpoint"] = "step-99999999"
    (copy / "metrics-test.json").write_text(json.dumps(report))
    folder = export(source=copy)
    card = (folder / "README.md").read_text()
    assert "was not scored on the test split" in card
    assert "| **all** |" not in card
    assert json.loads((folder / "provenance.json").read_text())["metrics"] is None
    (copy / "metrics-test.json").unlink()
    assert "was not scored on the test split" in (export("again", source=copy) / "README.md").read_text()


def test_the_five_lines_of_the_card_run(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = (exported / "README.md").read_text()
    program = card.partition("```python\n")[2].partition("```")[0]
    assert len(program.splitlines()) == 5
    exec(program.replace("FOLDER", str(exported)), {})
    assert capsys.readouterr().out.startswith("torch.Size([2, 32]) torch.Size([2, 3, 32]) tensor(")
