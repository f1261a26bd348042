"""Text from the machine, made safe to look at: bounded, and with every character that is not plain text spelt out.

Escaping for HTML is the templates' business (autoescape). What that leaves open is dealt with here: NUL and other control
characters, marks that turn the direction of writing (Unicode TR36, section 2.3), lone surrogates, and sheer length.
"""

from __future__ import annotations

from markupsafe import Markup, escape

from vprobe.analysis.exporters.escape import printable as spelt_out

MAX_CHARACTERS = 600
NARROW_SPACE = "\u202f"  # no-break; stands between our numbers and their units


def printable(text: str, limit: int = MAX_CHARACTERS) -> str:
    """`text` as one line of at most `limit` characters."""
    if len(text) <= limit and text.replace(NARROW_SPACE, "").isprintable():
        return text
    return spelt_out(text, limit).replace("\\u202f", NARROW_SPACE)


def cut(text: str, limit: int) -> str:
    """printable() for where there is no room for markup: of a text of ours only the words are left."""
    return printable(text.striptags() if isinstance(text, Markup) else text, limit)


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
