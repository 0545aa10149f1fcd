"""The zoo of bad input: what a user gets wrong is told in one line that can be acted on, whichever job meets it.

Every line says the place, what was found there, and the remedy; the exit code is 2, and nothing is left half-written.
Jobs run in this process and without Ray (see `desk`).
"""

import json
import os
import pickle
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desk import copy_desk, hold_ray_out, run, write_desk

import snag_dist
from snag_dist.shard.group import Group

Mistake = Callable[[Path], None]
"""Spoils something in a working folder."""


def nothing(_: Path) -> None:
    """Leave the folder alone: the mistake is on the command line."""


def edit(name: str, old: str, new: str) -> Mistake:
    """Replace a text that occurs in a file, once."""

    def spoil(desk: Path) -> None:
        text = (desk / name).read_text()
        assert old in text, f"{name} does not hold {old!r}"
        (desk / name).write_text(text.replace(old, new, 1))

    return spoil


def write(name: str, content: str | bytes) -> Mistake:
    """Write a file whole, in folders that may be new."""

    def spoil(desk: Path) -> None:
        path = desk / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def cut(name: str) -> Mistake:
    """Leave the first half of a file, as a full disk or a broken copy does."""

    def spoil(desk: Path) -> None:
        data = (desk / name).read_bytes()
        (desk / name).write_bytes(data[: len(data) // 2])

    return spoil


def garble(name: str) -> Mistake:
    """Overwrite a file with zeros of the same length, as a broken disk does."""

    def spoil(desk: Path) -> None:
        (desk / name).write_bytes(bytes((desk / name).stat().st_size))

    return spoil


def remove(name: str) -> Mistake:
    """Remove a file or a folder."""

    def spoil(desk: Path) -> None:
        path = desk / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def change(name: str, **fields: Any) -> Mistake:
    """Change fields of a JSON file; two underscores lead into a section."""

    def spoil(desk: Path) -> None:
        tree = json.loads((desk / name).read_text())
        for field, value in fields.items():
            *sections, leaf = field.split("__")
            node = tree
            for section in sections:
                node = node[section]
            node[leaf] = value
        (desk / name).write_text(json.dumps(tree))

    return spoil


def save(name: str, array: Any) -> Mistake:
    """Save an array in place of another one."""
    return lambda desk: np.save(desk / name, array, allow_pickle=True)


def vectors(*shape: int, **values: float) -> Mistake:
    """Save vectors of a shape, all zeros but for a value at `row_column`."""

    def spoil(desk: Path) -> None:
        array = np.zeros(shape, dtype=np.float32)
        for place, value in values.items():
            array[tuple(map(int, place.split("_")[1:]))] = value
        np.save(desk / "vectors.npy", array)

    return spoil


def link(name: str, target: str) -> Mistake:
    """Put a symbolic link, in folders that may be new."""

    def spoil(desk: Path) -> None:
        (desk / name).parent.mkdir(parents=True, exist_ok=True)
        (desk / name).symlink_to(target)

    return spoil


def copy(name: str, other: str) -> Mistake:
    """Copy a file or a folder, the places in which stay those of the original."""

    def spoil(desk: Path) -> None:
        shutil.copytree(desk / name, desk / other)

    return spoil


def both(*mistakes: Mistake) -> Mistake:
    """Make some mistakes one after the other."""

    def spoil(desk: Path) -> None:
        for mistake in mistakes:
            mistake(desk)

    return spoil


@dataclass(frozen=True)
class Case:
    """One mistake, and what the job must say.

    Attributes:
        job: that meets it.
        options: on its command line.
        place, found, remedy: patterns that the line holds in this order.
        spoil: makes the mistake, where it is not in the options.
    """

    job: str
    options: str
    place: str
    found: str
    remedy: str
    spoil: Mistake = nothing


def setting(field: str, value: str) -> str:
    """Return, after a blank, the option that sets a field to a value in TOML."""
    return f" --set {shlex.quote(f'{field}={value}')}"


def text(encoder: str = '{kind="hashing"}') -> str:
    """Return, after a blank, the option that adds the names of entities as a modality, through an encoder."""
    return setting("features.text", f'{{kind="text", source={{kind="names"}}, encoder={encoder}}}')


def sentences(column: str = "text") -> str:
    """Return, after a blank, the option that adds a column of texts.tsv as a modality."""
    return setting("features.text", f'{{kind="text", source={{kind="tsv", path="texts.tsv", columns=["{column}"]}}}}')


def pictures(folder: str) -> str:
    """Return, after a blank, the option that adds the pictures in a folder as a modality."""
    return setting("features.vision", f'{{kind="pictures", source={{kind="folder", path="{folder}"}}}}')


def space(field: str, values: str) -> str:
    """Return, after a blank, the option that makes one parameter the space of a sweep."""
    return setting("tune.space", f'{{"{field}"={{{values}}}}}')


MINE, PAIR, SWEEP, RUN = "--recipe mine.toml", "--recipe pair.toml", "--recipe sweep.toml", "--run runs/done"
FRESH = f"{MINE} --set store=fresh"
"""The graph is read, not found in the store."""
PAIRED = f"{PAIR} --set store=fresh"
AGAIN = f"{MINE} --overwrite"
"""The vectors are read, not found in the store."""
NEW = f"{MINE} --run new"
HOT = "store/features/numbers/hot"
STEP = "runs/done/checkpoints/step-00000004"
SPLIT = "store/triples/train/part-000000-0.parquet"

RECIPES = {
    "recipe is a folder": Case("train", "--recipe graph", "^error: graph:", "found none", "recipes that come along"),
    "recipe is not TOML": Case(
        "ingest",
        MINE,
        r"mine\.toml:",
        "Invalid value .at line 3",
        "mend the recipe",
        edit("mine.toml", '"store"', "store"),
    ),
    "recipe in latin-1": Case(
        "ingest", MINE, r"mine\.toml:", "0xfc", "mend the recipe", write("mine.toml", 'name = "grün"'.encode("latin-1"))
    ),
    "base is not there": Case(
        "tune",
        SWEEP,
        r"none\.toml:",
        "found none",
        "recipes that come along",
        edit("sweep.toml", "mine.toml", "none.toml"),
    ),
    "base of itself": Case(
        "train",
        MINE,
        r"mine\.toml: base:",
        "leads back to itself",
        "stand alone",
        write("mine.toml", 'base = "mine.toml"'),
    ),
    "field misspelt": Case(
        "train",
        MINE,
        r"mine\.toml: train\.epoch:",
        "no such field, got 1;",
        "did you mean 'epochs'",
        edit("mine.toml", "epochs", "epoch"),
    ),
    "field misspelt inside a kind": Case(
        "extract",
        MINE + text('{kind="hashing", widht=9}'),
        r"features\.text\.encoder\.widht:",
        "got 9",
        "did you mean 'width'",
    ),
    "section misspelt": Case(
        "plan", f"{MINE} --set trian.epochs=3", "trian:", "got {'epochs': 3}", "did you mean 'train'"
    ),
    "wrong type": Case(
        "train",
        f"{MINE} --set train.batch_size=many",
        r"train\.batch_size:",
        "valid integer.*got 'many'",
        r"--set train\.batch_size=",
    ),
    "out of range": Case("train", f"{MINE} --set train.lr=-1", r"train\.lr:", "greater than 0, got -1", "mend it"),
    "--set without =": Case(
        "plan", f"{MINE} --set train.epochs", r"--set 'train\.epochs':", r"expected a\.b\.c=value", "name the field"
    ),
    "--set through a value": Case(
        "plan", f"{MINE} --set name.first=x", r"--set name\.first:", "is a value .'done'.", "set it as a whole"
    ),
    "--set without quotes": Case(
        "train",
        f"{MINE} --set modalities=[vision]",
        "--set modalities:",
        r"a list or a section in TOML, got '\[vision\]'",
        "strings in it in quotes",
    ),
    "kind misspelt": Case(
        "ingest",
        f"{FRESH} --set ingest.source.kind=openk",
        r"ingest\.source\.kind:",
        "expected one of 'openke', 'tsv'.*got 'openk'",
        "mend it",
    ),
    "kind left out": Case(
        "extract",
        MINE + text("{width=9}"),
        r"features\.text\.encoder\.kind:",
        "not given",
        r"--set features\.text\.encoder\.kind=",
    ),
    "store left out": Case(
        "ingest",
        MINE,
        r"mine\.toml: store:",
        "not given",
        "add it to the recipe",
        edit("mine.toml", 'store = "store"', ""),
    ),
    "choices that do not go together": Case(
        "train",
        f"{NEW} --set table.placement=disk",
        r"mine\.toml: table: placement 'disk':",
        "adam moves every row",
        r"set table\.kind to lazy_adam",
    ),
    "option misspelt": Case(
        "train", "--recpie mine.toml", "^error: train:", "No such option: --recpie", "--recipe.*--help"
    ),
    "recipe not named": Case("train", "", "^error: train:", "Missing option '--recipe'", "--help"),
    "option without a value": Case("evaluate", "--run", "^error: evaluate:", "'--run' requires an argument", "--help"),
}

GRAPHS = {
    "folder misspelt": Case(
        "ingest", f"{FRESH} --set data=grahp", r"grahp/entity2id\.txt:", "found none", r"check source\.folder"
    ),
    "count line wrong": Case(
        "ingest",
        FRESH,
        r"graph/train2id\.txt line 1:",
        "says 31 triples, the file has 30",
        "mend the count",
        edit("graph/train2id.txt", "30", "31"),
    ),
    "count line left out": Case(
        "ingest",
        FRESH,
        r"graph/entity2id\.txt line 1:",
        r"got 'e0\\t0'",
        "begins with its count",
        edit("graph/entity2id.txt", "12\n", ""),
    ),
    "row of two columns": Case(
        "ingest",
        FRESH,
        r"graph/train2id\.txt line 2:",
        "got '0 1'",
        "mend or remove the line",
        edit("graph/train2id.txt", "0 1 1", "0 1"),
    ),
    "unknown entity": Case(
        "ingest",
        FRESH,
        r"graph/valid2id\.txt line 2:",
        r"head id 99 is not in \[0, 12\)",
        "mend the triple",
        edit("graph/valid2id.txt", "\n6 ", "\n99 "),
    ),
    "columns in another order": Case(
        "ingest",
        FRESH,
        r"graph/test2id\.txt line 2:",
        "relation id 7.*column 2 looks like the relation",
        "reorder the columns",
        write("graph/test2id.txt", "2\n3 0 7\n4 1 8\n"),
    ),
    "split without triples": Case(
        "ingest",
        FRESH,
        r"graph/test2id\.txt:",
        "found none",
        "an empty split cannot be used",
        write("graph/test2id.txt", "0\n"),
    ),
    "keys in latin-1": Case(
        "ingest",
        FRESH,
        r"graph/entity2id\.txt line 3:",
        "got byte 0xfc",
        "iconv",
        write("graph/entity2id.txt", "2\ne0\t0\ngrün\t1\n".encode("latin-1")),
    ),
    "id twice": Case(
        "ingest",
        FRESH,
        r"graph/entity2id\.txt line 3:",
        "id 0 is already taken in line 2",
        "its own id",
        edit("graph/entity2id.txt", "e1\t1", "e1\t0"),
    ),
    "key twice": Case(
        "ingest",
        FRESH,
        r"graph/entity2id\.txt line 3:",
        "'e0' already stands in line 2",
        "rename or merge",
        edit("graph/entity2id.txt", "e1\t1", "e0\t1"),
    ),
    "blanks for tabs": Case(
        "ingest",
        FRESH + setting("ingest.source", '{kind="tsv", folder="graph"}'),
        r"graph/train\.tsv line 1:",
        "got 'New York in USA'",
        "mend or remove",
        both(*(write(f"graph/{split}.tsv", "New York in USA\n") for split in ("train", "valid", "test"))),
    ),
    "one split of three": Case(
        "ingest",
        FRESH + setting("ingest.source", '{kind="tsv", folder="graph"}'),
        "graph:",
        r"expected valid\.tsv or valid\.txt, found none",
        "name the files",
        write("graph/train.tsv", "a\tb\tc\n"),
    ),
    "link of an unknown entity": Case(
        "ingest",
        PAIRED,
        "pair/ill_ent_ids line 1:",
        "id 999 is in neither",
        "mend or remove the link",
        edit("pair/ill_ent_ids", "0\t", "999\t"),
    ),
    "no links": Case(
        "ingest", PAIRED, "pair: expected links", "found none of them", "check the folder", remove("pair/ill_ent_ids")
    ),
    "entity of both graphs": Case(
        "ingest",
        PAIRED,
        r"pair/ent_ids_2 line \d+:",
        r"is in both graphs.*ent_ids_1 line \d+",
        "disjoint ids",
        edit("pair/ent_ids_2", "1\t", "0\t"),
    ),
    "triple across the graphs": Case(
        "ingest",
        PAIRED,
        "pair/triples_1 line 1:",
        "tail id 1 is an entity of the other graph",
        "mend or remove it",
        edit("pair/triples_1", "\t", "\t0\t1\n0\t"),
    ),
    "repair of two graphs": Case(
        "ingest",
        f"{PAIRED} --set ingest.repair.dev_share=0.1",
        r"pair\.toml: ingest:",
        "expected no repair",
        "remove repair$",
    ),
}

FEATURES = {
    "vectors of another graph": Case(
        "extract", AGAIN, r"vectors\.npy:", "expected 12 rows.*got 9", "make the array for this graph", vectors(9, 6)
    ),
    "vector with NaN": Case(
        "extract",
        AGAIN,
        r"vectors\.npy row 3 .entity 'e3'. column 2:",
        "got nan",
        "mend the vector",
        vectors(12, 6, at_3_2=np.nan),
    ),
    "number too large for float16": Case(
        "extract",
        AGAIN,
        r"vectors\.npy row 3 .entity 'e3'. column 2:",
        "got 100000",
        "set dtype to float32",
        vectors(12, 6, at_3_2=1e5),
    ),
    "vectors without columns": Case(
        "extract", AGAIN, r"vectors\.npy:", r"got shape \(12,\)", "reshape or cast", vectors(12)
    ),
    "vectors pickled": Case(
        "extract",
        AGAIN,
        r"vectors\.npy:",
        "got: .*Python objects",
        "without objects",
        save("vectors.npy", np.array([{}] * 12)),
    ),
    "vectors cut off": Case(
        "extract", AGAIN, r"vectors\.npy:", "greater than file size", r"numpy\.save", cut("vectors.npy")
    ),
    "text called npy": Case(
        "extract", AGAIN, r"vectors\.npy:", "begins with b'1 2 3", r"numpy\.save", write("vectors.npy", "1 2 3\n")
    ),
    "pickle that calls": Case(
        "extract",
        f"{AGAIN} --set features.numbers.path=v.pkl --set features.numbers.keys=key",
        r"v\.pkl:",
        r"got the name 'builtins\.print'",
        r"numpy\.save",
        write("v.pkl", pickle.dumps(print)),
    ),
    "vectors in CSV": Case(
        "extract",
        f"{AGAIN} --set features.numbers.path=v.csv",
        r"v\.csv:",
        r"got '\.csv'",
        "convert the file",
        write("v.csv", "1,2\n"),
    ),
    "vectors are not there": Case(
        "extract", f"{AGAIN} --set features.numbers.path=none.npy", r"none\.npy:", "found none", "mend the path"
    ),
    "vectors made in another way": Case(
        "extract",
        f"{MINE} --set features.numbers.normalise=true",
        r"store/features/numbers/manifest\.json:",
        "made in another way",
        "remove the folder, extract with overwrite",
    ),
    "pictures folder is empty": Case(
        "extract",
        MINE + pictures("none"),
        r"folder none: features\.vision:",
        "nothing is there",
        "compare the keys",
        lambda desk: (desk / "none").mkdir(),
    ),
    "pictures of another kind": Case(
        "extract",
        MINE + pictures("others"),
        r"folder others: features\.vision:",
        r"others/e1\.heic: files with suffix 'heic' are not read",
        "compare the keys",
        write("others/e1.heic", ""),
    ),
    "pictures of another graph": Case(
        "extract",
        MINE + pictures("others"),
        r"folder others: features\.vision:",
        "1 keys are unknown, e.g. 'x'",
        "compare the keys",
        write("others/x.png", ""),
    ),
    "broken picture, strictly": Case(
        "extract",
        f"{MINE} --strict" + pictures("pictures"),
        r"pictures/e2\.png .entity 'e2'.:",
        "broken PNG",
        "without --strict",
    ),
    "link out of the pictures": Case(
        "extract",
        MINE + pictures("pictures"),
        r"pictures/e9\.png:",
        r"a link that leads out of it, to .*vectors\.npy",
        "copy the file",
        link("pictures/e9.png", "../vectors.npy"),
    ),
    "column misspelt": Case(
        "extract", MINE + sentences("txt"), r"texts\.tsv line 1:", "'txt', found key, text", "mend the column's name"
    ),
    "entity described twice": Case(
        "extract",
        MINE + sentences(),
        r"texts\.tsv line 4:",
        "key 'e1' already stands in .*line 3",
        "merge or remove",
        edit("texts.tsv", "e2", "e1"),
    ),
    "tab inside a sentence": Case(
        "extract",
        MINE + sentences(),
        r"texts\.tsv:",
        "Row #4: Expected 2 columns, got 3",
        "2 fields separated by tabs",
        edit("texts.tsv", "thing 2", "thing\t2"),
    ),
    "sentences in latin-1": Case(
        "extract",
        MINE + sentences(),
        r"texts\.tsv line 1:",
        "byte 0xfc",
        "iconv",
        write("texts.tsv", "key\ttext\ne0\tgrün\n".encode("latin-1")),
    ),
    "no model in the folder": Case(
        "extract",
        MINE + text('{kind="sentence_transformers", model="./models/none"}'),
        r"encoder\.model '\./models/none':",
        "found none",
        "mend the path",
    ),
    "package of a model is not installed": Case(
        "extract",
        MINE + text('{kind="sentence_transformers", model="package:no_such/model"}'),
        r"encoder\.model 'package:no_such/model':",
        "found none",
        "pip install",
    ),
    "encoder that does not exist": Case(
        "extract", MINE + text('{kind="bert"}'), r"features\.text\.encoder\.kind:", "'hashing'.*got 'bert'", "mend it"
    ),
    "modality called graph": Case(
        "extract",
        MINE + setting("features.graph", '{kind="relation_bag"}'),
        r"features\.graph:",
        "not 'graph'",
        "rename the modality",
    ),
    "attributes of one graph": Case(
        "extract",
        MINE + setting("features.text", '{kind="attribute_bag", folder="graph"}'),
        "graph: expected attributes",
        "found neither",
        "leave the modality out",
    ),
    "vectors of no store": Case(
        "extract", f"{MINE} --reuse old", r"old/manifest\.json:", "found none .no such folder.", r"jobs/ingest\.py"
    ),
    "share in percent": Case(
        "ingest", f"{MINE} --set missing.numbers=40", r"missing\.numbers", "less than or equal to 1, got 40", "mend it"
    ),
    "among the linked, of one graph": Case(
        "ingest",
        MINE + setting("missing.numbers", '{ratio=0.4, among="linked"}'),
        r"missing\.numbers\.among:",
        "got 'linked'",
        "set it to 'all'",
    ),
}

STORES = {
    "store below a file": Case(
        "ingest",
        f"{MINE} --set store=vectors.npy/store",
        r"vectors\.npy/store\.partial:",
        "Not a directory",
        "mend the path",
    ),
    "store is a folder of pictures": Case(
        "ingest",
        f"{MINE} --set store=pictures",
        r"pictures/manifest\.json:",
        "found none .an unfinished folder.",
        "another one",
    ),
    "store of another source": Case(
        "ingest",
        MINE,
        r"store/manifest\.json:",
        "another source.*openke graph",
        "remove the folder",
        edit("graph/train2id.txt", "0 1 1", "0 2 1"),
    ),
    "store of another seed": Case(
        "train",
        f"{NEW} --set ingest.seed=1",
        r"store/manifest\.json:",
        "another source or config .*seed 0",
        "remove the folder",
    ),
    "store of another format": Case(
        "plan",
        MINE,
        r"store/manifest\.json:",
        r"expected format version \d, got 99",
        "make the store",
        change("store/manifest.json", format_version=99),
    ),
    "manifest cut off": Case(
        "train",
        NEW,
        r"store/manifest\.json:",
        "expected the manifest of a store, got JSONDecodeError",
        "remove the folder",
        cut("store/manifest.json"),
    ),
    "manifest leads out of the store": Case(
        "plan",
        MINE,
        r"store/manifest\.json: files:",
        r"got '\.\./vectors\.npy'",
        "make the store",
        change("store/manifest.json", files={"../vectors.npy": {"num_bytes": 1, "sha256": ""}}),
    ),
    "entities cut off": Case(
        "train",
        NEW,
        r"store/entities\.parquet:",
        r"expected \d+ bytes, found \d+ bytes",
        "remove the folder",
        cut("store/entities.parquet"),
    ),
    "entities overwritten": Case(
        "extract",
        MINE + text(),
        r"store/entities\.parquet:",
        "expected Parquet, got",
        "make it anew",
        garble("store/entities.parquet"),
    ),
    "triples overwritten": Case("train", NEW, rf"{SPLIT}:", "expected Parquet, got", "make it anew", garble(SPLIT)),
    "audit overwritten": Case(
        "ingest",
        MINE,
        r"store/audit\.json:",
        "expected JSON of a store, got",
        "make it anew",
        garble("store/audit.json"),
    ),
    "vectors cut off": Case(
        "train",
        NEW,
        rf"{HOT}/shard-00000\.npy:",
        r"expected \d+ bytes, found \d+",
        "extract the modality again",
        cut(f"{HOT}/shard-00000.npy"),
    ),
    "vectors overwritten": Case(
        "train",
        NEW,
        rf"{HOT}/shard-00000\.npy:",
        r"begins with b'\\x00",
        "extract it again",
        garble(f"{HOT}/shard-00000.npy"),
    ),
    "presence overwritten": Case(
        "train",
        NEW,
        rf"{HOT}/shard-00001\.present\.npy:",
        r"begins with b'\\x00",
        "extract it again",
        garble(f"{HOT}/shard-00001.present.npy"),
    ),
    "statistics overwritten": Case(
        "train",
        NEW,
        r"store/features/numbers/statistics\.npz:",
        r"begins with b'\\x00",
        "extract it again",
        garble("store/features/numbers/statistics.npz"),
    ),
    "vectors overwritten, some to be lost": Case(
        "train",
        f"{NEW} --set missing.numbers=0.5",
        rf"{HOT}/shard-00000\.npy:",
        r"begins with b'\\x00",
        "extract it again",
        garble(f"{HOT}/shard-00000.npy"),
    ),
    "vectors of another store": Case(
        "train",
        NEW,
        "store/features/numbers:",
        "belong to store 0123",
        "extract the modality again",
        change("store/features/numbers/manifest.json", store_fingerprint="0123"),
    ),
    "disk is full": Case(
        "extract",
        MINE,
        r"store/coverage\.json:",
        "No space left on device",
        "make room",
        link(f"store/coverage.json.{os.getpid()}.partial", "/dev/full"),
    ),
}

RUNS = {
    "name with a blank": Case("train", f"{MINE} --run 'my run'", r"mine\.toml: name:", "got 'my run'", "mend it"),
    "run is finished": Case("train", MINE, "runs/done:", "already used by a finished run", "choose another"),
    "run of another recipe": Case(
        "train", f"{MINE} --set train.epochs=2", "runs/done:", "a run with another recipe", "choose another"
    ),
    "finished run without its report": Case(
        "train",
        MINE,
        r"runs/done/metrics-test\.json:",
        "missing from a finished run",
        "train again",
        remove("runs/done/metrics-test.json"),
    ),
    "recipe of a run cut off": Case(
        "train", MINE, r"runs/done/config\.json:", "expected JSON, got", "restore it", cut("runs/done/config.json")
    ),
    "status of a run cut off": Case(
        "train", MINE, r"runs/done/run\.json:", "expected JSON, got", "restore it", cut("runs/done/run.json")
    ),
    "every checkpoint cut off": Case(
        "train",
        MINE,
        "runs/done/checkpoints:",
        r"dense\.safetensors: expected \d+ bytes, found",
        "remove the folder",
        both(change("runs/done/run.json", state="interrupted"), cut(f"{STEP}/dense.safetensors")),
    ),
    "run begun on another store": Case(
        "train",
        MINE,
        "store: store fingerprint",
        "differs from 0123",
        "pass the store of the run",
        change("runs/done/run.json", state="running", store_fingerprint="0123"),
    ),
    "file in the place of a run": Case(
        "train", NEW, "runs/new:", "File exists", "mend the path", write("runs/new", "")
    ),
    "disk is full": Case(
        "train",
        NEW,
        r"runs/new/driver\.json:",
        "No space left on device",
        "make room",
        link(f"runs/new/driver.json.{os.getpid()}.partial", "/dev/full"),
    ),
    "variant with a store of its own": Case(
        "train", f"{NEW} --set variants.b.store=other", r"mine\.toml: variants:", "'b' changes 'store'", "mend it"
    ),
    "field of a variant misspelt": Case(
        "train",
        NEW + setting("variants.b", '{"train.epoch"=3}'),
        r"variants\.b: train\.epoch:",
        "no such field, got 3",
        "did you mean 'epochs'",
    ),
    "modality that the store lacks": Case(
        "train",
        NEW + setting("modalities", '["vision"]'),
        "store:",
        "'vision' is not in the store .it has: numbers",
        "extract it",
    ),
    "too few CPUs": Case(
        "train",
        f"{NEW} --set cluster.num_workers=9",
        r"cluster\.num_workers:",
        "need 4.5 CPUs, the cluster has 2",
        "use fewer workers",
    ),
    "no GPU": Case(
        "train",
        f"{NEW} --set cluster.use_gpu=true",
        r"cluster\.num_workers:",
        "the cluster has 0",
        r"cluster\.use_gpu=false",
    ),
    "more workers than shards": Case(
        "plan", f"{MINE} --set cluster.num_workers=4", r"cluster\.num_workers:", "at most 2.*got 4", "virtual_shards"
    ),
    "no dev triples": Case(
        "train",
        NEW,
        "store: the store has no dev triples",
        "selected on dev",
        r"ingest\.repair\.dev_share",
        change("store/manifest.json", num_triples={"train": 30, "test": 4}),
    ),
    "alignment of one graph": Case(
        "train",
        f"{NEW} --set method.kind=snag_alignment",
        "store:",
        "expected a store of two graphs with links, found one of openke",
        "kind 'alignment'",
    ),
    "mining without alignment": Case(
        "train",
        f"{NEW} --set iterative.epochs=3",
        r"mine\.toml: iterative:",
        "a method of alignment, got 'snag'",
        "mend the recipe",
    ),
    "dev share out of range": Case(
        "train", f"{PAIR} --run new --set links.dev_share=1.5", r"links\.dev_share:", "less than 1, got 1.5", "mend it"
    ),
    "no links to train on": Case(
        "train",
        f"{PAIR} --run new --set links.train_share=0.001",
        "train_share, dev_share:",
        "got 0 and 120 of 120",
        "set other shares",
    ),
    "no links to select on": Case(
        "train",
        f"{PAIR} --run new --set links.train_share=0.02",
        r"links\.train_share, links\.dev_share:",
        "got 0 of 2 outside test",
        "set larger shares",
    ),
    "tracker with a token": Case(
        "train",
        f"{NEW} --set 'telemetry.mlflow.tracking_uri=https://host/?token=hunter2'",
        r"telemetry\.mlflow\.tracking_uri:",
        r"got 'https://host/\?token=\.\.\.'",
        "MLFLOW_TRACKING_TOKEN",
    ),
}

EVALUATIONS = {
    "run misspelt": Case("evaluate", "--run runs/dnoe", "runs/dnoe:", "found none", r"jobs/train\.py printed"),
    "split misspelt": Case(
        "evaluate",
        f"{RUN} --split tset",
        "--split:",
        "expected one of test, valid, new, got 'tset'",
        "name one of these",
    ),
    "another learning rate": Case(
        "evaluate",
        f"{RUN} --set train.lr=1",
        r"--set train\.lr=1:",
        "can only be evaluated in another way",
        "fields under evaluate or cluster",
    ),
    "field misspelt": Case(
        "evaluate",
        f"{RUN} --set evaluate.budget_byte=1",
        r"evaluate\.budget_byte:",
        "no such field, got 1",
        "did you mean 'budget_bytes'",
    ),
    "no checkpoint yet": Case(
        "evaluate", RUN, "runs/done/checkpoints:", "found none", "first evaluation", remove("runs/done/checkpoints")
    ),
    "rows cut off": Case(
        "evaluate",
        RUN,
        rf"{STEP}/rows-00001\.safetensors:",
        r"expected \d+ bytes, found",
        "restore the file",
        cut(f"{STEP}/rows-00001.safetensors"),
    ),
    "weights overwritten": Case(
        "evaluate",
        RUN,
        rf"{STEP}/dense\.safetensors:",
        "sha256 differs",
        "restore the file",
        garble(f"{STEP}/dense.safetensors"),
    ),
    "BEST leads out of the run": Case(
        "evaluate",
        RUN,
        "runs/done/checkpoints/BEST:",
        r"found '\.\./\.\./other'",
        "restore the file",
        write("runs/done/checkpoints/BEST", "../../other"),
    ),
    "manifest was written in": Case(
        "evaluate",
        RUN,
        rf"{STEP}/manifest\.json:",
        "digest differs",
        "restore the file",
        change(f"{STEP}/manifest.json", format_version=1),
    ),
    "checkpoint of another format": Case(
        "evaluate",
        RUN,
        f"{STEP}:",
        "expected a checkpoint of format 2, found 1",
        "start a new run",
        change(f"{STEP}/manifest.json", format_version=1, digest=None),
    ),
    "recipe of a run is a list": Case(
        "evaluate",
        RUN,
        r"runs/done/config\.json:",
        "a tree of fields, got list",
        "restore it",
        write("runs/done/config.json", "[]"),
    ),
    "store of a run is gone": Case(
        "evaluate", RUN, r"store/manifest\.json:", "found none .no such folder", r"jobs/ingest\.py", remove("store")
    ),
    "runs misspelt": Case("evaluate", "--table rnus", "rnus:", "found none", "mend the path"),
    "table of a run that goes on": Case(
        "evaluate",
        "--table runs/done",
        "runs/done:",
        "1 unfinished",
        "finish their training",
        change("runs/done/run.json", state="running"),
    ),
    "table of two tasks": Case(
        "evaluate",
        "--table runs",
        "runs/pair: task:",
        "expected 'completion'.*got 'alignment'",
        "pass them apart",
        change("runs/pair/config.json", store="store"),
    ),
    "one seed, two results": Case(
        "evaluate",
        "--table runs",
        "runs/other:",
        "same recipe and seed 0, got others",
        "leave one",
        both(copy("runs/done", "runs/other"), change("runs/other/metrics-test.json", metrics__realistic__mrr=0.99)),
    ),
    "report cut off": Case(
        "evaluate",
        "--table runs",
        r"runs/done/metrics-test\.json:",
        "expected JSON, got",
        r"jobs/evaluate\.py",
        cut("runs/done/metrics-test.json"),
    ),
    "report of something else": Case(
        "evaluate",
        "--table runs",
        r"runs/done/metrics-test\.json:",
        "protocol: required",
        r"run jobs/evaluate\.py again",
        write("runs/done/metrics-test.json", "{}"),
    ),
    "table into a file": Case(
        "evaluate", "--table runs --out mine.toml", r"--out mine\.toml:", "found a file", "name another one"
    ),
}

SWEEPS = {
    "field misspelt": Case(
        "tune",
        SWEEP + space("method.nosie.ratio", 'kind="grid", values=[0.1]'),
        r"tune\.space: method\.nosie\.ratio:",
        "no such field",
        "did you mean 'noise'",
    ),
    "value out of range": Case(
        "tune",
        SWEEP + space("method.noise.ratio", 'kind="grid", values=[0.1, 3]'),
        r"tune\.space: method\.noise\.ratio:",
        "less than or equal to 1, got 3",
        "mend it",
    ),
    "field that trials share": Case(
        "tune",
        SWEEP + space("seed", 'kind="grid", values=[1, 2]'),
        r"tune\.space: seed:",
        "all trials of a sweep share",
        r"tune\.seeds",
    ),
    "range under grid search": Case(
        "tune",
        SWEEP + space("train.lr", 'kind="uniform", low=0.1, high=0.2'),
        r"tune\.space: train\.lr:",
        "got 'uniform'",
        r"tune\.search\.kind=random",
    ),
    "range upside down": Case(
        "tune",
        SWEEP + space("train.lr", 'kind="uniform", low=0.2, high=0.1'),
        r"sweep\.toml: tune\.space\.train\.lr:",
        r"more than low=0\.2, got 0\.1",
        "exchange them$",
    ),
    "value twice": Case(
        "tune",
        SWEEP + space("train.lr", 'kind="grid", values=[0.1, 0.1]'),
        r"tune\.space\.train\.lr:",
        "one of them twice",
        "remove it$",
    ),
    "seed twice": Case("tune", f"{SWEEP} --set tune.seeds=[0,0]", r"tune\.seeds:", r"got \[0, 0\]", "mend it"),
    "grace too short": Case(
        "tune",
        f"{SWEEP} --set tune.scheduler.kind=asha --set tune.scheduler.grace_epochs=2",
        r"tune\.scheduler\.grace_epochs:",
        "at least 3.*got 2",
        "raise it",
    ),
    "epochs in the space of ASHA": Case(
        "tune",
        f"{SWEEP} --set tune.scheduler.kind=asha" + space("train.epochs", 'kind="grid", values=[3, 9]'),
        r"tune\.space: train\.epochs:",
        "got several",
        r"tune\.scheduler\.kind=none",
    ),
    "too many trials at a time": Case(
        "tune",
        f"{SWEEP} --set tune.max_concurrent=8",
        r"tune\.max_concurrent:",
        "need 4.08 CPUs, the cluster has 2",
        r"lower tune\.max_concurrent",
    ),
    "section is a number": Case("tune", f"{SWEEP} --set tune=3", r"sweep\.toml: tune:", "got 3", r"write \[tune\]"),
    "nothing to search": Case(
        "tune",
        f"{SWEEP} --set tune.space={{}} --set method.noise.kind=none",
        r"tune\.space:",
        "got none",
        "name fields",
    ),
    "name of a run": Case(
        "tune", f"{SWEEP} --run done", "runs/done:", r"found a run of jobs/train\.py", "another name"
    ),
    "name of another sweep": Case(
        "tune",
        SWEEP,
        "runs/sweep:",
        "already used by a sweep around another recipe",
        "choose another",
        write("runs/sweep/sweep.json", "{}"),
    ),
    "sweep cut off": Case(
        "tune",
        SWEEP,
        r"runs/sweep/sweep\.json:",
        "expected JSON, got",
        "restore it",
        write("runs/sweep/sweep.json", '{"recipe": {'),
    ),
    "store of another graph": Case(
        "tune",
        SWEEP,
        r"store/manifest\.json:",
        "another source",
        "remove the folder",
        edit("graph/train2id.txt", "0 1 1", "0 2 1"),
    ),
}

EXPORTS = {
    "no checkpoint yet": Case(
        "export", RUN, "runs/done/checkpoints:", "found none", "first evaluation", remove("runs/done/checkpoints")
    ),
    "directory is there": Case(
        "export",
        f"{RUN} --out pictures",
        "pictures: expected a new directory",
        "it is there",
        "choose another with --out",
    ),
    "number format misspelt": Case(
        "export", f"{RUN} --set dtype=float16", "export: dtype:", "'fp16'.*got 'float16'", "mend it"
    ),
    "consumer misspelt": Case("export", f"{RUN} --to lava", r"export: to\.0:", "'llava'.*got 'lava'", "mend it"),
    "field misspelt": Case(
        "export", f"{RUN} --set token=false", "export: token:", "no such field, got False", "did you mean 'tokens'"
    ),
    "rows cut off": Case(
        "export",
        RUN,
        rf"{STEP}/rows-00000\.safetensors:",
        "missing or damaged",
        "point BEST at another",
        cut(f"{STEP}/rows-00000.safetensors"),
    ),
    "manifest cut off": Case(
        "export",
        RUN,
        rf"{STEP}/manifest\.json:",
        "expected JSON, found something else",
        "point BEST at another",
        cut(f"{STEP}/manifest.json"),
    ),
    "manifest of something else": Case(
        "export",
        RUN,
        rf"{STEP}/manifest\.json:",
        "expected a tree with `files`",
        "point BEST at another",
        write(f"{STEP}/manifest.json", "{}"),
    ),
    "checkpoint of another format": Case(
        "export",
        RUN,
        rf"{STEP}/manifest\.json:",
        "expected a checkpoint of format 2, found 1",
        "the version of snag_dist",
        change(f"{STEP}/manifest.json", format_version=1, digest=None),
    ),
    "manifest leads out of the checkpoint": Case(
        "export",
        RUN,
        rf"{STEP}/manifest\.json: files:",
        r"got '\.\./LATEST'",
        "point BEST at another",
        change(f"{STEP}/manifest.json", files={"../LATEST": {"sha256": ""}}, digest=None),
    ),
    "BEST leads out of the run": Case(
        "export",
        RUN,
        "runs/done/checkpoints/BEST:",
        r"got '\.\./\.\./other'",
        "write the name of one",
        write("runs/done/checkpoints/BEST", "../../other"),
    ),
    "recipe of a run cut off": Case(
        "export", RUN, r"runs/done/config\.json:", "expected JSON, got", "restore it", cut("runs/done/config.json")
    ),
    "recipe of a run without a section": Case(
        "export",
        RUN,
        r"runs/done/config\.json: ingest:",
        "got None",
        "restore it",
        change("runs/done/config.json", ingest=None),
    ),
    "store of a run is gone": Case(
        "export", RUN, r"store/manifest\.json:", "no such folder", r"jobs/ingest\.py", remove("store")
    ),
    "store made anew": Case(
        "export",
        RUN,
        "store: store fingerprint 0123",
        "differs from",
        "the store of the run",
        change("store/manifest.json", fingerprint="0123"),
    ),
    "run of alignment": Case(
        "export",
        "--run runs/pair",
        r"runs/pair/config\.json: method\.kind:",
        "got 'snag_alignment'",
        "export a completion run",
    ),
    "no model for LLaVA": Case("export", f"{RUN} --to llava", "--to llava:", "got none", r"--set llava\.llm=PATH"),
    "directory below a file": Case(
        "export", f"{RUN} --out vectors.npy/out", r"vectors\.npy/out\.partial:", "Not a directory", "mend the path"
    ),
    "run is a file": Case("export", "--run mine.toml", r"mine\.toml:", "found none", r"jobs/train\.py printed"),
}

ZOO = {
    f"{case.job}: {name}": case
    for cases in (RECIPES, GRAPHS, FEATURES, STORES, RUNS, EVALUATIONS, SWEEPS, EXPORTS)
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def desk(group: Group, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with two stores and two finished runs; every case gets a copy of it."""
    folder = tmp_path_factory.mktemp("desk")
    write_desk(folder)
    with pytest.MonkeyPatch.context() as patch:
        hold_ray_out(patch)
        patch.chdir(folder)
        for recipe in ("mine", "pair"):
            snag_dist.train(Path(f"{recipe}.toml"))
    return folder


def listed(folder: Path) -> list[str]:
    """List all that lies below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ZOO)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing_behind(
    name: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = ZOO[name]
    copy_desk(desk, tmp_path)
    case.spoil(tmp_path)
    before = listed(tmp_path)
    monkeypatch.chdir(tmp_path)
    hold_ray_out(monkeypatch)
    done = run(case.job, shlex.split(case.options), monkeypatch, capsys)
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert re.search(f"{case.place}.*{case.found}.*{case.remedy}", line), line
    # Nothing is new, nothing is lost, and what is half-written does not stay.
    assert listed(tmp_path) == [path for path in before if not path.endswith(".partial")]


def test_a_run_of_a_version_with_fewer_fields_is_of_the_same_recipe(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy_desk(desk, tmp_path)
    config = tmp_path / "runs" / "done" / "config.json"
    tree = json.loads(config.read_text())
    del tree["train"]["verify_store"], tree["telemetry"]
    config.write_text(json.dumps(tree))
    hold_ray_out(monkeypatch)
    monkeypatch.chdir(tmp_path)
    done = run("train", shlex.split(MINE), monkeypatch, capsys)
    assert "run name 'done' is already used by a finished run" in done.err
    del tree["name"]
    config.write_text(json.dumps(tree))
    done = run("train", shlex.split(MINE), monkeypatch, capsys)
    assert "run name 'done' is already used by a run with another recipe" in done.err
