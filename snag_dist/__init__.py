"""Train multi-modal knowledge-graph encoders at scale.

The paper half is mathematics and knows torch and numpy alone: `kg`, `model`, `objective`, `sampling`, `ranking`,
`task`, `method`. The plant half is machinery: `store`, `shard`, `training`, `evaluation`, `tune`. The plant calls the
paper, never the reverse.

A notebook needs six verbs:

    import snag_dist
    store = snag_dist.ingest("jobs/recipes/world.toml")
    store = snag_dist.extract("jobs/recipes/world.toml")
    plan = snag_dist.plan("jobs/recipes/world.toml")
    reports = snag_dist.train("jobs/recipes/world.toml")
    report = snag_dist.evaluate("runs/world")
    outcome = snag_dist.search("jobs/recipes/world_sweep.toml")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snag_dist.api import evaluate, extract, ingest, plan, search, train

__all__ = ["evaluate", "extract", "ingest", "plan", "search", "train"]


def __getattr__(name: str) -> Any:
    # The verbs bring Ray along; the paper half is imported without it.
    if name in __all__:
        from snag_dist import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
