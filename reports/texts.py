"""Every sentence of the report, in each language: one catalog a language, same keys, same placeholders.

Entries are trusted HTML text; what is put into their placeholders is escaped.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from markupsafe import Markup, escape

from vprobe.errors import UsageError

from . import reasons
from .printable import finalize, printable

LANGUAGES = ("en", "zh-CN")


class Texts:
    """The catalog of one language: texts("heatmap.title"), texts("detail.caption", workload=name)."""

    def __init__(self, language: str, entries: Mapping[str, str]) -> None:
        self.language = language
        self._entries = {key: Markup(text) for key, text in entries.items()}

    def __call__(self, key: str, /, **values: object) -> Markup:
        """The text of that key; KeyError names a key that no catalog has."""
        entry = self._entries[key]
        return entry.format(**{name: finalize(value) for name, value in values.items()}) if values else entry

    def get(self, key: str) -> Markup | None:
        """The text of a key that need not exist, such as the description of a user's own workload."""
        return self._entries.get(key)

    def said(self, text: object) -> Markup:
        """A reason that the code or the machine gave, in this language; else as it stands, marked as the English that it is.

        WCAG 2.2, criterion 3.1.2: a passage in another language says so, or a screen reader mispronounces it.
        """
        shown = text.striptags() if isinstance(text, Markup) else printable(str(text))
        found = reasons.translated(shown, self.language)
        if found is not None:
            return escape(printable(found))
        return Markup('<span lang="en">{}</span>').format(shown) if _has_words(shown) else escape(shown)

    def count(self, key: str, count: int, /, **values: object) -> Markup:
        """The singular (key.one) or plural (key.other) text for a number, which it may name as {count}."""
        form = f"{key}.one" if count == 1 and f"{key}.one" in self._entries else f"{key}.other"
        return self(form, count=f"{count:,}", **values)

    def joined(self, parts: list[Markup]) -> Markup:
        """A list in words: a, b and c."""
        if len(parts) < 2:
            return Markup("").join(parts)
        head = self("list.comma").join(parts[:-1])
        return Markup("").join([head, self("list.last"), parts[-1]])


def _has_words(text: str) -> bool:
    """Whether a text is more than a name or a number, and so has a language."""
    return len(re.findall(r"[A-Za-z]{2,}", text)) > 1


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def entries(language: str) -> dict[str, str]:
    """The raw entries of a catalog, keys joined by dots."""
    if language not in LANGUAGES:
        raise UsageError(f"no report texts in language '{language}'", f"use one of: {', '.join(LANGUAGES)}")
    text = files(__package__).joinpath("texts", f"{language}.toml").read_text("utf-8")
    return dict(_flat(tomllib.loads(text)))


@cache
def texts(language: str) -> Texts:
    """The catalog of a language. UsageError where there is none."""
    return Texts(language, entries(language))
