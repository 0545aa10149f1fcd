"""The files the graphs are made from: drawings, Unicode's list, CLDR names and keywords, gemoji's catalogue."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoji_graph.code_points import Emoji, of_text, parse_code
from snag_dist.errors import ConfigError, DataError
from snag_dist.kg.lines import numbered_lines, read_bytes, shorten

BLOB_FOLDER = "noto_blob_2017_png128"
NOTO_FOLDER = "noto_2025_png72"
UNICODE_FILE = "unicode-emoji-test.txt"
GEMOJI_FILE = "gemoji_emoji.json"


@dataclass(frozen=True)
class Drawings:
    """The pictures of one folder.

    Attributes:
        files: emoji to its picture.
        others: file names that name no emoji, sorted; they are left out.
    """

    files: dict[Emoji, Path]
    others: tuple[str, ...]


@dataclass
class UnicodeList:
    """Unicode's list of emoji.

    Attributes:
        subgroups: emoji to its subgroup.
        groups: subgroup to its group.
        versions: emoji to the version of the list that brought it, e.g. "13.0".
    """

    subgroups: dict[Emoji, str] = field(default_factory=dict[Emoji, str])
    groups: dict[str, str] = field(default_factory=dict[str, str])
    versions: dict[Emoji, str] = field(default_factory=dict[Emoji, str])


@dataclass(frozen=True)
class Annotation:
    """What a language calls an emoji, and the words it is found by, in the order of the file."""

    name: str
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class GemojiEntry:
    """A line of gemoji's catalogue: the category and the tags."""

    category: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Sources:
    """Everything that was read.

    Attributes:
        blob, noto: the drawings of 2017 and of 2025.
        listed: Unicode's list.
        gemoji: gemoji's catalogue.
        annotations: language to what it calls the emoji.
        files: the text files that were read, sorted.
    """

    blob: Drawings
    noto: Drawings
    listed: UnicodeList
    gemoji: dict[Emoji, GemojiEntry]
    annotations: dict[str, dict[Emoji, Annotation]]
    files: tuple[Path, ...]

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every text file, and for each folder of drawings one over all its pictures."""
        texts = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files}
        drawings = {BLOB_FOLDER: self.blob, NOTO_FOLDER: self.noto}
        return texts | {name: _hash_files(drawn.files.values()) for name, drawn in drawings.items()}


def read_sources(data: Path, languages: Mapping[str, str]) -> Sources:
    """Read the folder of the sources.

    Args:
        data: with both folders of drawings, `cldr/`, Unicode's list and gemoji's catalogue.
        languages: option to the language chosen by it.

    Raises:
        ConfigError: there are no annotations in a language.
        DataError: a folder or file is missing, or has another layout.
    """
    if not data.is_dir():
        raise DataError(f"{data}: expected the folder of the emoji sources, found none; check --data")
    blob, noto = read_drawings(data / BLOB_FOLDER), read_drawings(data / NOTO_FOLDER)
    listed, gemoji = read_unicode_list(data / UNICODE_FILE), read_gemoji(data / GEMOJI_FILE)
    files = {data / UNICODE_FILE, data / GEMOJI_FILE}
    annotations: dict[str, dict[Emoji, Annotation]] = {}
    for option, language in languages.items():
        annotations[language], paths = read_annotations(data / "cldr", language, option)
        files |= set(paths)
    return Sources(blob, noto, listed, gemoji, annotations, tuple(sorted(files)))


def read_drawings(folder: Path) -> Drawings:
    """List the pictures of a folder of drawings, `emoji_u<code points>.png`.

    Raises:
        DataError: the folder is missing or holds no such file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of PNG files, found none; check --data")
    files: dict[Emoji, Path] = {}
    others: list[str] = []
    for path in sorted(folder.iterdir()):
        code = path.stem.removeprefix("emoji_u")
        emoji = parse_code(code) if path.suffix == ".png" and code != path.stem else None
        if emoji is None:
            others.append(path.name)
        elif emoji in files:
            raise DataError(f"{path}: the same emoji as {files[emoji].name}; expected one file an emoji, remove one")
        else:
            files[emoji] = path
    if not files:
        raise DataError(f"{folder}: expected files emoji_u<code points>.png, found none; check the folder")
    return Drawings(files, tuple(others))


def read_unicode_list(path: Path) -> UnicodeList:
    """Read `emoji-test.txt`; the forms of an emoji that differ by selectors only are one.

    Raises:
        DataError: the file is missing, a line is malformed, or none names an emoji.
    """
    found = UnicodeList()
    group = subgroup = ""
    for number, line in numbered_lines(path):
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").strip()
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ").strip()
            found.groups[subgroup] = group
        elif not line.startswith("#"):
            codes, _, rest = line.partition(";")
            # After the comment sign: the emoji, "E" and the version, the name.
            words = rest.partition("#")[2].split()
            emoji = parse_code(codes.strip(), " ")
            if emoji is None or not subgroup or len(words) < 2 or not words[1].startswith("E"):
                raise DataError(
                    f"{path} line {number}: expected 'code points ; status # emoji Eversion name' below a subgroup, "
                    f"got {shorten(line)}; restore the file"
                )
            found.subgroups.setdefault(emoji, subgroup)
            found.versions.setdefault(emoji, words[1].removeprefix("E"))
    if not found.subgroups:
        raise DataError(f"{path}: expected lines of emoji, found none; restore the file")
    return found


def list_languages(folder: Path) -> list[str]:
    """List the languages that CLDR's annotations are there for.

    Raises:
        DataError: there are none.
    """
    names = sorted(path.stem.removeprefix("annotations-") for path in folder.glob("annotations-*.json"))
    languages = [name for name in names if not name.startswith("derived-")]
    if not languages:
        raise DataError(f"{folder}: expected annotations-<language>.json, found none; check --data")
    return languages


def read_annotations(folder: Path, language: str, option: str) -> tuple[dict[Emoji, Annotation], list[Path]]:
    """Read a language's names and keywords: those of characters, and those derived for sequences.

    Args:
        folder: with `annotations-<language>.json` and `annotations-derived-<language>.json`.
        language: a code such as "de".
        option: where the language was chosen, for messages.

    Returns:
        The annotations, and the files they came from.

    Raises:
        ConfigError: there are no annotations in this language.
        DataError: a file is missing or is not what CLDR publishes.
    """
    languages = list_languages(folder)
    if language not in languages:
        raise ConfigError(f"{option}: expected one of {', '.join(languages)}, got {language!r}; see {folder}")
    annotations: dict[Emoji, Annotation] = {}
    paths = [folder / f"annotations-derived-{language}.json", folder / f"annotations-{language}.json"]
    for path, top in zip(paths, ("annotationsDerived", "annotations"), strict=True):
        tree = _read_json(path)
        try:
            entries = [
                (of_text(text), Annotation(_one_line(value["tts"][0]), tuple(map(_one_line, value.get("default", ())))))
                for text, value in tree[top]["annotations"].items()
            ]
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: expected {top}.annotations with 'tts' and 'default' for each emoji, found another layout "
                f"({error!r}); restore the file"
            ) from error
        annotations.update(entries)
    return annotations, paths


def read_gemoji(path: Path) -> dict[Emoji, GemojiEntry]:
    """Read gemoji's catalogue.

    Raises:
        DataError: the file is missing or has another layout.
    """
    tree = _read_json(path)
    try:
        return {
            of_text(entry["emoji"]): GemojiEntry(entry["category"], tuple(map(_one_line, entry["tags"])))
            for entry in tree
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected a list of entries with 'emoji', 'category' and 'tags', found another layout "
            f"({error!r}); restore the file"
        ) from error


def _hash_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 over names and contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\x00".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _one_line(text: str) -> str:
    """Return a text with single plain blanks: French has narrow ones, and a tab would end a field."""
    return " ".join(text.split())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected JSON, got {error}; restore the file") from error
