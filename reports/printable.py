"""Text from the machine, made safe to look at: bounded, and with every character that is not plain text spelt out.

Escaping for HTML is the templates' business (autoescape). What that leaves open is dealt with here: NUL and other control
characters, marks that turn the direction of writing (Unicode TR36, section 2.3), lone surrogates, and sheer length.
"""

from __future__ import annotations

import unicodedata

from markupsafe import Markup, escape

MAX_CHARACTERS = 600
_SPELT_OUT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, limit: int = MAX_CHARACTERS) -> str:
    """`text` as one line of at most `limit` characters (plus a note of how many more there were)."""
    if len(text) <= limit and text.isprintable():
        return text
    kept = "".join(_plain(character) for character in text[:limit])
    return kept if len(text) <= limit else f"{kept}… (+{len(text) - limit:,})"


def _plain(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if unicodedata.category(character) not in _SPELT_OUT:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def soft(text: str) -> Markup:
    """A name with places where a line may break: after dots, slashes, dashes, underscores and before brackets."""
    escaped = str(escape(printable(text)))
    for mark in "._/-":
        escaped = escaped.replace(mark, f"{mark}<wbr>")
    return Markup(escaped.replace("[", "<wbr>["))


def finalize(value: object) -> object:
    """What every expression of a template goes through before it is escaped."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(str(value))
