"""Both alignment layouts give the same pair of graphs, and every mistake of a file is told in one line."""

from pathlib import Path

import numpy as np
import pytest

from snag_dist.errors import DataError
from snag_dist.kg.alignment import LEFT, RIGHT
from snag_dist.kg.alignment_formats import read_alignment, surface_name

ZH, EN = "http://zh.dbpedia.org/resource", "http://dbpedia.org/resource"
# Left 0, 1, 5; right 3, 4; ids interleave and have a gap. Relations 0, 7 left, 9 right.
FILES = {
    "ent_ids_1": f"0\t{ZH}/甲_乙\n5\t{ZH}/丙\n1\t{ZH}/丁\n",
    "ent_ids_2": f"3\t{EN}/AC/DC\r\n4\t{EN}/New_York\r\n",
    "triples_1": "0\t0\t5\n5\t7\t1\n",
    "triples_2": "3\t9\t4\n",
    "ill_ent_ids": "5\t3\n0\t4\n",
    "training_attrs_1": f"{ZH}/丁\theight\tage\n{ZH}/甲_乙\tage\n",
    "training_attrs_2": f"{EN}/New_York\tmayor\theight\n",
    "translated_names.tsv": "0\tjia yi\n1\tding\n3\tac dc\n4\t\n5\tbing\n",
}


def write(folder: Path, changes: dict[str, str | bytes | None] | None = None) -> Path:
    for name, text in (FILES | (changes or {})).items():
        if text is not None:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_ids_become_dense_over_both_graphs(tmp_path: Path) -> None:
    pair = read_alignment(write(tmp_path))
    assert pair.ids.tolist() == [0, 1, 3, 4, 5]
    assert pair.keys == (f"{ZH}/甲_乙", f"{ZH}/丁", f"{EN}/AC/DC", f"{EN}/New_York", f"{ZH}/丙")
    assert pair.graph.tolist() == [LEFT, LEFT, RIGHT, RIGHT, LEFT]
    assert pair.relations == ("0", "7", "9")
    assert pair.triples.tolist() == [[0, 0, 4], [4, 1, 1], [2, 2, 3]]
    assert pair.links.tolist() == [[4, 2], [0, 3]]
    assert pair.attribute_names == ("age", "height", "mayor")
    assert [pair.attributes[row].tolist() for row in range(5)] == [[0], [0, 1], [], [1, 2], []]
    assert pair.surface_names == ("甲 乙", "丁", "AC/DC", "New York", "丙")
    # The empty translation of id 4 falls back on its surface name.
    assert pair.translated_names == ("jia yi", "ding", "ac dc", "New York", "bing")


def test_attributes_and_translations_are_optional(tmp_path: Path) -> None:
    optional = ("training_attrs_1", "training_attrs_2", "translated_names.tsv")
    pair = read_alignment(write(tmp_path, dict.fromkeys(optional)))
    assert pair.attribute_names == ()
    assert pair.attributes.lengths().tolist() == [0] * 5
    assert pair.translated_names is None
    assert pair.names == pair.surface_names


@pytest.mark.parametrize(
    "files",
    [
        {"ref_ent_ids": "5\t3\n0\t4\n"},
        {"ref_ent_ids": "5\t3\r\n0\t4", "ent_links": "not read"},
        {"sup_ent_ids": "5\t3\n", "ref_ent_ids": "0\t4\n"},
        {"ent_links": f"{ZH}/丙\t{EN}/AC/DC\n{ZH}/甲_乙\t{EN}/New_York\r\n"},
    ],
)
def test_links_of_other_layouts(tmp_path: Path, files: dict[str, str]) -> None:
    assert read_alignment(write(tmp_path, {"ill_ent_ids": None, **files})).links.tolist() == [[4, 2], [0, 3]]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("http://fr.dbpedia.org/resource/Saint-Joseph,_Qu\u00e9bec", "Saint-Joseph, Qu\u00e9bec"),
        ("http://www.wikidata.org/entity/Q42", "Q42"),
        ("http://example.org/things#Great_Hall", "Great Hall"),
        ("plain_name", "plain name"),
        ("http://dbpedia.org/resource/_", "http://dbpedia.org/resource/_"),
    ],
)
def test_surface_names(key: str, name: str) -> None:
    assert surface_name(key) == name


ERRORS: dict[str, tuple[dict[str, str | bytes | None], str]] = {
    "no entities": (
        {"ent_ids_2": None},
        "ent_ids_2: expected a file, found none; check the folder and the file's name",
    ),
    "empty entities": ({"ent_ids_2": "\n"}, "ent_ids_2: expected entities, found none; restore the file"),
    "key first": (
        {"ent_ids_1": f"{ZH}/甲\t0\n"},
        f"ent_ids_1 line 1: expected an id and a key separated by a tab, got '{ZH}/甲\\t0'; mend or remove the line",
    ),
    "id twice": (
        {"ent_ids_1": "0\ta\n5\tb\n0\tc\n"},
        "ent_ids_1 line 3: entity id 0 already stands in line 1; remove one of them",
    ),
    "key twice": (
        {"ent_ids_1": "0\ta\n5\tb\n1\tb\n"},
        "ent_ids_1 line 3: entity key 'b' already stands in line 2; remove one of them",
    ),
    "id in both graphs": (
        {"ent_ids_2": "3\ta\n5\tb\n"},
        "ent_ids_2 line 2: entity id 5 is in both graphs, it already stands in ent_ids_1 line 2; give the two graphs "
        "disjoint ids and keys (a prefix will do)",
    ),
    "key in both graphs": (
        {"ent_ids_1": "0\ta\n5\tb\n1\tc\n", "ent_ids_2": "3\td\n4\ta\n"},
        "ent_ids_2 line 2: entity key 'a' is in both graphs, it already stands in ent_ids_1 line 1; give the two "
        "graphs disjoint ids and keys (a prefix will do)",
    ),
    "no triples": ({"triples_2": ""}, "triples_2: expected triples, found none; restore the file"),
    "four columns": (
        {"triples_1": "0\t0\t5\n5\t7\t1\t1\n"},
        "triples_1 line 2: expected 3 non-negative integers (head relation tail), got '5\\t7\\t1\\t1'; mend or remove "
        "the line",
    ),
    "unknown tail": (
        {"triples_1": "0\t0\t5\n\n5\t7\t6\n"},
        "triples_1 line 3: tail id 6 is not in ent_ids_1; mend the triple or add the entity to ent_ids_1",
    ),
    "entity of the other graph": (
        {"triples_2": "3\t9\t4\n1\t9\t4\n"},
        "triples_2 line 2: head id 1 is an entity of the other graph (ent_ids_1); a triple stays inside one graph, so "
        "mend or remove it",
    ),
    "relation last": (
        {"triples_2": "3\t4\t9\n4\t3\t9\n"},
        "triples_2 line 1: expected head relation tail, but the last column looks like the relation (line '3 4 9'); "
        "reorder the columns",
    ),
    "unknown tails, though relations are numbered like entities": (
        {"triples_2": "3\t4\t9\n4\t3\t10\n3\t3\t11\n"},
        "triples_2 line 1: tail id 9 is not in ent_ids_2; mend the triple or add the entity to ent_ids_2",
    ),
    "no links": (
        {"ill_ent_ids": None},
        ": expected links in ill_ent_ids, ref_ent_ids or ent_links, found none of them; check the folder and the "
        "file's name",
    ),
    "empty links": ({"ill_ent_ids": ""}, "ill_ent_ids: expected links, found none; restore the file"),
    "link to nowhere": (
        {"ill_ent_ids": "5\t3\n0\t8\n"},
        "ill_ent_ids line 2: id 8 is in neither ent_ids_1 nor ent_ids_2; mend or remove the link",
    ),
    "link inside a graph": (
        {"ill_ent_ids": "5\t3\n0\t1\n"},
        "ill_ent_ids line 2: expected a left and a right entity, got two of the left graph; a link joins the two "
        "graphs, so mend or remove it",
    ),
    "link the other way round": (
        {"ill_ent_ids": "3\t5\n"},
        "ill_ent_ids line 1: expected a left entity, then a right one, got them the other way round; swap the columns",
    ),
    "link twice, over two files": (
        {"ill_ent_ids": None, "sup_ent_ids": "5\t3\n", "ref_ent_ids": "0\t4\n\n5\t3\n"},
        "ref_ent_ids line 3: the same link stands 2 further up; remove one of them",
    ),
    "end twice": (
        {"ill_ent_ids": "5\t3\n0\t3\n"},
        "ill_ent_ids line 2: the right entity already has a link, 1 further up; ranks need one right answer, so keep "
        "one of them",
    ),
    "links of keys, three columns": (
        {"ill_ent_ids": None, "ent_links": "a\tb\tc\n"},
        "ent_links line 1: expected two keys separated by a tab, got 'a\\tb\\tc'; mend the line",
    ),
    "link of an unknown key": (
        {"ill_ent_ids": None, "ent_links": f"{ZH}/丙\tnobody\n"},
        "ent_links line 1: key 'nobody' is in neither ent_ids_1 nor ent_ids_2; mend or remove the line",
    ),
    "attribute of an unknown key": (
        {"training_attrs_2": "nobody\tage\n"},
        "training_attrs_2 line 1: key 'nobody' is in neither ent_ids_1 nor ent_ids_2; mend or remove the line",
    ),
    "attribute in the wrong file": (
        {"training_attrs_2": f"{ZH}/丁\tage\n"},
        f"training_attrs_2 line 1: '{ZH}/丁' is an entity of the other graph; move the line to training_attrs_1",
    ),
    "attributes in two lines": (
        {"training_attrs_1": f"{ZH}/丁\tage\n{ZH}/丁\theight\n"},
        f"training_attrs_1 line 2: '{ZH}/丁' already has line 1; put its attributes into one line",
    ),
    "name of nobody": (
        {"translated_names.tsv": "0\ta\n2\tb\n"},
        "translated_names.tsv line 2: id 2 is in neither ent_ids_1 nor ent_ids_2; give each entity at most one line",
    ),
    "two names": (
        {"translated_names.tsv": "0\ta\n0\tb\n"},
        "translated_names.tsv line 2: id 0 already has a name; give each entity at most one line",
    ),
    "name without a tab": (
        {"translated_names.tsv": "0 a\n"},
        "translated_names.tsv line 1: expected an id and a name separated by a tab, got '0 a'; mend or remove the line",
    ),
    "not UTF-8": (
        {"ent_ids_1": b"0\ta\n1\t\xff\n"},
        "ent_ids_1 line 2: expected UTF-8, got byte 0xff; convert the file to UTF-8 (iconv)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes_are_told_in_one_line(tmp_path: Path, case: str) -> None:
    changes, expected = ERRORS[case]
    with pytest.raises(DataError) as caught:
        read_alignment(write(tmp_path, changes))
    assert str(caught.value).replace(f"{tmp_path}/", "").removeprefix(str(tmp_path)) == expected


def test_relation_last_is_seen_even_where_its_ids_are_entities_too(tmp_path: Path) -> None:
    # A ring of 100 entities, ids 0 to 99, under relations 0 and 1.
    entities = "".join(f"{row}\tl{row}\n" for row in range(100))
    ring = [(row, (row + 1) % 100, row % 2) for row in range(100)]
    files: dict[str, str | bytes | None] = {
        "ent_ids_1": entities,
        "ent_ids_2": "100\tr\n",
        "triples_1": "".join(f"{head}\t{tail}\t{relation}\n" for head, tail, relation in ring),
        "triples_2": "100\t0\t100\n",
        "ill_ent_ids": "0\t100\n",
    } | dict.fromkeys(("training_attrs_1", "training_attrs_2", "translated_names.tsv"))
    with pytest.raises(
        DataError, match="triples_1 line 1: expected head relation tail, but the last column looks like"
    ):
        read_alignment(write(tmp_path, files))
    files["triples_1"] = "".join(f"{head}\t{relation}\t{tail}\n" for head, tail, relation in ring)
    assert len(read_alignment(write(tmp_path, files)).triples) == 101


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "entities", "triples", "attributes", "relations"),
    [
        ("DBP15K/zh_en", (19388, 19572), (70414, 95142), (248035, 343218), 3024),
        ("DBP15K/fr_en", (19661, 19993), (105998, 115722), (273825, 351094), 2111),
        ("OpenEA_EN_FR_15K_V1", (15000, 15000), (47334, 40864), (0, 0), 477),
    ],
)
def test_published_counts(
    data_root: Path,
    name: str,
    entities: tuple[int, int],
    triples: tuple[int, int],
    attributes: tuple[int, int],
    relations: int,
) -> None:
    pair = read_alignment(data_root / name)
    assert tuple(len(pair.entities_of(side)) for side in (LEFT, RIGHT)) == entities
    assert tuple(len(pair.triples_of(side)) for side in (LEFT, RIGHT)) == triples
    lengths = pair.attributes.lengths()
    assert tuple(int(lengths[pair.graph == side].sum()) for side in (LEFT, RIGHT)) == attributes
    assert pair.num_relations == relations
    assert len(pair.links) == 15000
    assert (pair.translated_names is None) == (name == "OpenEA_EN_FR_15K_V1")
    assert all(pair.names)


@pytest.mark.data
def test_the_other_order_of_columns_is_seen_in_both_graphs(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "DBP15K" / "zh_en"
    for number in (1, 2):
        for file in source.iterdir():
            (tmp_path / file.name).unlink(missing_ok=True)
            (tmp_path / file.name).symlink_to(file)
        triples = np.loadtxt(source / f"triples_{number}", dtype=np.int64)[:, [0, 2, 1]]
        (tmp_path / f"triples_{number}").unlink()
        np.savetxt(tmp_path / f"triples_{number}", triples, fmt="%d", delimiter="\t")
        with pytest.raises(DataError, match=f"triples_{number} line 1: expected head relation tail, but the last"):
            read_alignment(tmp_path)
