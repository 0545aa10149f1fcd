"""Configuration of an exported SNAG encoder."""

from typing import Any

from transformers import PretrainedConfig

GRAPH = "graph"


class SnagEncoderConfig(PretrainedConfig):
    """What the exported network and its tables look like."""

    model_type = "snag"

    def __init__(
        self,
        width: int = 256,
        modalities: list[dict[str, Any]] | None = None,
        fusion: dict[str, Any] | None = None,
        project_graph: bool = False,
        num_entities: int = 0,
        num_relations: int = 0,
        tables: dict[str, Any] | None = None,
        scorer: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        """Hold the fields of `config.json`.

        Args:
            width: D, columns of rows, tokens and codes.
            modalities: in the order of the tokens, each with `name`, `width` (F of its raw vectors), `layers` of its
                projection and `impute` ("drop": an absent modality takes no part; "learned": a vector stands for it;
                "zero": zeros do).
            fusion: `kind` and its settings, as they were trained.
            project_graph: whether the learned row goes through a linear layer too.
            num_entities, num_relations: E and R.
            tables: what the entity files hold: `dtype`, and whether `tokens` are among it.
            scorer: how codes and relation rows make a score, with the convention in words.
        """
        self.width = width
        self.modalities = [] if modalities is None else modalities
        self.fusion = {"kind": GRAPH} if fusion is None else fusion
        self.project_graph = project_graph
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.tables = {} if tables is None else tables
        self.scorer = {} if scorer is None else scorer
        super().__init__(**kwargs)

    @property
    def token_names(self) -> list[str]:
        """Names of the M tokens: the learned row first, then the modalities."""
        return [GRAPH, *(modality["name"] for modality in self.modalities)]
