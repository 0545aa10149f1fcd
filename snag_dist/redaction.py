"""What must not be shown: passwords and tokens that a person wrote into a URL or a field all the same."""

import re

_SECRET = r"(?:token|secret|passw|pwd|key|signature|sig\b|auth|credential)"
# Keys of entities and tokens of an encoder are no secrets: fields are called keys, key_column, tokens, tokenizer.
_NAME = re.compile(
    r"(?:token(?!s|iz)|secret|passw|pwd|(?:^|_)key$|api_?key|(?:access|private)_?key|signature|(?:^|_)sig$|auth(?!or)|credential)",
    re.IGNORECASE,
)
# One slash where a URL was taken for a path.
_USER = re.compile(r"(:/{1,2})(?!/)[^\s'\"]*@")
_QUERY = re.compile(rf"([?&;#][\w.%-]*{_SECRET}[\w.%-]*=)[^&;#\s'\"]+", re.IGNORECASE)

HIDDEN = "..."
"""Stands for what is not shown."""


def hide_secrets(text: str) -> str:
    """Hide user and password of every URL in a text, and the values of keys in its query that look secret."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def is_secret_name(name: str) -> bool:
    """Whether what goes by this name is likely to be a secret: a password, a token, a key, a signature."""
    return _NAME.search(name) is not None
