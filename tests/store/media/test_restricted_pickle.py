import collections
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snag_dist.errors import DataError
from snag_dist.store.media.restricted_pickle import read_pickled_vectors

# Two entities, three numbers each.
VECTORS = {7: np.array([1, 2, 3], "f4"), 3: np.array([4, 5, 6], "f4")}
ROWS = [[1, 2, 3], [4, 5, 6]]


def write(tmp_path: Path, content: object, protocol: int = 4) -> Path:
    path = tmp_path / "x.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def refuse(tmp_path: Path, content: object, match: str, protocol: int = 4) -> None:
    with pytest.raises(DataError, match=match):
        read_pickled_vectors(write(tmp_path, content, protocol))


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(tmp_path: Path, protocol: int):
    keys, vectors = read_pickled_vectors(write(tmp_path, VECTORS, protocol))
    assert keys == ["7", "3"]
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, ROWS)


@pytest.mark.parametrize("kind", ["f2", "f8", ">f4", "i1", "u1", ">i2", "i8", "u8"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_type_of_number_is_read(tmp_path: Path, kind: str, protocol: int):
    content = {f"k{key}": vector.astype(kind) for key, vector in VECTORS.items()}
    keys, vectors = read_pickled_vectors(write(tmp_path, content, protocol))
    assert keys == ["k7", "k3"]
    np.testing.assert_array_equal(vectors, ROWS)


def test_strided_and_read_only_arrays_and_numpy_keys_are_read(tmp_path: Path):
    fixed = np.array([4, 5, 6.0])
    fixed.flags.writeable = False
    content = {np.int64(7): np.arange(1, 7, dtype="i4")[::2] // 2 + 1, np.int32(3): fixed}
    for protocol in (2, 5):
        keys, vectors = read_pickled_vectors(write(tmp_path, content, protocol))
        assert keys == ["7", "3"]
        np.testing.assert_array_equal(vectors, ROWS)


def test_a_pickle_of_python_2_is_read(tmp_path: Path):
    # What Python 2 wrote at protocol 2: byte strings for text, `numpy.core`, the content as a string.
    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"f4")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
    array = start + b"(K\x01K\x02\x85" + dtype + b"\x89" + text(struct.pack("<2f", 1.5, -2)) + b"tb"
    keys, vectors = read_pickled_vectors(write(tmp_path, b"\x80\x02}(" + text("é".encode()) + array + b"u."))
    assert keys == ["é"]
    np.testing.assert_array_equal(vectors, [[1.5, -2]])


def test_the_hand_written_pickle_is_what_python_reads_too(tmp_path: Path):
    # The reader must agree with Python's on files that are harmless.
    rng = np.random.default_rng(0)
    content = {i: rng.normal(size=8).astype("f4") for i in range(1000)}
    _, vectors = read_pickled_vectors(write(tmp_path, content, 2))
    np.testing.assert_array_equal(vectors, np.stack(list(pickle.loads((tmp_path / "x.pkl").read_bytes()).values())))


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch ran",), r"(posix|nt)\.system"),
        (eval, ("open('ran', 'w')",), r"(builtins|__builtin__)\.eval"),
        (np.load, ("ran",), r"numpy\.load"),
        (np.save, ("ran", 1), r"numpy\.save"),
        (collections.OrderedDict, (), r"collections\.OrderedDict"),
        (getattr, ("x", "upper"), r"(builtins|__builtin__)\.getattr"),
    ],
)
def test_what_runs_code_is_refused_by_name_and_not_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., object],
    arguments: tuple[object, ...],
    name: str,
    protocol: int,
):
    monkeypatch.chdir(tmp_path)
    content = {1: VECTORS[7], 2: Runs(function, *arguments)}
    message = rf"x.pkl: expected a dictionary of numpy vectors and nothing else, got the name '{name}', and nothing is"
    refuse(tmp_path, content, message, protocol)
    assert not list(tmp_path.glob("ran*"))


def test_numpys_own_functions_do_nothing_but_what_arrays_need(tmp_path: Path):
    def call(name: bytes, arguments: bytes) -> bytes:
        return b"\x80\x02}K\x01c" + name + b"\n" + arguments + b"Rs."

    # A subtype of another class, a size claimed ahead, and code instead of a type.
    reconstruct = b"numpy.core.multiarray\n_reconstruct"
    refuse(tmp_path, call(reconstruct, b"cbuiltins\nobject\nK\x00\x85U\x01b\x87"), "the name 'builtins.object'")
    refuse(
        tmp_path, call(reconstruct, b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87"), "a call of multiarray._reco"
    )
    refuse(tmp_path, call(b"numpy\ndtype", b"U\x02O8\x85"), "got an array of type 'O8'")
    refuse(tmp_path, call(b"numpy\ndtype", b"U\x0df4,(9999999)f\x85"), "got an array of type 'f4,")
    refuse(tmp_path, call(b"_codecs\nencode", b"X\x01\x00\x00\x00aU\x03hex\x86"), "a call of _codecs.encode with")
    refuse(tmp_path, call(b"numpy\nndarray", b"K\x09\x85"), "a call of numpy.ndarray with arguments that no array has")


def test_what_stands_for_a_function_cannot_be_changed(tmp_path: Path):
    refuse(tmp_path, b"\x80\x02cnumpy\ndtype\n}b.", r"a state of numpy.dtype that no array of numbers has")
    refuse(tmp_path, b"\x80\x02}}b.", r"a state of a dict that")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([print, None], dtype=object), "O8"),
        (np.array(["ab"]), "U2"),
        (np.array([True]), "b1"),
        (np.array([1j]), "c16"),
        (np.zeros(1, [("x", "f4")]), "V4"),
        (np.array(["2020-01-01"], "M8[D]"), "M8"),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path: Path, array: np.ndarray, kind: str, protocol: int):
    message = r"got (an array of type '" + kind + r"'|the name '(builtins|__builtin__).print')"
    refuse(tmp_path, {1: array}, message, protocol)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones(3), r"expected a dictionary of key to vector, got an array; save the vectors with numpy.save"),
        ({}, r"got an empty dictionary"),
        ({"a": {"b": np.ones(3)}}, r"x.pkl key 'a': expected a vector \(1-d array\), got a dict"),
        ({"a": np.ones((2, 3))}, r"key 'a': expected a vector \(1-d array\), got an array of shape \(2, 3\)"),
        ({"a": np.float32(1)}, r"key 'a': expected a vector \(1-d array\), got a float"),
        ({"a": None}, r"key 'a': expected a vector .*, got a nonetype"),
        ({"a": "x"}, r"key 'a': expected a vector .*, got a str"),
        ({"a": [1.0, 2.0]}, r"nothing else, got a list"),
        ({"a": {1, 2}}, r"nothing else, got a set"),
        ({"a": torch.ones(2)}, r"got the name 'torch._utils._rebuild_tensor_v2', and nothing is imported"),
        ({"a": np.ones(3), "b": np.ones(2)}, r"key 'b': expected a vector of 3 numbers, got 2; mend the entry"),
        ({"a": np.ones(0)}, r"key 'a': expected a vector of 1 numbers, got 0"),
        ({"a": np.ones(3), 1: np.ones(3)}, r"expected keys of one kind, got text and whole numbers"),
        ({(1, 2): np.ones(3)}, r"a key that is neither text nor a whole number \(a tuple\)"),
        ({True: np.ones(3)}, r"a key that is neither text nor a whole number \(a bool\)"),
        ({1 << 80: np.ones(3)}, r"a key that is a number of more than 64 bits"),
        ({b"\xff" * 99: np.ones(3)}, r"x.pkl key b'(\\xff){60}'\.\.\.: expected UTF-8; pickle the keys as text"),
        ({"\ud800": np.ones(3)}, r"x.pkl key '\\ud800': expected UTF-8"),
    ],
)
def test_what_is_no_dictionary_of_equal_vectors_is_refused(tmp_path: Path, content: object, message: str):
    refuse(tmp_path, content, message)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",  # bytes
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",  # bytearray
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",  # text
        b"\x80\x04}",
        b"\x80\x04\xff.",
        b"PK\x03\x04 a zip",
    ],
)
def test_claims_beyond_the_file_and_broken_files_are_refused(tmp_path: Path, content: bytes):
    refuse(tmp_path, content, r"x.pkl: expected a whole pickle, got: .*; fetch or write the file again")


def test_a_whole_pickle_that_is_cut_anywhere_is_refused(tmp_path: Path):
    whole = pickle.dumps(VECTORS, 4)
    for length in range(1, len(whole)):
        refuse(tmp_path, whole[:length], "x.pkl: expected")


def test_an_array_that_claims_more_than_its_bytes_is_refused(tmp_path: Path):
    content = pickle.dumps({1: np.arange(3, dtype="f4")}, 3)
    bomb = content.replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85")
    assert bomb != content
    refuse(tmp_path, bomb, r"an array of shape \(2147483647,\) that needs 8589934588 bytes and has 12 bytes")


def test_entries_that_share_their_numbers_cannot_fill_the_memory(tmp_path: Path):
    shared = np.zeros(10_000, "f4")
    refuse(tmp_path, dict.fromkeys(range(1000), shared), r"got vectors of 40000000, since entries share them")


def test_bytes_cannot_be_made_again_and_again(tmp_path: Path):
    text = b"X" + struct.pack("<I", 5000) + b"a" * 5000 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    refuse(tmp_path, b"\x80\x02" + text + again * 200 + b".", r"the same text turned to bytes more than once")


def test_what_only_crashes_a_careless_reader_is_refused(tmp_path: Path):
    # Hashing a tuple that is nested so deeply ends a Python process; so does a huge memo number its memory.
    refuse(tmp_path, b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"K\x01s.", r"neither text nor a whole number")
    refuse(tmp_path, b"\x80\x02}r\xff\xff\xff\xff.", r"an empty dictionary")
    refuse(tmp_path, b"\x80\x02h\x05.", r"a reference to nothing")
    refuse(tmp_path, b"\x80\x02K\x01s.", r"an instruction without its operands")
    refuse(tmp_path, b"\x80\x02u.", r"an instruction without its operands")
    refuse(tmp_path, b"\x80\x02K\x01K\x01K\x01s.", r"items of what is no dictionary")
    refuse(tmp_path, b"\x80\x04K\x01K\x01\x93.", r"a int where text belongs")


def test_references_outside_of_the_file_are_refused(tmp_path: Path):
    class Persists(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return "elsewhere" if isinstance(obj, np.ndarray) else None

    for protocol in (0, 4):
        with (tmp_path / "y.pkl").open("wb") as file:
            Persists(file, protocol).dump(VECTORS)
        refuse(tmp_path, (tmp_path / "y.pkl").read_bytes(), r"got a reference to something outside of the file")
    outside: list[pickle.PickleBuffer] = []
    content = pickle.dumps(VECTORS, 5, buffer_callback=outside.append)
    refuse(tmp_path, content, r"got a buffer that is not in the file")


def test_objects_and_unknown_instructions_are_refused(tmp_path: Path):
    refuse(tmp_path, b"\x80\x02(i__main__\nX\n.", r"got something else \(instruction INST\)")
    refuse(tmp_path, b"\x80\x02\x82\x01.", r"got something else \(instruction EXT1\)")


def test_a_missing_or_empty_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"x.pkl: expected a pickle, found none or an empty file; mend the path"):
        read_pickled_vectors(tmp_path / "x.pkl")
    refuse(tmp_path, b"", "found none or an empty file")


def test_numbers_too_large_for_float32_become_infinite(tmp_path: Path):
    _, vectors = read_pickled_vectors(write(tmp_path, {"a": np.array([1e300, 1])}))
    assert vectors.tolist() == [[np.inf, 1]]
