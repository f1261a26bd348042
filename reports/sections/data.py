"""The run file inside the page, and how to get it out."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from .. import quantities
from ..embedded import Embedded, embed
from ..report import Report, Section
from ..texts import Texts


@dataclass(frozen=True)
class Item:
    """A run in the page: its name, what is in it, and its data."""

    label: str
    size: str
    words: Markup
    data: Markup


@dataclass(frozen=True)
class Context:
    """What data.html shows."""

    items: tuple[Item, ...]


def context(report: Report) -> Context:
    """Every run of the report, in an equal share of the page's budget."""
    share = report.data_bytes // len(report.measured)
    return Context(tuple(_item(one.label, embed(one.run, share), report.texts) for one in report.measured))


def _item(label: str, found: Embedded, texts: Texts) -> Item:
    size = quantities.quantity(float(found.compressed_bytes), "bytes")
    if found.whole:
        words = texts("data.whole")
    elif found.rounds_kept == 1:
        words = texts("data.without_timings")
    else:
        words = texts("data.thinned", step=found.rounds_kept)
    return Item(label, size, words, Markup(found.base64))


SECTION = Section("data", "data.html", context)
