"""What people see of a comparison: the table on a terminal, the CSV, the page with its plots."""

import base64
import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from run_folders import alignment_report, completion_report, make_weights, write_run

from snag_dist.errors import ConfigError
from snag_dist.evaluation.comparison import Comparison, compare_folders
from snag_dist.evaluation.comparison_page import to_html, write_comparison
from snag_dist.evaluation.comparison_plots import draw_plots
from snag_dist.evaluation.comparison_table import text_tables, to_csv

SCORES = {"gaussian": (0.30, 0.36, 0.33), "none": (0.20, 0.28, 0.30)}


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Completion on two datasets, alignment over two ratios, both with GMNM on and off; one run not finished."""
    for noise, scores in SCORES.items():
        method = {"noise": {"kind": noise}}
        for seed, score in enumerate(scores):
            folder = write_run(tmp_path, f"world-{noise}-{seed}", seed=seed, method=method)
            completion_report(score, seed).write(folder.metrics("test"))
            make_weights(0.4).write(folder.path / "weights.json")
        for ratio in (1.0, 0.4):
            name, section = f"emoji-{noise}-{ratio:g}", {"vision": {"ratio": ratio}}
            align = {"kind": "snag_alignment", **method}
            folder = write_run(tmp_path, name, store="stores/emoji", method=align, missing=section)
            alignment_report(0.5 * ratio, 0, missing={"vision": ratio}).write(folder.metrics("test"))
    folder = write_run(tmp_path, "db", store="stores/db15k", train={"epochs": 72})
    completion_report(0.4, 0, store_fingerprint="db").write(folder.metrics("test"))
    write_run(tmp_path, "late", state="failed")
    return compare_folders([tmp_path])


def show(comparison: Comparison, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    for part in text_tables(comparison, width):
        console.print(part, soft_wrap=True)
    return " ".join(console.export_text().split())


def test_the_terminal_has_methods_down_and_datasets_across(comparison: Comparison) -> None:
    text = show(comparison, 220)
    assert text.count("Completion: all entities") == 1
    assert "│ db15k │ │ │ │ │ │ world │" in text.replace("┃", "│")
    assert "│ SNAG │ off │ │ │ │ │ │ │ .260 ±.053 │ .160 ±.053 │ .310 ±.053 │ .360 ±.053 │ 3 │ 2 │" in text
    assert "│ SNAG │ on │ .400 │ .300 │ .450 │ .500 │ 1 │ 1 │ .330 ±.030 │ .230 ±.030" in text
    assert "│ SNAG, non-iterative │ on │ .400 │ .600 │ .500 │ 1 │ 1 │ .100 │ .300 │ .200 │ 1 │ 1 │" in text
    assert (
        "setting 1: channels: graph; text = hashing, 256-d, 9 of 9; vision = pixels, 64-d, 8 of 9 | 72 epochs," in text
    )
    assert (
        "setting 2: channels: graph; text = hashing, 256-d, 9 of 9; vision = pixels, 64-d, 8 of 9 | 50 epochs," in text
    )
    assert "batch 1024 | selected by best dev MRR, evaluated every 10 epochs | scored on test" in text
    assert re.search(r"not finished, in no figure: \S+/late \(failed\)", text)


def test_datasets_that_do_not_fit_side_by_side_stand_below_each_other(comparison: Comparison) -> None:
    text = show(comparison, 100)
    assert text.count("Completion: all entities") == 2
    assert "│ SNAG │ on │ .330 ±.030 │ .230 ±.030 │ .380 ±.030 │ .430 ±.030 │ 3 │ 2 │" in text


def test_csv_has_one_line_a_figure(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    # Five metrics: three cells of completion asked one way, four of alignment asked eight ways.
    assert len(lines) == 5 * (3 + 4 * 8)
    (line,) = [it for it in lines if (it["dataset"], it["gmnm"], it["metric"]) == ("world", "on", "mrr")]
    assert float(line["mean"]) == pytest.approx(0.33)
    assert float(line["std"]) == pytest.approx(0.03)
    assert (line["num_seeds"], line["seeds"], line["epochs"], line["batch_size"]) == ("3", "0 1 2", "50", "1024")
    (line,) = [
        it
        for it in lines
        if (it["gmnm"], it["missing"], it["metric"]) == ("off", "vision=0.4", "hits@1")
        and (it["candidates"], it["similarity"], it["direction"]) == ("all", "cosine", "right_to_left")
    ]
    assert float(line["mean"]) == pytest.approx(0.2 - 0.07 - 0.1)
    assert (line["std"], line["stage"], line["task"]) == ("", "plain", "alignment")


def test_plots_are_drawn_where_there_is_data(comparison: Comparison, tmp_path: Path) -> None:
    assert list(draw_plots(comparison)) == [
        "world: MRR by method",
        "world: weights of modalities by presence",
        "emoji: H@1 as vision is taken away",
        "emoji: H@1 by method",
    ]
    alone = Comparison(tuple(cell for cell in comparison.cells if cell.column.dataset == "db15k"), ())
    assert draw_plots(alone) == {}


class _Page(HTMLParser):
    """Collects cells of tables, and every address the page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.bold: list[str] = []
        self._tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: "list[tuple[str, str | None]]") -> None:
        self._tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        while self._tags and self._tags.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._tags and self._tags[-1] == "b":
            self.bold.append(data)


def test_the_page_needs_nothing_else(comparison: Comparison) -> None:
    text = to_html(comparison)
    page = _Page()
    page.feed(text)
    assert len(page.addresses) == 4
    for address in page.addresses:
        head, _, data = address.partition(",")
        assert head == "data:image/png;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.width > 500
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 10
    assert "@import" not in text
    assert "url(" not in text
    assert page.bold[:4] == [".330 ±.030", ".230 ±.030", ".380 ±.030", ".430 ±.030"]
    assert "Other ways of asking (6)" in text
    assert "late (failed)" in text


def test_names_are_no_markup(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", store="stores/<b>[red]x")
    completion_report(0.4, 0).write(folder.metrics("test"))
    comparison = compare_folders([tmp_path])
    assert "&lt;b&gt;[red]x" in to_html(comparison)
    assert "<b>[red]x" in show(comparison, 200)


def test_both_files_are_written_whole(comparison: Comparison, tmp_path: Path) -> None:
    out = tmp_path / "some" / "tables"
    assert [path.name for path in write_comparison(comparison, out)] == ["table.csv", "table.html"]
    assert sorted(path.name for path in out.iterdir()) == ["table.csv", "table.html"]
    assert (out / "table.csv").read_text() == to_csv(comparison)
    with pytest.raises(ConfigError, match=r"--out .*table\.csv: expected a folder, found a file; name another one"):
        write_comparison(comparison, out / "table.csv")
