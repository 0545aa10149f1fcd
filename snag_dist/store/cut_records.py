"""What the manifest of a core says of the store that it was cut out of."""

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
