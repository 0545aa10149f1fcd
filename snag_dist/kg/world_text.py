"""What the generated world says of an entity: a name made of syllables, and a plain English sentence.

A sentence tells the theme and the era, which no picture shows, often the style, which pictures show too, now and then
the country, and never the colour. Words vary by synonym, parts are left out, and some words are wrong.
"""

from collections.abc import Sequence

import numpy as np

from snag_dist.kg.world_latents import COUNTRY, HOMES, SIZES, Latents, Population, draw
from snag_dist.kg.world_order import Floats, Ints

_ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io")
_CODAS = ("", "", "", "l", "n", "r", "s", "th")
# By kind, in the order of KINDS: syllables of the two coined words of a name, and the words around them.
_NAMES = (
    (2, 0, "{0}ia"),
    (2, 0, "{0}"),
    (2, 0, "{0} Academy"),
    (2, 0, "Museum of {0}"),
    (1, 2, "{0} and {1} Gallery"),
    (3, 0, "{0}ism"),
    (2, 2, "{0} {1}"),
    (1, 2, "{0} of {1}"),
)
_NOUNS = (
    ("country", "nation", "state"),
    ("city", "town", "municipality"),
    ("academy", "art school", "college"),
    ("museum", "public collection", "house of art"),
    ("gallery", "art dealer", "trading house"),
    ("movement", "school of painting", "current in art"),
    ("painter", "artist", "master"),
    ("painting", "canvas", "picture"),
)
_ERA_LEADS = (
    ("independent since", "united in"),
    ("which flourished in", "rebuilt in"),
    ("founded in", "opened in"),
    ("opened in", "built in"),
    ("founded in", "opened in"),
    ("which arose in", "at its height in"),
    ("active in", "born in"),
    ("finished in", "dating from"),
)
_WORK_LEADS = (
    ("proud of its", "remembered for"),
    ("loved for", "home to"),
    ("which teaches", "with classes in"),
    ("which shows", "with rooms full of"),
    ("which sells", "dealing in"),
    ("devoted to", "which praised"),
    ("known for", "admired for"),
    ("one of many", "typical of"),
)
_WORKS = ("pictures", "paintings", "views", "works")
_STYLE_WORDS = (
    ("layered", "banded"),
    ("upright", "columnar"),
    ("slanting", "diagonal"),
    ("geometric", "checkered"),
    ("dotted", "speckled"),
    ("circular", "concentric"),
    ("plain", "austere"),
    ("shaded", "luminous"),
)
_THEME_WORDS = (
    ("the sea", "the coast", "harbours"),
    ("the mountains", "high peaks", "alpine valleys"),
    ("the forest", "old woods", "pine trees"),
    ("the desert", "the dunes", "dry plains"),
    ("the river", "bridges", "waterfalls"),
    ("the fields", "the harvest", "farms and wheat"),
    ("the garden", "flowers", "parks and blossoms"),
    ("the snow", "winter ice", "glaciers"),
)
_FILLERS = (
    "",
    "",
    " Little else is known.",
    " Critics disagree about it.",
    " Many letters survive.",
    " See also the list.",
)
# How often a sentence tells each part.
_TELLS_STYLE, _TELLS_THEME, _TELLS_ERA, _TELLS_COUNTRY = 0.9, 0.95, 0.9, 0.25


def write_names(population: Population, ids: Ints) -> list[str]:
    """Coin a name for each entity; two entities may share one."""
    numbers = draw(population.seed, "name", ids, 13)
    return [_coin(int(kind), row) for kind, row in zip(population.kinds(ids), numbers, strict=True)]


def _coin(kind: int, numbers: Floats) -> str:
    first, second, pattern = _NAMES[kind]
    words = (_word(first, numbers[:7]), _word(second, numbers[7:]))
    return pattern.format(*words)


def _word(syllables: int, numbers: Floats) -> str:
    parts = [_pick(_ONSETS, numbers[2 * i]) + _pick(_VOWELS, numbers[2 * i + 1]) for i in range(syllables)]
    return ("".join(parts) + _pick(_CODAS, numbers[2 * syllables])).capitalize() if parts else ""


def write_sentences(population: Population, latents: Latents, wrong_words: float) -> list[str]:
    """Write what is said of each entity.

    Args:
        population: of the world; a sentence may name the country of the entity.
        latents: of N entities.
        wrong_words: share of the told attributes that are told wrong, in [0, 1].
    """
    names = write_names(population, latents.ids)
    countries = write_names(population, find_countries(population, latents))
    numbers = draw(population.seed, "sentence", latents.ids, 16)
    told = _tell_wrong(latents, wrong_words, draw(population.seed, "wrong_words", latents.ids, 6))
    sentences: list[str] = []
    for row, name in enumerate(names):
        kind, u = int(latents.kind[row]), numbers[row]
        style, theme, year = (int(column[row]) for column in told)
        noun = _pick(_NOUNS[kind], u[4])
        clauses = [f"{name} is {'an' if noun[0] in 'aeiou' else 'a'} {noun}"]
        if kind != COUNTRY and u[0] < _TELLS_COUNTRY:
            clauses[0] += f" from {countries[row]}"
        if u[1] < _TELLS_ERA:
            clauses.append(f"{_pick(_ERA_LEADS[kind], u[5])} {_say_era(year, u[6])}")
        work = _say_work(style if u[2] < _TELLS_STYLE else -1, theme if u[3] < _TELLS_THEME else -1, u[7:10])
        if work:
            clauses.append(f"{_pick(_WORK_LEADS[kind], u[10])} {work}")
        sentences.append(", ".join(clauses) + "." + _pick(_FILLERS, u[11]))
    return sentences


def find_countries(population: Population, latents: Latents) -> Ints:
    """Follow the homes up to the country of each entity, (N,)."""
    countries = latents.ids.copy()
    # A painting is the furthest away: painter, city, country.
    for _ in range(len(HOMES)):
        homes = population.home(countries)
        if bool((homes < 0).all()):
            break
        countries = np.where(homes < 0, countries, homes)
    return countries


def _tell_wrong(latents: Latents, wrong_words: float, numbers: Floats) -> tuple[Ints, Ints, Ints]:
    wrong = numbers[:, :3] < wrong_words
    other_style = (numbers[:, 3] * SIZES["style"]).astype(np.int64)
    other_theme = (numbers[:, 4] * SIZES["theme"]).astype(np.int64)
    other_year = latents.year.min(initial=1800) + (numbers[:, 5] * 200).astype(np.int64)
    return (
        np.where(wrong[:, 0], other_style, latents.style),
        np.where(wrong[:, 1], other_theme, latents.theme),
        np.where(wrong[:, 2], other_year, latents.year),
    )


def _say_era(year: int, number: float) -> str:
    if number < 0.3:
        return f"the {year // 10 * 10}s"
    half = "early" if year % 100 < 50 else "late"
    return f"the {half} {'nineteenth' if year < 1900 else 'twentieth'} century"


def _say_work(style: int, theme: int, numbers: Floats) -> str:
    if style < 0 and theme < 0:
        return ""
    words = [_pick(_STYLE_WORDS[style], numbers[0])] if style >= 0 else []
    words.append(_pick(_WORKS, numbers[1]))
    if theme >= 0:
        words.append(f"of {_pick(_THEME_WORDS[theme], numbers[2])}")
    return " ".join(words)


def _pick(choices: Sequence[str], number: float) -> str:
    return choices[int(number * len(choices))]
