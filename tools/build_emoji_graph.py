"""Make two graphs of the same emoji: python tools/build_emoji_graph.py --data data/Emoji --out data/emoji_graph

The left graph has the drawings of 2017 and the names of one language, the right one those of 2025 and of another.
tools/emoji_graph/graphs.py says what each knows, tools/emoji_graph/layout.py which files they become.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from emoji_graph import layout
from emoji_graph.graphs import build_left, build_right
from emoji_graph.sources import BLOB_FOLDER, NOTO_FOLDER, read_sources
from emoji_graph.splits import split_triples

from snag_dist.console import run_job
from snag_dist.errors import ConfigError

logger = logging.getLogger("snag_dist.emoji_graph")

LICENCES = {
    "pictures": "Noto Emoji, Apache-2.0 (2017: the blob drawings of the same project)",
    "names and keywords": "Unicode CLDR, Unicode License v3",
    "groups, subgroups, versions": "Unicode emoji-test.txt, Unicode License v3",
    "categories and tags": "gemoji, MIT",
}

DataOption = Annotated[Path, typer.Option("--data", help="Folder with the drawings, cldr/, Unicode's list and gemoji.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder to be made.")]
LeftOption = Annotated[str, typer.Option("--left-language", help="Language of the 2017 graph, as in cldr/.")]
RightOption = Annotated[str, typer.Option("--right-language", help="Language of the 2025 graph, as in cldr/.")]
UsesOption = Annotated[int, typer.Option("--min-uses", help="Emoji that must share a word for it to be an entity.")]
ValidOption = Annotated[float, typer.Option("--valid-share", help="Share of a graph's triples held out as valid.")]
TestOption = Annotated[float, typer.Option("--test-share", help="Share of a graph's triples held out as test.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of the splits and of the order of the ids.")]


def build(
    data: DataOption,
    out: OutOption,
    left_language: LeftOption = "de",
    right_language: RightOption = "en",
    min_uses: UsesOption = 2,
    valid_share: ValidOption = 0.05,
    test_share: TestOption = 0.1,
    seed: SeedOption = 0,
) -> None:
    """Make two graphs of the same emoji, for alignment and, each by itself, for completion."""
    if out.exists():
        raise ConfigError(f"--out: expected a folder that is not there yet, found {out}; remove it or name another")
    if min_uses < 1:
        raise ConfigError(f"--min-uses: expected 1 or more, got {min_uses}; 2 leaves out words of one emoji only")
    options = {
        "left-language": left_language,
        "right-language": right_language,
        "min-uses": min_uses,
        "valid-share": valid_share,
        "test-share": test_share,
        "seed": seed,
    }
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        description = _build(data, partial, options)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for line in _lines(description):
        logger.info(line)


def _build(data: Path, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Make the folder, its description last; return the description."""
    languages = {f"--{name}": options[name] for name in ("left-language", "right-language")}
    sources = read_sources(data, languages)
    left = build_left(sources, options["left-language"], options["min-uses"])
    right = build_right(sources, options["right-language"], options["min-uses"])
    links = layout.pair_pictures(left, right)
    counts: dict[str, Any] = {}
    for name, graph in (("left", left), ("right", right)):
        splits = split_triples(
            graph, valid_share=options["valid-share"], test_share=options["test-share"], seed=options["seed"]
        )
        layout.write_side(folder / name, graph, splits)
        counts[name] = layout.count_side(graph, splits)
    layout.write_alignment(folder, left, right, links, options["seed"])
    layout.write_media(folder, left, right)
    chosen = [f"--{name} {value}" for name, value in options.items()]
    description = {
        "command": " ".join(["python tools/build_emoji_graph.py --data DATA --out OUT", *chosen]),
        "licences": LICENCES,
        "links": len(links),
        "same_emoji_without_link": len(set(left.emoji) & set(right.emoji)) - len(links),
        "counts": counts,
        "files_left_out": {BLOB_FOLDER: sources.blob.others, NOTO_FOLDER: sources.noto.others},
        "sha256": sources.hashes(),
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (folder / "README.json").write_text(text, encoding="utf-8", newline="\n")
    return description


def _lines(description: dict[str, Any]) -> list[str]:
    """Return the description in a few lines."""
    lines = [
        f"{side}: {count['entities']:,} entities, {count['relations']} relations, {count['triples']:,} triples, "
        f"{count['pictures']:,} pictures, {count['texts']:,} texts"
        for side, count in description["counts"].items()
    ]
    return [*lines, f"links: {description['links']:,}"]


if __name__ == "__main__":
    run_job(build)
