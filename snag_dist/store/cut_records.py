"""What the manifest of a part of a store says of the store that it was cut out of."""

from snag_dist.config import Config


class CoreRecord(Config):
    """Of which store a store is the k-core."""

    k: int
    """Training triples that every entity has with others of the core, at least."""
    parent_fingerprint: str
    """Fingerprint of the store that the core was cut out of."""
    parent_entities: int
    """E of that store."""
    parent_triples: dict[str, int]
    """Its triples by split."""


class HoldoutRecord(Config):
    """Of which store a store is what is left without entities that were held out."""

    share: float
    """Share of the entities that was asked for."""
    seed: int
    """Of the draw."""
    parent_fingerprint: str
    """Fingerprint of the store that has them all."""
    parent_entities: int
    """E of that store."""
    parent_triples: dict[str, int]
    """Its triples by split."""
