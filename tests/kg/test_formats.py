"""Every reader gives the same graph, and every mistake of a file is told in one line."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.formats import TripleColumns, graph_from_columns, read_ntriples, read_openke, read_tsv
from snag_dist.kg.graph import Graph

# Five entities, two relations; the relation stands last in OpenKE.
OPENKE = {
    "entity2id.txt": "5\nAda Lovelace\t0\nLondon 1\n/m/02 with space 2\nParis\t3\nZürich\t4\n",
    "relation2id.txt": "2\nborn in\t0\nlikes\t1\n",
    "train2id.txt": "3\n0 1 0\n0\t3\t1\n2 3 0\n",
    "valid2id.txt": "1\n2 1 1\n",
    "test2id.txt": "1\r\n4 1 1\r\n",
}
TRAIN = [[0, 0, 1], [0, 1, 3], [2, 0, 3]]


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def error_of(read: Callable[[], Graph], folder: Path) -> str:
    """Return the message of the error, with the folder cut off."""
    with pytest.raises(DataError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def test_openke_puts_the_relation_in_the_middle(tmp_path: Path) -> None:
    graph = read_openke(write(tmp_path, OPENKE))
    assert graph.entities == ("Ada Lovelace", "London", "/m/02 with space", "Paris", "Zürich")
    assert graph.relations == ("born in", "likes")
    assert graph.split("train").tolist() == TRAIN
    assert graph.split("valid").tolist() == [[2, 1, 1]]
    assert graph.split("test").tolist() == [[4, 1, 1]]
    assert graph.entity_names is None
    assert graph.relation_names is None


def test_openke_ids_may_stand_in_any_order_and_names_hold_odd_separators(tmp_path: Path) -> None:
    odd = "London\u2028(city) 1"
    files = OPENKE | {"entity2id.txt": f"\ufeff5\n\nParis\t3\n{odd}\nAda 0\nB 2\nC 4\n"}
    assert read_openke(write(tmp_path, files)).entities == ("Ada", "London\u2028(city)", "B", "Paris", "C")


def test_labels_are_joined_by_key_and_fall_back_to_it(tmp_path: Path) -> None:
    names = "id\tkey\tname\textra\n3\tParis\tParis, France\tx\n1\tLondon\t\tx\n9\tRome\tRoma\tx\n"
    files = OPENKE | {"entities.tsv": names, "relation_names.txt": "2\n1\tis fond of\n"}
    graph = read_openke(write(tmp_path, files))
    assert graph.entity_names == ("Ada Lovelace", "London", "/m/02 with space", "Paris, France", "Zürich")
    assert graph.relation_names == ("born in", "is fond of")


OPENKE_ERRORS = {
    "unknown entity": (
        {"train2id.txt": "3\n0 1 0\n0 9 1\n2 3 0\n"},
        "train2id.txt line 3: tail id 9 is not in [0, 5); mend the triple or add its entity to the list of entity keys",
    ),
    "unknown relation, once": (
        {"train2id.txt": "30\n" + "2 4 0\n" * 29 + "2 4 2\n"},
        "train2id.txt line 31: relation id 2 is not in [0, 2); "
        "mend the triple or add its relation to the list of relation keys",
    ),
    "columns in the order of TSV": (
        {"train2id.txt": "3\n0 0 1\n0 1 3\n2 0 3\n"},
        "train2id.txt line 3: relation id 3 (column 3) is not in [0, 2); this layout is head tail relation, "
        "but column 2 looks like the relation: reorder the columns or read the file in the other layout "
        "(OpenKE is head tail relation, TSV is head relation tail)",
    ),
    "count of triples": (
        {"train2id.txt": "4\n0 1 0\n0 3 1\n2 3 0\n"},
        "train2id.txt line 1: the header says 4 triples, the file has 3; "
        "restore the file, or mend the count if the lines are right",
    ),
    "no count": (
        {"train2id.txt": "0 1 0\n0 3 1\n2 3 0\n"},
        "train2id.txt line 1: expected the number of lines that follow, got '0 1 0'; "
        "an OpenKE file begins with its count",
    ),
    "count of keys": (
        {"relation2id.txt": "3\nborn in\t0\nlikes\t1\n"},
        "relation2id.txt line 1: the header says 3 lines, the file has 2; "
        "restore the file, or mend the count if the lines are right",
    ),
    "no count of keys": (
        {"relation2id.txt": "born in\t0\nlikes\t1\n"},
        "relation2id.txt line 1: expected the number of lines that follow, got 'born in\\t0'; "
        "an OpenKE file begins with its count",
    ),
    "key twice": (
        {"entity2id.txt": "5\nA 0\nB 1\nC 2\nB 3\nD 4\n"},
        "entity2id.txt line 5: entity key 'B' already stands in line 3; keys must be distinct, so rename or merge them",
    ),
    "id twice": (
        {"entity2id.txt": "5\nA 0\nB 1\nC 2\nD 1\nE 4\n"},
        "entity2id.txt line 5: entity id 1 is already taken in line 3; give every key its own id",
    ),
    "id beyond the count": (
        {"entity2id.txt": "5\nA 0\nB 1\nC 2\nD 3\nE 5\n"},
        "entity2id.txt line 6: entity id 5 is not in [0, 5); ids must be 0, 1, 2, ... without gaps, one a line",
    ),
    "key without id": (
        {"entity2id.txt": "1\nLondon\n"},
        "entity2id.txt line 2: expected 'entity id' with an integer id at the end, got 'London'; "
        "mend or remove the line",
    ),
    "empty split": (
        {"valid2id.txt": "0\n"},
        "valid2id.txt: expected triples, found none; an empty split cannot be used",
    ),
    "too few values": (
        {"train2id.txt": "3\n0 1 0\n0 3\n2 3 0\n"},
        "train2id.txt line 3: expected 3 non-negative integers (head tail relation), got '0 3'; "
        "mend or remove the line",
    ),
    # Six values on two lines: the right number in all, the wrong number a line.
    "values on the wrong lines": (
        {"train2id.txt": "2\n0 1 0 2\n3 0\n"},
        "train2id.txt line 2: expected 3 non-negative integers (head tail relation), got '0 1 0 2'; "
        "mend or remove the line",
    ),
    "a triple over two lines": (
        {"train2id.txt": "2\n0 1\n0 3 1 2\n"},
        "train2id.txt line 2: expected 3 non-negative integers (head tail relation), got '0 1'; "
        "mend or remove the line",
    ),
    "two triples a line": (
        {"train2id.txt": "2\n0 1 0 2 3 0\n"},
        "train2id.txt line 2: expected 3 non-negative integers (head tail relation), got '0 1 0 2 3 0'; "
        "mend or remove the line",
    ),
    "not a number": (
        {"train2id.txt": "3\n0 1 0\n\n0 3 -1\n2 3 0\n"},
        "train2id.txt line 4: expected 3 non-negative integers (head tail relation), got '0 3 -1'; "
        "mend or remove the line",
    ),
    "a number beyond 64 bits": (
        {"train2id.txt": "1\n0 1 99999999999999999999\n"},
        "train2id.txt line 2: expected 3 non-negative integers (head tail relation), "
        "got '0 1 99999999999999999999'; mend or remove the line",
    ),
    "triples not UTF-8": (
        {"train2id.txt": b"3\n0 1 0\n0 \xff 1\n2 3 0\n"},
        "train2id.txt line 3: expected UTF-8, got byte 0xff; convert the file to UTF-8 (iconv)",
    ),
    "keys not UTF-8": (
        {"entity2id.txt": "1\nZürich 0\n".encode("latin-1")},
        "entity2id.txt line 2: expected UTF-8, got byte 0xfc; convert the file to UTF-8 (iconv)",
    ),
    "header without key": (
        {"entities.tsv": "id\tname\n0\tAda\n"},
        "entities.tsv line 1: expected a header with the columns key and name, separated by tabs, "
        "got 'id name'; add the header",
    ),
    "too many fields": (
        {"entities.tsv": "key\tname\nLondon\tLon\tdon\n"},
        "entities.tsv line 2: expected 2 fields separated by tabs, got 3; "
        "mend the line (a field holds neither tab nor line end)",
    ),
    "label twice": (
        {"entities.tsv": "key\tname\nLondon\tA\nLondon\tB\n"},
        "entities.tsv line 3: key 'London' already has a line; remove one of them",
    ),
    "label of no relation": (
        {"relation_names.txt": "0\tborn\n2\tlikes\n"},
        "relation_names.txt line 2: relation id 2 is not in [0, 2); give each id once, with its name",
    ),
    "label of a relation twice": (
        {"relation_names.txt": "0\tborn\n0\tlikes\n"},
        "relation_names.txt line 2: relation id 0 already has a name; give each id once, with its name",
    ),
    "label without id": (
        {"relation_names.txt": "born\tin\n"},
        "relation_names.txt line 1: expected 'id name', got 'born\\tin'; mend or remove the line",
    ),
}


@pytest.mark.parametrize("case", OPENKE_ERRORS)
def test_openke_errors(tmp_path: Path, case: str) -> None:
    change, message = OPENKE_ERRORS[case]
    folder = write(tmp_path, OPENKE | change)
    assert error_of(lambda: read_openke(folder), folder) == message


@pytest.mark.parametrize("missing", sorted(OPENKE))
def test_openke_missing_file(tmp_path: Path, missing: str) -> None:
    folder = write(tmp_path, {name: text for name, text in OPENKE.items() if name != missing})
    expected = f"{missing}: expected a file, found none; check the folder and the file's name"
    assert error_of(lambda: read_openke(folder), folder) == expected


KEYED = {
    "train.tsv": "Ada\tborn in\tLondon\nAda\tlikes\tNew York\nBo\tborn in\tAda\n",
    "valid.tsv": "Cy\tlikes\tAda\n",
    "test.txt": "Bo\tlikes\tDi\r\n",
}


def test_keyed_tsv_numbers_keys_as_they_appear(tmp_path: Path) -> None:
    graph = read_tsv(write(tmp_path, KEYED), with_ids=False)
    assert graph.entities == ("Ada", "London", "New York", "Bo", "Cy", "Di")
    assert graph.relations == ("born in", "likes")
    assert graph.split("train").tolist() == [[0, 0, 1], [0, 1, 2], [3, 0, 0]]
    assert graph.split("valid").tolist() == [[4, 1, 0]]
    assert graph.split("test").tolist() == [[3, 1, 5]]


def test_keyed_tsv_takes_labels(tmp_path: Path) -> None:
    folder = write(tmp_path, KEYED | {"entities.tsv": "name\tkey\nAda Lovelace\tAda\n"})
    names = read_tsv(folder, with_ids=False).entity_names
    assert names == ("Ada Lovelace", "London", "New York", "Bo", "Cy", "Di")


def test_tsv_files_named_one_by_one_may_leave_a_split_out(tmp_path: Path) -> None:
    folder = write(tmp_path, KEYED)
    graph = read_tsv({"test": folder / "test.txt", "train": folder / "train.tsv"}, with_ids=False)
    assert list(graph.triples) == ["train", "test"]
    assert graph.entities == ("Ada", "London", "New York", "Bo", "Di")


def test_tsv_with_ids_and_key_files(tmp_path: Path) -> None:
    files = {"train.tsv": "0 1 2\n", "valid.tsv": "1\t0\t2\n", "test.tsv": "2 0 0\n"}
    keys = {"entity2id.txt": "A 0\nB 1\nC 2\nD 3\n", "relation2id.txt": "2\nr 0\ns 1\n"}
    graph = read_tsv(write(tmp_path, files | keys), with_ids=True)
    assert graph.entities == ("A", "B", "C", "D")
    assert graph.relations == ("r", "s")
    assert [graph.split(split).tolist() for split in ("train", "valid", "test")] == [
        [[0, 1, 2]],
        [[1, 0, 2]],
        [[2, 0, 0]],
    ]


def test_tsv_with_ids_alone_uses_them_as_keys(tmp_path: Path) -> None:
    files = {"train.tsv": "0 1 2\n", "valid.tsv": "1 0 4\n", "test.tsv": "2 0 0\n"}
    graph = read_tsv(write(tmp_path, files), with_ids=True)
    assert graph.entities == ("0", "1", "2", "3", "4")
    assert graph.relations == ("0", "1")


def test_tsv_errors(tmp_path: Path) -> None:
    folder = write(tmp_path, KEYED | {"valid.tsv": "Cy\tlikes\tAda\nBo\tlikes\n"})
    assert error_of(lambda: read_tsv(folder, with_ids=False), folder) == (
        "valid.tsv line 2: expected head, relation, tail separated by tabs, got 'Bo\\tlikes'; mend or remove the line"
    )
    write(folder, {"valid.tsv": "Cy\t \tAda\n"})
    assert "valid.tsv line 1: expected head, relation, tail" in error_of(
        lambda: read_tsv(folder, with_ids=False), folder
    )
    write(folder, {"valid.tsv": "\n"})
    assert error_of(lambda: read_tsv(folder, with_ids=False), folder) == (
        "valid.tsv: expected triples, found none; an empty split cannot be used"
    )
    (folder / "valid.tsv").unlink()
    assert error_of(lambda: read_tsv(folder, with_ids=False), folder) == (
        f"{folder}: expected valid.tsv or valid.txt, found none; check the folder, or name the files one by one"
    )
    assert error_of(lambda: read_tsv({"dev": folder / "valid.tsv"}, with_ids=False), folder) == (
        "split 'dev': no such split; name the files train, valid, test"
    )
    assert "expected a path for some of train, valid, test, got none" in error_of(
        lambda: read_tsv({}, with_ids=False), folder
    )


def test_openke_triples_read_as_tsv_are_recognised(tmp_path: Path) -> None:
    keys = {name: OPENKE[name] for name in ("entity2id.txt", "relation2id.txt")}
    triples = {"train.txt": "0 1 0\n0 3 1\n2 3 0\n", "valid.txt": "2 1 1\n", "test.txt": "4 1 1\n"}
    folder = write(tmp_path, keys | triples)
    assert error_of(lambda: read_tsv(folder, with_ids=True), folder).startswith(
        "train.txt line 2: relation id 3 (column 2) is not in [0, 2); this layout is head relation tail, but "
        "column 3 looks like the relation: "
    )


NTRIPLES = {
    "train.nt": (
        "# a comment\n"
        "<http://x/Ada> <http://x/bornIn> <http://x/Z\\u00FCrich> . # said Bo\n"
        '<http://x/Ada> <http://x/name> "Ada \\"the\\" > <first> ."@en .\n'
        '<http://x/Ada> <http://x/age> "36"^^<http://www.w3.org/2001/XMLSchema#integer> .\n'
        "\n"
        "_:b0 <http://x/likes> <http://x/Ada>.\n"
    ),
    "valid.nt": "<http://x/\\U0001F600> <http://x/likes> _:b0 .\n",
    "test.nt": '\t<http://x/Zürich>\t<http://x/likes> <http://x/"A"> .\r\n<http://x/a> <http://x/b> "" .\n',
}


def test_ntriples(tmp_path: Path) -> None:
    graph = read_ntriples(write(tmp_path, NTRIPLES))
    assert graph.entities == ("http://x/Ada", "http://x/Zürich", "_:b0", "http://x/😀", 'http://x/"A"')
    assert graph.relations == ("http://x/bornIn", "http://x/likes")
    assert graph.split("train").tolist() == [[0, 0, 1], [2, 1, 0]]
    assert graph.split("valid").tolist() == [[3, 1, 2]]
    assert graph.split("test").tolist() == [[1, 1, 4]]
    assert graph.skipped_literals == {"train": 2, "valid": 0, "test": 1}


NTRIPLES_ERRORS = {
    "no full stop": (
        "<a> <b> <c>\n",
        "valid.nt line 1: expected '<subject> <predicate> <object> .', got '<a> <b> <c>'; mend or remove the line",
    ),
    "a literal as subject": (
        '<a> <b> <c> .\n"a" <b> <c> .\n',
        "valid.nt line 2: expected '<subject> <predicate> <object> .', got '\"a\" <b> <c> .'; mend or remove the line",
    ),
    "a blank node as predicate": (
        "<a> _:b <c> .\n",
        "valid.nt line 1: expected '<subject> <predicate> <object> .', got '<a> _:b <c> .'; mend or remove the line",
    ),
    "half a surrogate pair": (
        "<a> <b> <x\\uD83D> .\n",
        "valid.nt line 1: expected \\uXXXX or \\UXXXXXXXX of a Unicode character, got '\\\\uD83D' in "
        "'x\\\\uD83D'; mend the IRI",
    ),
    "an escape that is none": (
        "<a> <b> <x\\n> .\n",
        "valid.nt line 1: expected \\uXXXX or \\UXXXXXXXX of a Unicode character, got '\\\\n' in 'x\\\\n'; "
        "mend the IRI",
    ),
    "literals only": (
        '<a> <b> "c" .\n',
        "valid.nt: expected triples, found none; an empty split cannot be used",
    ),
    "not UTF-8": (
        b"<a> <b> <c> .\n<a> <b> <\xfc> .\n",
        "valid.nt line 2: expected UTF-8, got byte 0xfc; convert the file to UTF-8 (iconv)",
    ),
}


@pytest.mark.parametrize("case", NTRIPLES_ERRORS)
def test_ntriples_errors(tmp_path: Path, case: str) -> None:
    text, message = NTRIPLES_ERRORS[case]
    folder = write(tmp_path, NTRIPLES | {"valid.nt": text})
    assert error_of(lambda: read_ntriples(folder), folder) == message


def columns(*rows: tuple[int, int, int], dtype: type = np.int32) -> TripleColumns:
    array = np.array(rows, dtype=dtype).reshape(-1, 3)
    return TripleColumns("triples.parquet", array[:, 0], array[:, 1], array[:, 2])


def test_columns_of_a_table_become_a_graph() -> None:
    graph = graph_from_columns(["a", "b"], ["r"], {"test": columns((1, 0, 0)), "train": columns((0, 0, 1))})
    assert list(graph.triples) == ["train", "test"]
    assert graph.split("train").dtype == np.int64
    assert graph.split("train").flags.c_contiguous


COLUMN_ERRORS = {
    "rows from 0": (
        columns((0, 0, 1), (0, 0, 2)),
        "triples.parquet row 1: tail id 2 is not in [0, 2); "
        "mend the triple or add its entity to the list of entity keys",
    ),
    "unsigned overflow": (
        columns((0, 0, 2**63), dtype=np.uint64),
        f"triples.parquet row 0: tail id {2**63} is not in [0, 2); "
        "mend the triple or add its entity to the list of entity keys",
    ),
    "floats": (
        columns((0, 0, 1), dtype=np.float64),
        "triples.parquet: column head: expected integer ids, got float64; "
        "cast the column, and drop rows without a value",
    ),
    "lengths": (
        TripleColumns("triples.parquet", np.zeros(2, dtype=int), np.zeros(1, dtype=int), np.zeros(2, dtype=int)),
        "triples.parquet: expected columns of one length, got head 2, relation 1, tail 2; write it anew",
    ),
    "no rows": (columns(), "triples.parquet: expected triples, found none; an empty split cannot be used"),
}


@pytest.mark.parametrize("case", COLUMN_ERRORS)
def test_column_errors(case: str) -> None:
    table, message = COLUMN_ERRORS[case]
    with pytest.raises(DataError) as caught:
        graph_from_columns(["a", "b"], ["r"], {"train": table})
    assert str(caught.value) == message


def test_repeated_keys_of_a_table() -> None:
    with pytest.raises(DataError) as caught:
        graph_from_columns(["a", "b", "a"], ["r"], {"train": columns((0, 0, 1))})
    assert str(caught.value) == (
        "entity 2: key 'a' is already entity 0; keys must be distinct, so rename or merge them"
    )


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("DB15K", (12_842, 279, 79_222, 9_904, 9_902)),
        ("MKG-W", (15_000, 169, 34_196, 4_276, 4_274)),
        ("FB15k-237", (14_541, 237, 272_115, 17_535, 20_466)),
    ],
)
def test_published_folders(published: Callable[[str], Path], tmp_path: Path, name: str, sizes: tuple[int, ...]) -> None:
    folder = published(name)
    start = time.perf_counter()
    graph = read_openke(folder)
    assert time.perf_counter() - start < 5.0
    counts = tuple(len(graph.split(split)) for split in ("train", "valid", "test"))
    assert (graph.num_entities, graph.num_relations, *counts) == sizes
    # The same triples through keys: another numbering, the same graph.
    for split, triples in graph.triples.items():
        rows = (f"{graph.entities[h]}\t{graph.relations[r]}\t{graph.entities[t]}\n" for h, r, t in triples.tolist())
        (tmp_path / f"{split}.tsv").write_text("".join(rows), encoding="utf-8")
    keyed = read_tsv(tmp_path, with_ids=False)
    for split, triples in graph.triples.items():
        entities = np.array(keyed.entities)[keyed.split(split)[:, [0, 2]]]
        assert (entities == np.array(graph.entities)[triples[:, [0, 2]]]).all()
        relations = np.array(keyed.relations)[keyed.split(split)[:, 1]]
        assert (relations == np.array(graph.relations)[triples[:, 1]]).all()


@pytest.mark.data
def test_labels_of_mkg_w(published: Callable[[str], Path]) -> None:
    graph = read_openke(published("MKG-W"))
    assert graph.entity_names is not None
    assert graph.relation_names is not None
    assert (graph.entities[1], graph.entity_names[1]) == (
        "http://www.wikidata.org/entity/Q234900",
        "Linda Darnell",
    )
    assert graph.relation_names[0] == "cast member"
