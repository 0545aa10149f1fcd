"""One line of N-Triples: `<subject> <predicate> <object> .`

Source: W3C, RDF 1.1 N-Triples. More lenient in one point: an IRI may hold any character but space and
angle brackets, as published dumps do.
"""

import re

from snag_dist.errors import DataError
from snag_dist.kg.lines import shorten

_IRI = r"<([^<>\s]*)>"
_BLANK = r"(_:[^\s<>\"]+)"
_LITERAL = r"(\"(?:[^\"\\]|\\.)*\"(?:\^\^<[^<>\"\s]*>|@[A-Za-z0-9-]+)?)"
_LINE = re.compile(rf"\s*(?:{_IRI}|{_BLANK})\s*{_IRI}\s*(?:{_IRI}|{_LITERAL}|{_BLANK})\s*\.\s*(?:#.*)?")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.?))")


def parse_statement(line: str, place: str) -> tuple[str, str, str] | None:
    """Read one statement.

    Args:
        line: not blank, not a comment.
        place: file and line, for messages.

    Returns:
        (head, relation, tail) keys: IRIs without their brackets and escapes, blank nodes as `_:label`; None
        if the object is a literal.

    Raises:
        DataError: the line is not a statement, or an escape is not a Unicode character.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise DataError(
            f"{place}: expected '<subject> <predicate> <object> .', got {shorten(line.strip())}; "
            "mend or remove the line"
        )
    subject, blank_subject, predicate, object_, literal, blank_object = match.groups()
    if literal is not None:
        return None
    # An IRI may be empty, a blank node cannot be: so it is the IRI that is asked.
    head = blank_subject if subject is None else _unescape(subject, place)
    tail = blank_object if object_ is None else _unescape(object_, place)
    return head, _unescape(predicate, place), tail


def _unescape(text: str, place: str) -> str:
    if "\\" not in text:
        return text

    def decode(match: re.Match[str]) -> str:
        digits = match[1] or match[2]
        code = int(digits, 16) if digits else -1
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise DataError(
                f"{place}: expected \\uXXXX or \\UXXXXXXXX of a Unicode character, got {match[0]!r} in "
                f"{shorten(text)}; mend the IRI"
            )
        return chr(code)

    return _ESCAPE.sub(decode, text)
