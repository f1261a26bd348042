"""Reasons in other languages. They are written by the code that measures and judges, in English, into files that last: what is
translated here is the finished sentence, by patterns, so that old files speak every language that is added later.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from .printable import printable

SEPARATOR = "; "
DEPTH = 3
"""Sentences within sentences that are translated."""


@dataclass(frozen=True)
class Pattern:
    """A sentence with open places. `words`: what stands before, between and after them; `names`: theirs."""

    words: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, said: str) -> Pattern:
        """Of a sentence with names in braces."""
        parts = re.split(r"\{(\w+)\}", said)
        return cls(tuple(parts[::2]), tuple(parts[1::2]))

    def match(self, text: str) -> dict[str, str] | None:
        """What stands in the places, each as short as can be; None where the text is not that sentence.

        Not a regular expression: a text from a file could make one with several places try for hours.
        """
        first, *between, last = self.words
        if not text.startswith(first) or not text.endswith(last):
            return None
        at, end, found = len(first), len(text) - len(last), []
        for word in between:
            place = text.find(word, at + 1, end)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(word)
        if at >= end:
            return None
        return dict(zip(self.names, (*found, text[at:end]), strict=True))


class Patterns:
    """Sentences with open places, and what they mean in one language."""

    def __init__(self, table: Mapping[str, str], separator: str = SEPARATOR) -> None:
        self._separator = separator
        self._plain = {said: meant for said, meant in table.items() if "{" not in said}
        # The longer the words of a pattern, the more it knows of the sentence: it goes first.
        self._open = [
            (Pattern.of(said), meant)
            for said, meant in sorted(table.items(), key=lambda pair: -len(re.sub(r"\{\w+\}", "", pair[0])))
            if "{" in said
        ]

    def translated(self, text: str, depth: int = DEPTH) -> str | None:
        """The sentence, or every part of it that "; " sets apart; None where any of that is not known."""
        parts = text.split(SEPARATOR)
        for count in range(
            len(parts), 0, -1
        ):  # a sentence may have a "; " of its own: the longest known one goes first
            head = self._sentence(SEPARATOR.join(parts[:count]), depth)
            if head is not None and count == len(parts):
                return head
            tail = self.translated(SEPARATOR.join(parts[count:]), depth) if head is not None else None
            if tail is not None:
                return f"{head}{self._separator}{tail}"
        return self._sentence(text, depth, whole=False)

    def _sentence(self, text: str, depth: int, *, whole: bool = True) -> str | None:
        """One sentence. `whole`: what stands in an open place has no "; ", which would rather set two sentences apart."""
        if text in self._plain:
            return self._plain[text]
        for pattern, meant in self._open if depth else ():
            found = pattern.match(text)
            if found is not None and not (whole and any(SEPARATOR in part for part in found.values())):
                return meant.format(**{name: self._within(part, depth) for name, part in found.items()})
        return None

    def _within(self, text: str, depth: int) -> str:
        """What stands in an open place: a name, or a sentence of its own."""
        return self.translated(text, depth - 1) or text


@cache
def patterns(language: str) -> Patterns | None:
    """The patterns of a language; None for English, in which the reasons are."""
    if language == "en":
        return None
    text = files(__package__).joinpath("texts", f"reasons.{language}.toml").read_text("utf-8")
    return Patterns(tomllib.loads(text), "；")


def translated(text: str, language: str) -> str | None:
    """A reason in a language; None where it has to stay in English."""
    known = patterns(language)
    return text if known is None else known.translated(printable(text))
