"""Names and reasons come from files, commands and machines: here they become harmless in each kind of text.

A workload, a variant or a container may be called anything. Nothing here may be left out because a name "cannot" hold a
character: the run file may have been made by somebody else.
"""

from __future__ import annotations

SHOWN_CHARACTERS = 300
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = "\\`*_{}[]<>#|~!"


def printable(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """One line without control, bidirectional or line-separating characters, at most `limit` characters long."""
    shown = "".join(_visible(character) for character in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()


def markdown(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Literal text in a Markdown table: no markup, no new cell, no HTML, no link, no mention of a person."""
    escaped = "".join(f"\\{character}" if character in _MARKDOWN else character for character in printable(text, limit))
    # A zero-width space keeps GitHub from turning @name, #1 and URLs of machine text into notifications and links.
    return escaped.replace("@", "@\u200b").replace("://", ":\u200b//").replace("www.", "www\u200b.")


def csv(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """A cell that no spreadsheet takes for a formula (OWASP, "CSV Injection"); quoting is the csv module's job."""
    shown = printable(text, limit)
    return f"'{shown}" if shown.startswith(_FORMULA_STARTS) else shown


def github_data(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Message of a workflow command (actions/toolkit, packages/core/src/command.ts: escapeData)."""
    return printable(text, limit).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def github_property(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Property of a workflow command (the same file: escapeProperty)."""
    return github_data(text, limit).replace(":", "%3A").replace(",", "%2C")


def openmetrics_label(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Value of a label, within its quotes (OpenMetrics 1.0, "Escaping")."""
    return printable(text, limit).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
