"""The exported encoder as transformers loads it: `SnagEncoder.from_pretrained(folder)`.

The same files lie in every export, so that `AutoModel.from_pretrained(folder, trust_remote_code=True)` needs no
`snag_dist`. They import torch, safetensors and transformers, and nothing else.

configuration_snag  what the network looks like
modeling_snag       the network
tables_snag         the per-entity tables, mapped
search_snag         nearest entities; lies beside a FAISS index and needs faiss and numpy alone
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snag_dist.export.hf.configuration_snag import SnagEncoderConfig
    from snag_dist.export.hf.modeling_snag import SnagEncoder, SnagOutput

__all__ = ["SnagEncoder", "SnagEncoderConfig", "SnagOutput"]


def __getattr__(name: str) -> Any:
    # transformers is heavy: tables and search come without it.
    if name in __all__:
        from snag_dist.export.hf import configuration_snag, modeling_snag

        return getattr(configuration_snag if name == "SnagEncoderConfig" else modeling_snag, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
