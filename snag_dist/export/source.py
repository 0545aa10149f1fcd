"""What is exported: the best checkpoint of a run beside its store, encoded block by block.

Nothing here holds the table. Rows come from the checkpoint's file of one virtual shard at a time, slice by slice, and
features from the mapped arrays of that shard.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import safe_open
from torch import Tensor

from snag_dist.config import validate
from snag_dist.errors import CheckpointError, ConfigError
from snag_dist.method.choices import CompletionMethod
from snag_dist.method.facts import GraphFacts
from snag_dist.model.encoder import Encoder, ModalityFacts
from snag_dist.model.features import ColumnStatistics, EntityInputs
from snag_dist.model.fusion import Fused
from snag_dist.names import is_plain
from snag_dist.store.gather import FeatureRows
from snag_dist.store.manifest import hash_file
from snag_dist.store.opened import Store
from snag_dist.task.completion import CompletionTask
from snag_dist.training.checkpoint_files import FORMAT_VERSION, MANIFEST, read_manifest, read_pointer, rows_file
from snag_dist.training.graph import open_graph
from snag_dist.training.recipe import Recipe
from snag_dist.training.run_folder import RunFolder
from snag_dist.training.step import gather_features
from snag_dist.training.worker import check_store, open_features

_BLOCK = 4096
_DENSE = "dense.safetensors"
_TASK = "weight/task."
_ELSEWHERE = "point BEST at another checkpoint, or train the run again"


@dataclass(frozen=True)
class Block:
    """What is exported of n entities that follow one another.

    Attributes:
        first_row: row id of the first.
        rows: (n, D) learned rows.
        codes: (n, D).
        tokens: (n, M, D) after fusion, the learned row's first.
        confidence: (n, M).
        mask: (n, M) bool: which tokens took part in fusion.
        has: (n, M - 1) bool: which modalities the store has, in the order of the tokens.
    """

    first_row: int
    rows: Tensor
    codes: Tensor
    tokens: Tensor
    confidence: Tensor
    mask: Tensor
    has: Tensor


@dataclass(frozen=True)
class RunSource:
    """A run that can be exported.

    Attributes:
        folder: of the run.
        recipe: of the run; a modality that was imputed by noise has `drop` in it instead.
        store: the run was trained on.
        checkpoint: folder of the best checkpoint; its files are whole.
        task: with its weights, in float32.
        noise_imputed: modalities whose missing vectors training replaced by random ones, which are not exported.
    """

    folder: RunFolder
    recipe: Recipe
    store: Store
    checkpoint: Path
    task: CompletionTask
    noise_imputed: tuple[str, ...]

    @classmethod
    def open(cls, run: Path) -> "RunSource":
        """Open a run folder.

        Raises:
            CheckpointError: it is no run, has no checkpoint yet, or a file of the checkpoint is damaged.
            ConfigError: the run is of a kind that cannot be exported.
            DataError: its store is not there or was changed.
        """
        folder = RunFolder(run.absolute())
        tree = {**folder.read_config(), "runs": str(folder.path.parent), "name": folder.path.name}
        check_exportable(tree, folder.config)
        # Whole, whatever a person has done to the file.
        damaged = "the file is damaged: restore it from a copy, or train again"
        tree = validate(Recipe, tree, str(folder.config), remedy=damaged).to_tree()
        noise_imputed = _drop_noise(tree)
        recipe = validate(Recipe, tree, str(folder.config))
        store = open_graph(recipe)
        check_store(store, folder)
        checkpoint = find_checkpoint(folder, store)
        facts = {
            name: ModalityFacts(rows.width, ColumnStatistics(torch.from_numpy(rows.mean), torch.from_numpy(rows.std)))
            for name, rows in open_features(recipe, store, (0, 0)).items()
        }
        method = recipe.method
        assert isinstance(method, CompletionMethod)
        task = method.build_completion(GraphFacts(store.num_entities, store.num_relations, facts), recipe.seed).float()
        task.load_state_dict(_read_weights(checkpoint))
        task.requires_grad_(False)
        return cls(folder, recipe, store, checkpoint, task.eval(), noise_imputed)

    @property
    def method(self) -> CompletionMethod:
        """What was trained."""
        method = self.recipe.method
        assert isinstance(method, CompletionMethod)
        return method

    @property
    def encoder(self) -> Encoder:
        """The network."""
        return self.task.encoder

    @property
    def num_tokens(self) -> int:
        """M."""
        return 1 + len(self.encoder.modalities)

    def impute(self, modality: str) -> str:
        """How a missing modality is answered: `drop` or `learned`."""
        encoder = self.method.encoder
        return encoder.projections.get(modality, encoder.projection).impute

    def blocks(self) -> Iterator[Block]:
        """Encode all entities, in the order of their rows.

        Blocks are those of evaluation, so codes are the same bit for bit where training was in float32.
        """
        bounds = self.store.shard_bounds.tolist()
        for shard in range(self.store.virtual_shards):
            start, stop = bounds[shard], bounds[shard + 1]
            if start == stop:
                continue
            features = open_features(self.recipe, self.store, (start, stop))
            with safe_open(self.checkpoint / rows_file(shard), framework="pt") as opened:
                rows = opened.get_slice("rows")
                for first in range(start, stop, _BLOCK):
                    last = min(first + _BLOCK, stop)
                    yield self._encode(first, rows[first - start : last - start].float(), features)

    @torch.no_grad()
    def _encode(self, first: int, rows: Tensor, features: dict[str, FeatureRows]) -> Block:
        ids = torch.arange(first, first + len(rows))
        vectors, present = gather_features(ids, features, rows.device)
        fused: Fused = self.task.encode(EntityInputs(ids, rows, vectors, present), None)
        here = torch.ones(len(rows), dtype=torch.bool)
        names = self.encoder.modalities
        has = torch.stack([present[name] for name in names], dim=1) if names else here.new_ones(len(rows), 0)
        used = [here, *(here if self.impute(name) != "drop" else present[name] for name in names)]
        return Block(first, rows, fused.codes, fused.tokens, fused.confidence, torch.stack(used, dim=1), has)


def check_exportable(tree: dict[str, Any], place: Path) -> None:
    """Refuse a run that is not of completion.

    Raises:
        ConfigError: naming what can be exported.
    """
    kinds = [config.model_fields["kind"].default for config in get_args(CompletionMethod)]
    method = tree.get("method", {})
    found = method.get("kind", kinds[0]) if isinstance(method, dict) else method
    if found not in kinds:
        raise ConfigError(
            f"{place}: method.kind: expected a method of completion ({', '.join(kinds)}), got {found!r}; "
            "alignment runs cannot be exported yet: export a completion run"
        )


def find_checkpoint(folder: RunFolder, store: Store) -> Path:
    """Find the best checkpoint of a run and check every file of it.

    Raises:
        CheckpointError: there is none yet, it belongs to another store, or a file is missing or damaged.
    """
    name = read_pointer(folder.checkpoints / "BEST")
    if name is None:
        raise CheckpointError(
            f"{folder.checkpoints}: expected a best checkpoint, found none; train the run to its first evaluation "
            "(train.evaluate_every epochs)"
        )
    if not is_plain(name):
        raise CheckpointError(
            f"{folder.checkpoints / 'BEST'}: expected the name of a checkpoint beside it, got {name!r}; write "
            "the name of one into it"
        )
    checkpoint = folder.checkpoints / name
    path = checkpoint / MANIFEST
    manifest = read_manifest(checkpoint)
    if isinstance(manifest, str):
        raise CheckpointError(f"{manifest}; {_ELSEWHERE}")
    made_on, version = str(manifest.get("store_fingerprint")), manifest.get("format_version")
    if made_on != store.fingerprint:
        raise CheckpointError(
            f"{path}: made on store {made_on[:12]}, this store is {store.fingerprint[:12]}; use the store of the run"
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected a checkpoint of format {FORMAT_VERSION}, found {version}; export with the version of "
            "snag_dist that trained the run"
        )
    for file, record in manifest["files"].items():
        if not is_plain(file):
            raise CheckpointError(f"{path}: files: expected names of files beside it, got {file!r}; {_ELSEWHERE}")
        if not (checkpoint / file).is_file() or hash_file(checkpoint / file) != record["sha256"]:
            raise CheckpointError(
                f"{checkpoint / file}: expected sha256 {record['sha256'][:12]}, the file is missing or damaged; "
                f"{_ELSEWHERE}"
            )
    return checkpoint


def _drop_noise(tree: dict[str, Any]) -> tuple[str, ...]:
    # No export holds random vectors: a modality imputed by noise is absent where the store does not have it.
    encoder = tree["method"]["encoder"]
    modalities = tree["features"] if tree.get("modalities") is None else tree["modalities"]
    default, own = encoder["projection"], encoder["projections"]
    found = tuple(sorted(name for name in modalities if own.get(name, default)["impute"] == "noise"))
    for projection in (default, *own.values()):
        if projection["impute"] == "noise":
            projection["impute"] = "drop"
    return found


def _read_weights(checkpoint: Path) -> dict[str, Tensor]:
    with safe_open(checkpoint / _DENSE, framework="pt") as opened:
        names = [name for name in opened.keys() if name.startswith(_TASK)]  # noqa: SIM118
        return {name.removeprefix(_TASK): opened.get_tensor(name).float() for name in names}
