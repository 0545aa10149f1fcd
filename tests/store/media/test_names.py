import pytest

from snag_dist.store.media.names import decode_key, encode_key, natural_order, split_name, split_suffix


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("Q42", "Q42"),
        ("Dr._No", "Dr%2E_No"),
        ("/m/02mjmr", "%2Fm%2F02mjmr"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("..", "%2E%2E"),
        ("Zürich 北京", "Zürich 北京"),
        ("a\\b\n\0", "a%5Cb%0A%00"),
    ],
)
def test_keys_become_names_and_come_back(key: str, name: str):
    assert encode_key(key) == name
    assert decode_key(name) == key


def test_names_that_other_programs_encoded_are_read():
    assert decode_key("Z%c3%bcrich%20HB") == "Zürich HB"
    assert decode_key("50%zz") == "50%zz"


def test_names_that_are_no_text_have_no_key():
    assert decode_key("%ff") is None
    assert decode_key("caf\udce9") is None
    assert decode_key("") is None


def test_names_are_cut_at_the_first_dot_and_suffixes_at_the_last():
    assert split_name("Q42.front.0.JPG") == ("Q42", "front.0.JPG")
    assert split_suffix("front.0.JPG") == ("front.0", "jpg")
    assert split_name("Q42.jpg") == ("Q42", "jpg")
    assert split_suffix("jpg") == ("", "jpg")
    assert [split_name(name) for name in ("Q42", ".jpg", "Q42.")] == [None, None, None]


def test_natural_order_counts_as_people_do():
    stems = ["b", "10", "2", "", "img 10", "img 9", "A", "02"]
    ordered = sorted(stems, key=lambda stem: natural_order(stem, stem))
    assert ordered == ["", "02", "2", "10", "A", "b", "img 9", "img 10"]
