"""What a store calls its entities, as texts: the name channel of alignment."""

# pyarrow.compute makes its functions when it is imported, where a type checker does not see them.
# pyright: reportAttributeAccessIssue=false

from typing import ClassVar, Literal

import pyarrow.compute as pc

from snag_dist.config import Config
from snag_dist.store.manifest import hash_tree
from snag_dist.store.media.items import Texts, What
from snag_dist.store.opened import Store


class NamesConfig(Config):
    """The names in the store: translated ones where the source of two graphs has them, else what the keys say."""

    kind: Literal["names"] = "names"
    """Tells this source from the others."""
    keys: ClassVar[Literal["key"]] = "key"

    def identity(self, what: What) -> str:
        """Return the same for any store: names go and come with the store that holds them."""
        return hash_tree("names")

    def read_texts(self, store: Store) -> Texts:
        """Read the names, sorted by key; an entity whose name is empty has none."""
        entities = store.entities()
        keys, names = entities["key"].combine_chunks(), pc.utf8_trim_whitespace(entities["name"].combine_chunks())
        named = pc.greater(pc.utf8_length(names), 0)
        keys, names = keys.filter(named), names.filter(named)
        order = pc.sort_indices(keys)
        keys, names = keys.take(order), names.take(order)
        return Texts(
            keys=keys,
            texts=names,
            place=lambda position: f"name of {keys[position].as_py()!r} in {store.path}",
            source=f"names of {store.manifest.source}",
            identity=self.identity("texts"),
        )
