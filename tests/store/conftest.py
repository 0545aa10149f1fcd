"""A small graph whose store every test can tell by hand, and the store of a small generated world."""

import shutil
from pathlib import Path

import pytest

from snag_dist.kg.world import WorldConfig
from snag_dist.store.alignment_source import AlignmentConfig
from snag_dist.store.encoders.torchvision_door import open_torchvision
from snag_dist.store.extract import extract
from snag_dist.store.ingest import IngestConfig, ingest
from snag_dist.store.opened import Store, open_store
from snag_dist.store.sources import TsvConfig
from snag_dist.store.world_features import WorldPixelsConfig, WorldTextConfig

TRAIN = ["a likes b", "b likes c", "c knows a", "d knows e", "e likes f", "f likes a"]
VALID = ["a knows f"]
TEST = ["d likes c", "b knows a"]


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of TSV files: six entities a to f, two relations, six, one and two triples."""
    folder = tmp_path_factory.mktemp("letters")
    for split, lines in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def ingested_letters(letters: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """The store of the six letters, in three virtual shards, as ingest made it."""
    path = tmp_path_factory.mktemp("stores") / "letters"
    ingest(IngestConfig(source=TsvConfig(folder=letters), virtual_shards=3), path)
    return path


@pytest.fixture
def letter_store(ingested_letters: Path, tmp_path: Path) -> Store:
    """A copy of the store of the six letters, for one test to spoil."""
    return open_store(shutil.copytree(ingested_letters, tmp_path / "letters_store"))


@pytest.fixture(scope="session")
def world() -> WorldConfig:
    """A small generated world."""
    return WorldConfig(num_entities=300, picture_side=16)


@pytest.fixture(scope="session")
def world_store(world: WorldConfig, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Store:
    """A store of the small world with text and vision; not to be changed."""
    path = tmp_path_factory.mktemp("world") / "store"
    ingest(IngestConfig(source=world, seed=3, virtual_shards=8, triples_per_part=500), path)
    extract({"text": WorldTextConfig(), "vision": WorldPixelsConfig(pool=4)}, path)
    return open_store(path)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence model of 32 dimensions with random weights, saved as real ones are."""
    pytest.importorskip("sentence_transformers")
    open_torchvision()
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "city", "in", "the", "north", "south"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    word = models.Transformer(str(folder / "bert"), max_seq_length=32)
    SentenceTransformer(modules=[word, models.Pooling(32)], device="cpu").save(str(folder / "sentence"))
    return folder / "sentence"


PAIR_ENTITIES = ({10: "http://x/a_one", 30: "http://x/b", 50: "http://x/c"}, {20: "http://y/a", 40: "http://y/b_two"})


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two graphs of three and two entities, their ids interleaved with gaps, two links, attributes on both sides.

    Dense ids follow the ids of the files: a_one 0, y/a 1, b 2, b_two 3, c 4.
    """
    folder = tmp_path_factory.mktemp("pair")
    for number, entities in enumerate(PAIR_ENTITIES, start=1):
        lines = [f"{id_}\t{key}" for id_, key in reversed(entities.items())]
        (folder / f"ent_ids_{number}").write_text("\n".join(lines) + "\n")
    (folder / "triples_1").write_text("10\t7\t30\n30\t7\t50\n10\t3\t10\n")
    (folder / "triples_2").write_text("20\t7\t40\n")
    (folder / "ill_ent_ids").write_text("30\t40\n10\t20\n")
    (folder / "training_attrs_1").write_text("http://x/b\tsize\tage\nhttp://x/a_one\tsize\n")
    (folder / "training_attrs_2").write_text("http://y/a\tsize\n")
    return folder


@pytest.fixture(scope="session")
def ingested_pair(pair_folder: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """The store of the two small graphs, in three virtual shards, as ingest made it."""
    path = tmp_path_factory.mktemp("stores") / "pair"
    ingest(IngestConfig(source=AlignmentConfig(folder=pair_folder), seed=1, virtual_shards=3), path)
    return path


@pytest.fixture
def pair_store(ingested_pair: Path, tmp_path: Path) -> Store:
    """A copy of the store of the two small graphs, for one test to spoil."""
    return open_store(shutil.copytree(ingested_pair, tmp_path / "pair_store"))
