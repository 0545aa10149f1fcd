"""What each of the two graphs knows about its emoji, as triples of keys with texts and pictures.

Both hold keywords in their own language, Unicode's subgroups, flags with their regions, and the kind of sequence (of
which every emoji has one, so none is without a triple). Beyond that they look at the same things differently, each
with the emoji that it knows, so that no graph is a copy of the other:

    left ("blob", 2017)                              right ("noto", 2025)
    the emoji that were drawn                        those drawn, and those that Unicode lists without a drawing
    subgroup belongs to a group                      emoji has a category and tags (gemoji), and a version
    tone and gender are entities: emoji skin_tone    tone and gender are relations: plain form dark_skin_tone
      tone, emoji gender sign                          toned form, neutral form female_form gendered form
    a variant points to its plainest form            a form that faces right hangs on the one that faces left
    a sequence has its single characters as parts    a sequence has what its joiners hold together as elements

A keyword or tag becomes an entity where at least `min_uses` emoji of the graph share it; texts keep all of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emoji_graph.code_points import (
    FEMALE_SIGN,
    TONES,
    Emoji,
    characters_of,
    elements_of,
    gender_of,
    kind_of,
    region_of,
    to_code,
    tones_of,
    without_direction,
    without_gender,
    without_tones,
)
from emoji_graph.sources import Annotation, Drawings, Sources, UnicodeList

Triple = tuple[str, str, str]

_MIXED_TONES = "mixed_skin_tones"


@dataclass(frozen=True)
class SideGraph:
    """One of the two graphs.

    Attributes:
        prefix: begins every key, so that the two graphs share none.
        emoji: its emoji, sorted.
        triples: distinct (head, relation, tail) keys, sorted.
        texts: entity key to a sentence, in the order of the entities.
        pictures: entity key to its picture, in the order of the entities.
    """

    prefix: str
    emoji: tuple[Emoji, ...]
    triples: tuple[Triple, ...]
    texts: dict[str, str]
    pictures: dict[str, Path]

    def key(self, emoji: Emoji) -> str:
        """Return the key of an emoji; its picture has the same name."""
        return f"{self.prefix}-{to_code(emoji)}"

    def entities(self) -> list[str]:
        """Return the keys of all entities, sorted."""
        return sorted({key for head, _, tail in self.triples for key in (head, tail)})

    def relations(self) -> list[str]:
        """Return the names of all relations, sorted."""
        return sorted({relation for _, relation, _ in self.triples})


@dataclass(frozen=True)
class _Knowledge:
    """What both graphs are made from, each with its own.

    Attributes:
        prefix: begins every key.
        drawings: the pictures.
        emoji: the emoji of the graph: those drawn, and maybe more.
        language: of the graph.
        annotations: names and keywords in that language.
        listed: Unicode's list.
    """

    prefix: str
    drawings: Drawings
    emoji: frozenset[Emoji]
    language: str
    annotations: Mapping[Emoji, Annotation]
    listed: UnicodeList

    def key(self, emoji: Emoji) -> str:
        return f"{self.prefix}-{to_code(emoji)}"

    def named(self, what: str, value: str) -> str:
        """Return the key of an entity that is no emoji."""
        return f"{self.prefix}-{what}-{value}"


def build_left(sources: Sources, language: str, min_uses: int) -> SideGraph:
    """Build the graph of the 2017 drawings, which describes an emoji by what it has.

    Args:
        sources: with annotations in the language.
        language: of names and keywords.
        min_uses: emoji that must share a word for it to be an entity, 1 or more.
    """
    known = _Knowledge(
        prefix="blob",
        drawings=sources.blob,
        emoji=frozenset(sources.blob.files),
        language=language,
        annotations=sources.annotations[language],
        listed=sources.listed,
    )
    triples = {*_shared_triples(known), *_word_triples(known, _keywords(known), min_uses)}
    subgroups = {known.listed.subgroups[emoji] for emoji in known.emoji & known.listed.subgroups.keys()}
    for subgroup in subgroups:
        group = known.named("group", known.listed.groups[subgroup])
        triples.add((known.named("subgroup", subgroup), "group", group))
    for emoji in known.emoji:
        gender = gender_of(emoji)
        plainer = (without_tones(without_gender(emoji)), without_tones(emoji), without_gender(emoji))
        variant_of = next((form for form in plainer if form != emoji and form in known.emoji), None)
        tails = [("skin_tone", (tone,)) for tone in tones_of(emoji)]
        tails += [("gender", (gender,))] if gender is not None else []
        tails += [("variant_of", variant_of)] if variant_of is not None else []
        tails += [("part", character) for character in characters_of(emoji)]
        triples |= {(known.key(emoji), relation, known.key(tail)) for relation, tail in tails if tail in known.emoji}
    return _finish(known, triples)


def build_right(sources: Sources, language: str, min_uses: int) -> SideGraph:
    """Build the graph of the 2025 drawings, which describes an emoji by the forms it is related to.

    Args: as for `build_left`.
    """
    known = _Knowledge(
        prefix="noto",
        drawings=sources.noto,
        emoji=frozenset(sources.noto.files) | sources.listed.subgroups.keys(),
        language=language,
        annotations=sources.annotations[language],
        listed=sources.listed,
    )
    gemoji = sources.gemoji
    tags = [("tag", emoji, word) for emoji in known.emoji & gemoji.keys() for word in gemoji[emoji].tags]
    triples = {*_shared_triples(known), *_word_triples(known, [*_keywords(known), *tags], min_uses)}
    for emoji in known.emoji:
        key = known.key(emoji)
        triples |= {(known.key(form), relation, key) for relation, form in _forms(emoji) if form in known.emoji}
        triples |= {(key, "element", known.key(part)) for part in elements_of(emoji) if part in known.emoji}
        if emoji in gemoji:
            triples.add((key, "category", known.named("category", gemoji[emoji].category)))
        if emoji in known.listed.versions:
            triples.add((key, "version", known.named("version", known.listed.versions[emoji])))
        country, _, part = (region_of(emoji) or "").partition("-")
        if part:
            triples.add((known.named("region", f"{country}-{part}"), "within", known.named("region", country)))
    return _finish(known, triples)


def _forms(emoji: Emoji) -> Iterator[tuple[str, Emoji]]:
    """Yield (relation, form) for each form that this emoji is derived from by one step."""
    tones = tones_of(emoji)
    if tones:
        yield TONES[tones[0]] if len(set(tones)) == 1 else _MIXED_TONES, without_tones(emoji)
    gender = gender_of(emoji)
    if gender is not None:
        yield "female_form" if gender == FEMALE_SIGN else "male_form", without_gender(emoji)
    if without_direction(emoji) != emoji:
        yield "facing_right", without_direction(emoji)


def _shared_triples(known: _Knowledge) -> Iterator[Triple]:
    for emoji in known.emoji:
        key = known.key(emoji)
        yield key, "kind", known.named("kind", kind_of(emoji))
        subgroup, region = known.listed.subgroups.get(emoji), region_of(emoji)
        if subgroup is not None:
            yield key, "subgroup", known.named("subgroup", subgroup)
        if region is not None:
            yield key, "flag_of", known.named("region", region)


def _keywords(known: _Knowledge) -> list[tuple[str, Emoji, str]]:
    annotated = known.emoji & known.annotations.keys()
    return [("keyword", emoji, word) for emoji in annotated for word in known.annotations[emoji].keywords]


def _word_triples(known: _Knowledge, uses: list[tuple[str, Emoji, str]], min_uses: int) -> Iterator[Triple]:
    """Yield a triple a use of a word, for the words that enough emoji share."""
    counts = Counter(word for _, word in {(emoji, word) for _, emoji, word in uses})
    for relation, emoji, word in uses:
        if counts[word] >= min_uses:
            yield known.key(emoji), relation, known.named("word", word)


def _finish(known: _Knowledge, triples: set[Triple]) -> SideGraph:
    ordered = tuple(sorted(known.emoji))
    texts = {known.key(emoji): _sentence(known.annotations[emoji]) for emoji in ordered if emoji in known.annotations}
    texts |= _region_names(known)
    texts |= _class_names(known, {tail for _, _, tail in triples})
    return SideGraph(
        prefix=known.prefix,
        emoji=ordered,
        triples=tuple(sorted(triples)),
        texts=dict(sorted(texts.items())),
        pictures={known.key(emoji): known.drawings.files[emoji] for emoji in ordered if emoji in known.drawings.files},
    )


def _sentence(annotation: Annotation) -> str:
    """Return the name, which may hold a colon, with the keywords that do not merely repeat it in brackets."""
    words = [word for word in annotation.keywords if word != annotation.name]
    return f"{annotation.name} ({', '.join(words)})." if words else f"{annotation.name}."


def _region_names(known: _Knowledge) -> dict[str, str]:
    """Return the texts of regions: CLDR names a flag "Flag: Germany", in every language."""
    names: dict[str, str] = {}
    for emoji in known.emoji & known.annotations.keys():
        region = region_of(emoji)
        if region is not None:
            names[known.named("region", region)] = known.annotations[emoji].name.partition(":")[2].strip()
    return {key: name for key, name in names.items() if name}


def _class_names(known: _Knowledge, keys: set[str]) -> dict[str, str]:
    """Return the texts of words, and of groups, kinds and the like where their English names are of the language."""
    names: dict[str, str] = {}
    for key in keys:
        _, what, *value = key.split("-", 2)
        if what == "word":
            names[key] = value[0]
        elif known.language == "en" and what in ("category", "group", "kind", "subgroup"):
            names[key] = value[0].replace("_", " ").replace("-", " ")
    return names
