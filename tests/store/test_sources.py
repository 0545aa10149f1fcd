from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.opened import open_store
from snag_dist.store.sources import NtriplesConfig, SourceConfig, TsvConfig, source_files


def test_a_source_is_told_by_its_kind():
    read = TypeAdapter(SourceConfig).validate_python
    assert read({"kind": "world", "num_entities": 500}).kind == "world"
    with pytest.raises(ValidationError, match="'openke', 'tsv', 'ntriples', 'parquet', 'world'"):
        read({"kind": "csv", "folder": "x"})


@pytest.mark.parametrize("fields", [{}, {"folder": "x", "train": "y"}, {"folder": "x", "valid": "y"}])
def test_a_folder_or_files_but_not_both(fields: dict[str, Path]):
    with pytest.raises(ValidationError, match="expected"):
        TsvConfig(**fields)


def test_files_of_a_folder_are_those_that_are_read(letters: Path):
    names = [path.name for path in source_files(TsvConfig(folder=letters))]
    assert names == ["test.tsv", "train.tsv", "valid.tsv"]


@pytest.mark.ray
def test_ntriples_by_name_of_file_give_a_store(tmp_path: Path, local_ray: None):
    for split, other in (("train", "b"), ("test", "c")):
        (tmp_path / f"{split}.nt").write_text(f"<http://x/{other}> <http://x/likes> <http://x/a> .\n")
    source = NtriplesConfig(train=tmp_path / "train.nt", test=tmp_path / "test.nt")
    manifest = ingest(IngestConfig(source=source), tmp_path / "store")
    assert manifest.num_triples == {"train": 1, "test": 1}
    assert open_store(tmp_path / "store").relations()["key"].to_pylist() == ["http://x/likes"]
