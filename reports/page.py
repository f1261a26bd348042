"""The page: its sections, one style sheet and one small script in a single file that fetches nothing.

Pure: the same runs and comparisons give the same bytes. No clock, no chance, no network.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from .printable import cut, finalize, soft
from .report import Report, Section
from .sections import (
    data,
    detail,
    evidence,
    exits,
    forest,
    gate,
    glossary,
    heatmap,
    lifecycle,
    method,
    oracles,
    probe,
    runs,
    study,
    verdict,
)

PAGE_BYTES = 2_850_000
"""What a page may weigh. The data takes what the sections leave, within limits; base64 makes four bytes of three."""
LEAST_DATA_BYTES, MOST_DATA_BYTES = 250_000, 1_700_000

SECTIONS: tuple[Section, ...] = (
    verdict.SECTION,
    gate.SECTION,
    runs.SECTION,
    heatmap.SECTION,
    forest.SECTION,
    detail.SECTION,
    lifecycle.SECTION,
    exits.SECTION,
    study.SECTION,
    probe.SECTION,
    evidence.SECTION,
    oracles.SECTION,
    method.SECTION,
    glossary.SECTION,
)


@cache
def environment() -> jinja2.Environment:
    """The templates: every expression is made printable, then escaped; an undefined name is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["soft"] = soft
    made.filters["cut"] = cut
    return made


@cache
def asset(name: str) -> Markup:
    """A style sheet or script of ours, as it stands in the page."""
    return Markup(files(__package__).joinpath("assets", name).read_text("utf-8").strip())


@cache
def style() -> Markup:
    """The style sheet of the page: colours and type faces, which the charts share, then the rest."""
    return asset("tokens.css") + Markup("\n") + asset("report.css")


def integrity(text: str) -> str:
    """The CSP source that allows exactly this inline style or script (CSP level 3, section 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def content_security_policy() -> str:
    """Nothing is fetched and nothing runs but our own style sheet and script."""
    styles, script = integrity(style()), integrity(asset("report.js"))
    return (
        f"default-src 'none'; style-src '{styles}'; script-src '{script}'; "
        "base-uri 'none'; form-action 'none'; img-src data:"
    )


def html(report: Report) -> str:
    """The report as one HTML document."""
    parts = [(section.key, part) for section in SECTIONS if (part := section_html(section, report))]
    left = PAGE_BYTES - sum(len(part.encode()) for _, part in parts)
    room = replace(report, data_bytes=min(max(left * 3 // 4, LEAST_DATA_BYTES), MOST_DATA_BYTES))
    parts.append((data.SECTION.key, section_html(data.SECTION, room) or Markup("")))
    return (
        environment()
        .get_template("page.html")
        .render(
            t=report.texts,
            report=report,
            parts=parts,
            policy=content_security_policy(),
            css=style(),
            js=asset("report.js"),
        )
    )


def section_html(section: Section, report: Report) -> Markup | None:
    """One section as HTML; None where it has nothing to show."""
    found = section.context(report)
    if not found:
        return None
    return Markup(environment().get_template(section.template).render(t=report.texts, report=report, s=found))
