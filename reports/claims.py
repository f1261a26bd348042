"""What people say about virtualization, and what a run says to it. One claim of data/products.json is one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from markupsafe import Markup

from vprobe.model import Comparison, Verdict, VirtClass

from . import findings, quantities
from .texts import Texts
from .view import View

FULL = (VirtClass.FULL_HARDWARE, VirtClass.FULL_SOFTWARE)
SECOND_NS = 1e9


class Finding(StrEnum):
    """What a run says to a claim."""

    HOLDS = "holds"
    PARTLY = "partly"
    CONTRADICTED = "contradicted"
    UNTESTED = "untested"


@dataclass(frozen=True)
class Claim:
    """A claim and what the run says to it."""

    text: Markup
    finding: Finding
    word: Markup
    why: Markup


def claims(view: View, texts: Texts) -> tuple[Claim, ...]:
    """Every claim, judged by one run."""
    found = []
    for number, judge in enumerate(_JUDGES):
        finding, why = judge(view, texts)
        found.append(Claim(texts(f"claim.text{number + 1}"), finding, texts(f"claim.{finding}"), why))
    return tuple(found)


def _rows(view: View, *classes: VirtClass) -> list[Comparison]:
    return [row for arm in findings.arms_of(view, *classes) for row in findings.against_bare(view, arm)]


def _share(rows: Sequence[Comparison], count: int) -> Finding:
    if not rows:
        return Finding.UNTESTED
    share = count / len(rows)
    return Finding.HOLDS if share >= 0.9 else Finding.CONTRADICTED if share <= 0.1 else Finding.PARTLY


def _worst(rows: Sequence[Comparison], texts: Texts) -> Markup:
    worst = max(rows, key=lambda row: row.ratio or 0.0)
    return texts("claim.worst", ratio=quantities.ratio(worst.ratio), workload=worst.workload, arm=worst.arm)


def _full_is_slower(view: View, texts: Texts) -> tuple[Finding, Markup]:
    rows = _rows(view, *FULL)
    slower = sum(row.verdict is Verdict.SLOWER for row in rows)
    if not rows:
        return Finding.UNTESTED, texts("claim.no_arm", kind=texts("class.full-hardware.name"))
    words = texts("claim.slower", count=slower, total=len(rows))
    return _share(rows, slower), texts("list.sentence").join([words, _worst(rows, texts)])


def _paravirtual_is_close(view: View, texts: Texts) -> tuple[Finding, Markup]:
    rows = _rows(view, VirtClass.PARAVIRTUAL)
    return _native(rows, VirtClass.PARAVIRTUAL, texts)


def _os_level_is_native(view: View, texts: Texts) -> tuple[Finding, Markup]:
    rows = [row for row in _rows(view, VirtClass.OS_LEVEL) if findings.suite_of(row.workload) != "lifecycle"]
    return _native(rows, VirtClass.OS_LEVEL, texts)


def _native(rows: Sequence[Comparison], kind: VirtClass, texts: Texts) -> tuple[Finding, Markup]:
    if not rows:
        return Finding.UNTESTED, texts("claim.no_arm", kind=texts(f"class.{kind}.name"))
    quiet = sum(findings.is_quiet(row) for row in rows)
    words = texts("claim.quiet", count=quiet, total=len(rows))
    return _share(rows, quiet), texts("list.sentence").join([words, _worst(rows, texts)])


def _starts(view: View, *classes: VirtClass) -> list[tuple[str, float]]:
    found = []
    for arm in findings.arms_of(view, *classes):
        series = view.series.get(("lifecycle.start", arm.key))
        if series is not None and series.center is not None:
            found.append((arm.name, series.center))
    return found


def _containers_start_faster(view: View, texts: Texts) -> tuple[Finding, Markup]:
    containers = _starts(view, VirtClass.OS_LEVEL, VirtClass.USER_SPACE_KERNEL)
    machines = _starts(view, *FULL, VirtClass.PARAVIRTUAL)
    if not containers or not machines:
        return Finding.UNTESTED, texts("claim.no_start")
    items = [
        texts("claim.start", arm=name, value=quantities.quantity(value, "ns")) for name, value in containers + machines
    ]
    quick = all(value < 5 * SECOND_NS for _, value in containers)
    slow = any(value >= 60 * SECOND_NS for _, value in machines)
    finding = Finding.HOLDS if quick and slow else Finding.PARTLY if quick else Finding.CONTRADICTED
    return finding, texts("claim.starts", items=texts("list.comma").join(items))


def _hardware_beats_software(view: View, texts: Texts) -> tuple[Finding, Markup]:
    hardware = findings.geometric_mean(_rows(view, VirtClass.FULL_HARDWARE))
    software = findings.geometric_mean(_rows(view, VirtClass.FULL_SOFTWARE))
    if hardware is None or software is None:
        return Finding.UNTESTED, texts("claim.not_both")
    words = texts("claim.means", hardware=quantities.ratio(hardware), software=quantities.ratio(software))
    return Finding.HOLDS if software > hardware * 1.05 else Finding.CONTRADICTED, words


_JUDGES: tuple[Callable[[View, Texts], tuple[Finding, Markup]], ...] = (
    _full_is_slower,
    _paravirtual_is_close,
    _os_level_is_native,
    _containers_start_faster,
    _hardware_beats_software,
)
