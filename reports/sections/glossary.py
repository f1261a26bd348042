"""The words: classes of virtualization, the products, and what is claimed about them against what this run says."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from vprobe.model import VirtClass

from .. import products, reasons
from ..claims import Claim, Finding, claims
from ..report import Report, Section
from ..texts import Texts

GLYPHS = {
    Finding.HOLDS: "✓",
    Finding.PARTLY: "◐",
    Finding.CONTRADICTED: "✕",
    Finding.UNTESTED: "–",
}


@dataclass(frozen=True)
class Row:
    """A product in words."""

    name: str
    level: Markup | str
    classes: Markup
    hypervisor: Markup | str
    licence: Markup | str
    since: str


@dataclass(frozen=True)
class Context:
    """What glossary.html shows."""

    claims: tuple[tuple[str, tuple[Claim, ...]], ...]
    glyphs: dict[Finding, str]
    classes: tuple[tuple[Markup, Markup], ...]
    products: tuple[Row, ...]
    source: str


def context(report: Report) -> Context:
    """Claims by run, classes, products."""
    texts = report.texts
    return Context(
        claims=tuple((view.label, claims(view, texts)) for view in report.views),
        glyphs=GLYPHS,
        classes=tuple((texts(f"class.{kind}.name"), texts(f"class.{kind}.words")) for kind in VirtClass),
        products=tuple(_row(product, texts) for product in products.products()),
        source=products.document()["_sources"],
    )


def _row(product: products.Product, texts: Texts) -> Row:
    kinds = [texts(f"class.{kind}.name") for kind in product.classes]
    if product.runs_on:
        names = ", ".join(dict.fromkeys(_name(other) for other in product.runs_on))
        kinds.append(texts("glossary.runs_on", names=names))
    return Row(
        reasons.translated(product.name, texts.language) or product.name,
        texts.get(f"level.{product.level}") or texts.said(product.level),
        texts("list.comma").join(kinds),
        product.hypervisor_type or "–",
        texts.get(f"licence.{product.licence}") or (product.licence if product.licence.strip("-") else "–"),
        str(product.since or "–"),
    )


def _name(identity: str) -> str:
    return next((one.name for one in products.products() if one.id == identity), identity).split(" Workstation")[0]


SECTION = Section("glossary", "glossary.html", context)
