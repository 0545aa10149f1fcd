"""What an LLM's own input embeddings say of entities' names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from snag_dist.errors import ConfigError
from snag_dist.store.encoders.torchvision_door import open_torchvision

_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "embed_in.weight",
    "tok_embeddings.weight",
)


@dataclass(frozen=True)
class NameEmbeddings:
    """Means of an LLM's input embeddings over the tokens of a name.

    Attributes:
        tokenizer: of the LLM.
        embeddings: (vocabulary, H), mapped.
    """

    tokenizer: Any
    embeddings: Tensor

    @classmethod
    def open(cls, folder: Path) -> "NameEmbeddings":
        """Open the tokenizer and the input embeddings of an LLM's folder; the rest of it is not read.

        Raises:
            ConfigError: there is no tokenizer, or no table of embeddings in safetensors.
        """
        open_torchvision()
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"llava.llm: {folder}: expected an LLM with its tokenizer, got: {reason}; mend the path"
            ) from error
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    if name.endswith(_EMBEDDINGS):
                        return cls(tokenizer, opened.get_tensor(name))
        raise ConfigError(
            f"llava.llm: {folder}: expected input embeddings ({', '.join(_EMBEDDINGS)}) in *.safetensors, found none; "
            "save the model with save_pretrained"
        )

    @property
    def width(self) -> int:
        """H."""
        return self.embeddings.shape[1]

    def of(self, texts: list[str]) -> Tensor:
        """Return the (n, H) mean embeddings of texts; zeros for one without tokens."""
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        owner = torch.repeat_interleave(torch.arange(len(ids)), torch.tensor([len(tokens) for tokens in ids]))
        flat = torch.tensor([token for tokens in ids for token in tokens], dtype=torch.int64)
        total = torch.zeros(len(ids), self.width).index_add_(0, owner, self.embeddings[flat].float())
        counts = torch.bincount(owner, minlength=len(ids)).clamp_min(1)
        return total / counts.unsqueeze(1)
