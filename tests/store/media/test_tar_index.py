import gzip
import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from tars import add, patch, write

from snag_dist.errors import DataError
from snag_dist.store.media.tar_index import index_shard


def read(path: Path, index: pa.Table) -> dict[str, bytes]:
    whole = path.read_bytes()
    return {row["member"]: whole[row["offset"] : row["offset"] + row["size"]] for row in index.to_pylist()}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_ranges_of_the_tar(tmp_path: Path, format: int):
    path = write(tmp_path / "x.tar", ("b.jpg", b"bee"), ("a.jpg", b""), ("c.jpg", b"c" * 513), format=format)
    index = index_shard(path)
    assert index["member"].to_pylist() == ["b.jpg", "a.jpg", "c.jpg"]
    assert read(path, index) == {"b.jpg": b"bee", "a.jpg": b"", "c.jpg": b"c" * 513}
    assert index["offset"][0].as_py() == 512


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(tmp_path: Path, format: int):
    name = f"{'北京' * 100}.jpg"
    path = write(tmp_path / "x.tar", (name, b"one"), ("b.jpg", b"two"), format=format)
    assert read(path, index_shard(path)) == {name: b"one", "b.jpg": b"two"}


def test_folders_are_left_out_and_an_empty_tar_is_empty(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "./", kind=tarfile.DIRTYPE)
        add(tar, "./a.jpg", b"x")
    assert index_shard(tmp_path / "x.tar")["member"].to_pylist() == ["./a.jpg"]
    assert not len(index_shard(write(tmp_path / "y.tar")))


def test_names_that_are_not_utf8_are_marked(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        add(tar, "caf\xe9.jpg")
    assert index_shard(tmp_path / "x.tar")["member"].to_pylist() == ["caf\ufffd.jpg"]


@pytest.mark.parametrize("name", ["/etc/a.jpg", "../a.jpg", "x/../../a.jpg", "..", "x\\..\\a.jpg", "\\a.jpg"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_members_that_lead_out_are_refused(tmp_path: Path, name: str, kind: bytes):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a.jpg")
        add(tar, name, kind=kind)
    with pytest.raises(
        DataError, match=r"x.tar member .*: expected a relative path without '..'; write the shard again"
    ):
        index_shard(tmp_path / "x.tar")


def test_a_long_name_that_leads_out_is_refused(tmp_path: Path):
    write(tmp_path / "x.tar", (f"../{'a' * 200}.jpg", b""))
    with pytest.raises(DataError, match=r"x.tar member \.\./aaa.*: expected a relative path"):
        index_shard(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"Z", "an entry of type b'Z'"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, kind: bytes, what: str):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a.jpg", kind=kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match=f"x.tar member a.jpg: expected a file, got {what}; write the shard again with"):
        index_shard(tmp_path / "x.tar")


def test_sparse_members_are_refused(tmp_path: Path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = 4
        member.pax_headers = {"GNU.sparse.size": "1000", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,4"}
        tar.addfile(member, io.BytesIO(b"xxxx"))
    with pytest.raises(
        DataError, match=r"x.tar member a.jpg: expected a plain file, got a sparse one; write the shard"
    ):
        index_shard(path)


@pytest.mark.parametrize("length", [100, 512, 700, 1024, 1600, 2048, 2560])
def test_a_truncated_tar_is_named(tmp_path: Path, length: int):
    # Header, 2 blocks, header, 1 block, and the zeros that end it.
    path = write(tmp_path / "x.tar", ("a.jpg", b"a" * 600), ("b.jpg", b"b" * 10))
    whole = path.read_bytes()
    assert whole[2560:] == bytes(len(whole) - 2560)
    path.write_bytes(whole[:length])
    with pytest.raises(
        DataError, match=r"x.tar( member .)?.*: expected .*; the shard is truncated or damaged, so write"
    ):
        index_shard(path)
    path.write_bytes(whole[:3072])
    assert len(index_shard(path)) == 2


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\xff" * 11 + b"\x00", b"\x80" + b"\xff" * 11, b"77777777777\0"])
@pytest.mark.parametrize("name", ["a.jpg", f"{'a' * 200}.jpg"])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_sizes_that_lie_are_refused(tmp_path: Path, size: bytes, name: str, format: int):
    # The long name has a header of its own, whose size lies then.
    path = write(tmp_path / "x.tar", (name, b"a"), ("b.jpg", b"b"), format=format)
    patch(path, 0, 124, size)
    with pytest.raises(DataError, match=r"x.tar.*: expected .*; the shard is truncated or damaged"):
        index_shard(path)


def test_garbage_between_members_is_named(tmp_path: Path):
    path = write(tmp_path / "x.tar", ("a.jpg", b"a"), ("b.jpg", b"b"))
    whole = bytearray(path.read_bytes())
    whole[1024:1030] = b"xxxxxx"
    path.write_bytes(whole)
    with pytest.raises(
        DataError, match=r"x.tar: expected a whole tar, got one without the blocks that end it; the shard"
    ):
        index_shard(path)


def test_long_name_headers_without_end_are_refused(tmp_path: Path):
    path = write(tmp_path / "x.tar", ("a" * 200, b""), format=tarfile.GNU_FORMAT)
    header = path.read_bytes()[:1024]
    path.write_bytes(header * 20_000)
    with pytest.raises(DataError, match=r"x.tar: expected a whole tar, got: "):
        index_shard(path)


def test_compressed_tars_and_other_files_are_refused(tmp_path: Path):
    path = write(tmp_path / "x.tar", ("a.jpg", b"a"))
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(
        DataError, match=r"x.tar: expected a plain tar, got one compressed with gzip; a picture is read"
    ):
        index_shard(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"x.tar: expected a tar, got an empty file"):
        index_shard(path)
    path.write_bytes(b"PK\x03\x04" + b"x" * 2000)
    with pytest.raises(DataError, match=r"x.tar: expected a whole tar, got: .*header"):
        index_shard(path)
