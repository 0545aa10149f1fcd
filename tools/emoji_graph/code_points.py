"""What the code points of an emoji say by themselves: its kind, its skin tones, its gender, what it is joined from.

An emoji is the tuple of its code points without presentation selectors, as the drawings name their files:
`1f469_1f3fd_200d_1f680` is a woman, a medium skin tone, a joiner and a rocket: a woman astronaut.

Source: Unicode Technical Standard #51, emoji sequences.
"""

Emoji = tuple[int, ...]

JOINER = 0x200D
TONES = {
    0x1F3FB: "light_skin_tone",
    0x1F3FC: "medium_light_skin_tone",
    0x1F3FD: "medium_skin_tone",
    0x1F3FE: "medium_dark_skin_tone",
    0x1F3FF: "dark_skin_tone",
}
FEMALE_SIGN, MALE_SIGN = 0x2640, 0x2642

_SELECTOR = 0xFE0F
_KEYCAP = 0x20E3
_ARROW_RIGHT = 0x27A1
_REGIONAL = range(0x1F1E6, 0x1F200)
_TAGS = range(0xE0020, 0xE0080)
_CANCEL_TAG = 0xE007F
# Adult, child and older person: the woman and the man, and the person they are forms of.
_PERSONS = {
    0x1F469: (0x1F9D1, FEMALE_SIGN),
    0x1F468: (0x1F9D1, MALE_SIGN),
    0x1F467: (0x1F9D2, FEMALE_SIGN),
    0x1F466: (0x1F9D2, MALE_SIGN),
    0x1F475: (0x1F9D3, FEMALE_SIGN),
    0x1F474: (0x1F9D3, MALE_SIGN),
}


def parse_code(code: str, separator: str = "_") -> Emoji | None:
    """Read hexadecimal code points, selectors left out; None where the text is something else."""
    try:
        points = tuple(int(part, 16) for part in code.split(separator))
    except ValueError:
        return None
    return tuple(point for point in points if point != _SELECTOR) or None


def of_text(text: str) -> Emoji:
    """Return the emoji that a string is, selectors left out."""
    return tuple(ord(character) for character in text if ord(character) != _SELECTOR)


def to_code(emoji: Emoji) -> str:
    """Return `1f469_200d_1f680`, the name the drawings have."""
    return "_".join(f"{point:04x}" for point in emoji)


def kind_of(emoji: Emoji) -> str:
    """Return how an emoji is put together; every emoji has exactly one kind."""
    if JOINER in emoji:
        return "joined_sequence"
    if any(point in _TAGS for point in emoji):
        return "subdivision_flag"
    if emoji[0] in _REGIONAL:
        return "regional_letter" if len(emoji) == 1 else "flag"
    if len(emoji) > 1 and emoji[-1] == _KEYCAP:
        return "keycap"
    if len(emoji) > 1 and emoji[-1] in TONES:
        return "toned"
    return "character"


def tones_of(emoji: Emoji) -> tuple[int, ...]:
    """Return the skin tones worn, in order; a tone alone is an emoji of its own and wears none."""
    return tuple(point for point in emoji if point in TONES) if len(emoji) > 1 else ()


def without_tones(emoji: Emoji) -> Emoji:
    """Return the form without skin tones; the emoji itself where it has none."""
    return tuple(point for point in emoji if point not in TONES) if len(emoji) > 1 else emoji


def gender_of(emoji: Emoji) -> int | None:
    """Return the female or the male sign; None where there is no gender, or more than one person has one."""
    found = _gender_and_neutral(emoji)
    return found[0] if found else None


def without_gender(emoji: Emoji) -> Emoji:
    """Return the form that leaves gender open; the emoji itself where `gender_of` finds none."""
    found = _gender_and_neutral(emoji)
    return found[1] if found else emoji


def _gender_and_neutral(emoji: Emoji) -> tuple[int, Emoji] | None:
    signs = [place for place in range(1, len(emoji)) if emoji[place] in (FEMALE_SIGN, MALE_SIGN)]
    persons = [place for place, point in enumerate(emoji) if point in _PERSONS]
    if len(signs) == 1 and not persons and emoji[signs[0] - 1] == JOINER:
        place = signs[0]
        return emoji[place], emoji[: place - 1] + emoji[place + 1 :]
    if len(persons) == 1 and not signs:
        place = persons[0]
        neutral, sign = _PERSONS[emoji[place]]
        return sign, (*emoji[:place], neutral, *emoji[place + 1 :])
    return None


def without_direction(emoji: Emoji) -> Emoji:
    """Return the form that faces left, as drawn by default, of one that is joined with an arrow to the right."""
    return emoji[:-2] if emoji[-2:] == (JOINER, _ARROW_RIGHT) else emoji


def elements_of(emoji: Emoji) -> list[Emoji]:
    """Return what joiners hold together, skin tones kept; for flags and keycaps, their characters. Each once."""
    kind = kind_of(emoji)
    if kind in ("flag", "keycap"):
        return list(dict.fromkeys((point,) for point in emoji))
    elements: list[Emoji] = []
    if kind == "joined_sequence":
        start = 0
        for place in [*(place for place, point in enumerate(emoji) if point == JOINER), len(emoji)]:
            elements.append(emoji[start:place])
            start = place + 1
    return list(dict.fromkeys(filter(None, elements)))


def characters_of(emoji: Emoji) -> list[Emoji]:
    """Return the single characters of a sequence, without joiners, skin tones and gender signs. Each once."""
    if kind_of(emoji) not in ("flag", "keycap", "joined_sequence"):
        return []
    apart = {JOINER, FEMALE_SIGN, MALE_SIGN, *TONES}
    return list(dict.fromkeys((point,) for point in emoji if point not in apart))


def region_of(emoji: Emoji) -> str | None:
    """Return the region a flag stands for: `DE`, or `GB-ENG` for a part of a country."""
    kind = kind_of(emoji)
    if kind == "flag":
        return "".join(chr(ord("A") + point - _REGIONAL.start) for point in emoji)
    if kind == "subdivision_flag":
        letters = "".join(chr(point & 0x7F) for point in emoji if point in _TAGS and point != _CANCEL_TAG).upper()
        return f"{letters[:2]}-{letters[2:]}"
    return None
