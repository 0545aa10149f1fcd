"""A plain tree as TOML, so that what a program found is a recipe file that a person can read and change."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(tree: Mapping[str, Any]) -> str:
    """Write a tree of strings, numbers, truth values, lists and mappings as TOML.

    Args:
        tree: as `tomllib` reads it. A mapping inside a list becomes an inline table; a value of None is left out, since
            TOML has none and an absent field has its default.

    Returns:
        Text that `tomllib` reads to an equal tree.
    """
    return "\n".join(_lines(tree, ())).strip() + "\n"


def _lines(tree: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    present = {key: value for key, value in tree.items() if value is not None}
    values = {key: value for key, value in present.items() if not isinstance(value, Mapping)}
    sections = {key: value for key, value in present.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_inline(value)}" for key, value in values.items()]
    if path and (lines or not sections):
        lines = ["", f"[{'.'.join(_key(part) for part in path)}]", *lines]
    for key, section in sections.items():
        lines += _lines(section, (*path, key))
    return lines


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    # A JSON string is a TOML string, but for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        fields = ", ".join(f"{_key(key)} = {_inline(inner)}" for key, inner in value.items() if inner is not None)
        return f"{{ {fields} }}" if fields else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(inner) for inner in value)}]"
    return repr(value)
