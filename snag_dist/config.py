"""Reading what a person chose: recipes in TOML, overrides on the command line, frozen pydantic models.

A config class lives beside the class it builds and derives from `Config`; this module knows how to read a recipe into
one and how to say, in one line, what is wrong with it.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from snag_dist.errors import ConfigError
from snag_dist.redaction import HIDDEN, hide_secrets, is_secret_name

_ROOT = "(root)"


class Config(BaseModel):
    """Base of every config: frozen, and a field it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


ConfigT = TypeVar("ConfigT", bound=Config)


def default_kind(kind: str) -> BeforeValidator:
    """Let a section of a closed union leave its `kind` out: it then means the default one."""

    def fill_in(section: Any) -> Any:
        if isinstance(section, dict) and "kind" not in section:
            return {"kind": kind, **cast("dict[str, Any]", section)}
        return cast(Any, section)

    return BeforeValidator(fill_in)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML recipe, lay it over the one it names as its `base`, and the overrides over both.

    Args:
        path: the recipe; `base = "other.toml"` in it is a path beside it. Variants are not taken over.
        overrides: `a.b.c=value` each; the value is TOML, or a bare string where it is not valid TOML.

    Raises:
        ConfigError: a file is missing or not TOML, a recipe is its own base, or an override has no `=`.
    """
    tree = _read_over_base(path, ())
    for override in overrides:
        apply_override(tree, override)
    return tree


def _read_over_base(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: expected a recipe file, found none; recipes that come along are in jobs/recipes")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, got: {error}; mend the recipe") from error
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: expected the path of a recipe, got {base!r}; write it in quotes")
    above = (*above, path.resolve())
    below = path.parent / base
    if below.resolve() in above:
        raise ConfigError(f"{path}: base: {base!r} leads back to itself; let one of the recipes stand alone")
    under = _read_over_base(below, above)
    under.pop("variants", None)
    return lay_over(under, tree)


def lay_over(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a section over another one, so that a field given does not reset the others.

    A section of another `kind` than the one below is taken as it is.
    """
    if given.get("kind", defaults.get("kind")) != defaults.get("kind"):
        return dict(given)
    merged = {**defaults, **given}
    for name in defaults.keys() & given.keys():
        if isinstance(defaults[name], dict) and isinstance(given[name], dict):
            merged[name] = lay_over(defaults[name], given[name])
    return merged


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Lay one override `a.b.c=value` over a plain tree.

    Raises:
        ConfigError: it has no `=`, a list or section in it is not TOML, or its path leads through a value.
    """
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise ConfigError(f"--set {override!r}: expected a.b.c=value; name the field and its value")
    value = _parse_value(text.strip())
    if isinstance(value, str) and _is_broken(value, text):
        raise ConfigError(
            f"--set {path.strip()}: expected a list or a section in TOML, got {_shorten(value)}; write strings in it "
            f"in quotes, and the whole in quotes of the shell: --set '{path.strip()}=...'"
        )
    set_path(tree, path.strip(), value, "--set")


def set_path(tree: dict[str, Any], path: str, value: Any, place: str) -> None:
    """Set the field at a dotted path of a plain tree, making sections on the way.

    A section whose `kind` changes is begun anew: the fields of another kind do not belong to it.

    Raises:
        ConfigError: the path leads through a value that is no section; `place` opens the message.
    """
    *parents, leaf = path.split(".")
    node = tree
    for parent in parents:
        child: Any = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{place} {path}: {parent!r} is a value ({child!r}), not a section; set it as a whole")
        node = cast("dict[str, Any]", child)
    if leaf == "kind" and node.get("kind") != value:
        node.clear()
    node[leaf] = value


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_broken(value: str, text: str) -> bool:
    """Whether a value that was taken for a bare string was meant to be a list or a section; `{data}` is a string."""
    return text.strip() == value and (value.startswith("[") or (value.startswith("{") and "=" in value))


def validate(config_class: type[ConfigT], tree: dict[str, Any], place: str, *, remedy: str | None = None) -> ConfigT:
    """Build a config from a plain tree.

    Args:
        place: where the tree comes from; it opens the message.
        remedy: ends the message, where the tree is no recipe that a person could mend.

    Raises:
        ConfigError: the first thing that is wrong, with its dotted path, the value and what was expected.
    """
    try:
        return config_class.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, config_class, tree, place, remedy)) from error


def _explain(
    error: ValidationError, config_class: type[Config], tree: dict[str, Any], place: str, remedy: str | None
) -> str:
    problems = error.errors()
    first = problems[0]
    kind, context = first["type"], first.get("ctx", {})
    path = _dotted_path(first["loc"], tree, is_missing=kind == "missing")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    value = f", got {_show(first['input'], path)}"
    if kind == "value_error":
        # A sentence of ours, with value and remedy where it ends in one.
        told = f"{place}: {path}: {context['error']}" if first["loc"] else f"{place}: {context['error']}"
        value = "" if ", got" in told or isinstance(first["input"], dict) else value
        return f"{told}{more}" if ";" in told else f"{told}{value}; {remedy or _mend(path)}{more}"
    if kind.startswith("union_tag"):
        path = f"{path}.{context['discriminator'].strip(chr(39))}"
        if kind == "union_tag_invalid":
            told = f"expected one of {context['expected_tags']}, got {context['tag']!r}"
            return f"{place}: {path}: {told}; {remedy or _mend(path)}{more}"
        kind = "missing"
    if kind == "extra_forbidden":
        meant = difflib.get_close_matches(str(first["loc"][-1]), _fields_beside(config_class, first["loc"]), n=1)
        hint = f": did you mean {meant[0]!r}?" if meant else ""
        return f"{place}: {path}: no such field{value}; {remedy or 'remove it or mend its name'}{hint}{more}"
    if kind == "missing":
        return f"{place}: {path}: required, but not given; {remedy or _add(path)}{more}"
    return f"{place}: {path}: {first['msg']}{value}; {remedy or _mend(path)}{more}"


def _mend(path: str) -> str:
    return "mend the recipe" if path == _ROOT else f"mend it in the recipe or with --set {path}=..."


def _add(path: str) -> str:
    return f"add it to the recipe or pass --set {path}=..."


def _fields_beside(config_class: type[Config], location: tuple[int | str, ...]) -> list[str]:
    """Name the fields that a section has which holds one it does not know.

    Args:
        config_class: of the whole tree.
        location: of the unknown field, as pydantic gives it: with the kinds of sections between their fields.
    """
    sections: list[Any] = [config_class]
    for part in location[:-1]:
        inner = [_inside(section, part) for section in sections]
        sections = [choice for found in inner if found is not None for choice in _choices(found)]
    return [name for section in sections if _is_config(section) for name in section.model_fields]


def _inside(section: Any, part: int | str) -> Any:
    """Return the type of a part of a section, the section itself where the part names its kind; None if it has none."""
    if not _is_config(section):
        # Of a mapping or a list: what it holds.
        return next(iter(get_args(section)[-1:]), None)
    fields = section.model_fields
    if part in fields:
        return fields[part].annotation
    return section if "kind" in fields and fields["kind"].default == part else None


def _choices(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without what surrounds them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _choices(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [choice for member in get_args(annotation) for choice in _choices(member)]
    return [annotation]


def _is_config(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)


def _dotted_path(location: tuple[int | str, ...], tree: Any, *, is_missing: bool) -> str:
    """Name a field as a recipe does: without the kinds of sections, which pydantic puts between their fields."""
    parts: list[str] = []
    node = tree
    for place, part in enumerate(location):
        if isinstance(node, dict) and part not in node and not (is_missing and place + 1 == len(location)):
            continue
        parts.append(str(part))
        if isinstance(node, dict):
            node = cast("dict[Any, Any]", node).get(part)
        elif isinstance(node, list) and isinstance(part, int):
            node = cast("list[Any]", node)[part]
    return ".".join(parts) or _ROOT


def _show(value: object, path: str) -> str:
    is_number = isinstance(value, bool | int | float)
    return HIDDEN if is_secret_name(path.rpartition(".")[2]) and not is_number else _shorten(value)


def _shorten(value: object) -> str:
    # Before it is cut: half of a URL is not known for one.
    text = hide_secrets(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."
