"""The page as a whole: pure, closed, complete, small and quick to make."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from synthetic import synthetic_run
from vprobe.reports.page import SECTIONS, asset, content_security_policy, integrity
from vprobe.reports.page import style as page_style

from vprobe import reports
from vprobe.model import GateReport, GateVerdict, RuleResult

from .examples import HOSTILE, hostile_run, replace, report_of, rich_run

VOID = {"meta", "br", "input", "wbr", "link", "img", "hr"}


class Outline(HTMLParser):
    """Elements, ids and links of a page; unclosed or crossed elements are an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag in {"a", "use"} and str(values.get("href", "")).startswith("#"):
            self.links.append(str(values["href"])[1:])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag


def outline(page: str) -> Outline:
    """The parsed page, closed properly."""
    found = Outline()
    found.feed(page)
    assert found.open == []
    return found


@pytest.fixture(scope="module")
def page() -> str:
    """The report of the rich run."""
    return reports.html(report_of(rich_run()))


def test_the_same_run_gives_the_same_bytes(page: str) -> None:
    """No clock, no chance: made twice, the page is the same."""
    assert reports.html(report_of(rich_run())) == page


@pytest.mark.parametrize("language", reports.LANGUAGES)
def test_elements_nest_and_ids_are_unique_and_links_lead_somewhere(language: str) -> None:
    """The page is well-formed, in every language and with two runs in it."""
    one = rich_run(1, rounds=4, boots=6)
    two = replace(rich_run(2, rounds=4, boots=6, arms=("bare", "bare-aa", "kvm")), created="2026-01-01T00:00:00Z")
    found = outline(reports.html(report_of(one, two, language=language)))
    assert len(found.ids) == len(set(found.ids))
    assert set(found.links) - set(found.ids) == set()


def test_every_section_is_there_and_named(page: str) -> None:
    """Each section has its anchor and its heading, but for those of several runs, a gate, oracles and the study."""
    found = outline(page)
    for section in SECTIONS:
        if section.key not in {"runs", "gate", "oracles", "study"}:
            assert {section.key, f"{section.key}-h"} <= set(found.ids)
    assert {"data", "data-h"} <= set(found.ids)


def test_the_policy_allows_our_style_and_script_and_nothing_else(page: str) -> None:
    """The policy names the hashes of exactly the inline style and script that stand in the page; no attribute needs more."""
    policy = content_security_policy()
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert [integrity(style), integrity(scripts[0])] == [integrity(page_style()), integrity(asset("report.js"))]
    assert len(scripts) == 1
    assert integrity(style) in policy
    assert integrity(scripts[0]) in policy
    found = outline(page)
    attributes = [(tag, name) for tag, values in found.elements for name in values]
    assert [one for one in attributes if one[1] == "style" or one[1].startswith("on")] == []


def test_nothing_is_fetched(page: str) -> None:
    """No element that loads, and no address outside the page."""
    found = outline(page)
    assert {tag for tag, _ in found.elements} & {"img", "link", "iframe", "object", "embed", "audio", "video"} == set()
    assert [values["href"] for _, values in found.elements if not str(values.get("href", "#")).startswith("#")] == []
    assert [tag for tag, values in found.elements if "src" in values] == []
    assert "url(" not in asset("report.css")


def test_charts_have_words_and_tables(page: str) -> None:
    """Each drawing is named, or hidden from readers because the text beside it says the same."""
    found = outline(page)
    drawings = [values for tag, values in found.elements if tag == "svg"]
    assert len(drawings) > 100
    assert all(values.get("aria-label") or values.get("aria-hidden") == "true" for values in drawings)
    assert all(values.get("role") == "img" for values in drawings if values.get("aria-label"))


def test_hostile_texts_stay_text() -> None:
    """Scripts, quotes, NUL, direction marks and a megabyte in every name: the page has no more elements than ours."""
    page = reports.html(report_of(hostile_run()))
    found = outline(page)
    assert {"heatmap", "forest", "lifecycle", "exits"} <= set(found.ids)
    assert sum(tag == "td" and "data-v" in values for tag, values in found.elements) > 8
    assert {tag for tag, _ in found.elements} & {"img", "iframe", "object", "embed", "base"} == set()
    assert sum(tag == "script" for tag, _ in found.elements) == 2
    assert [values for _, values in found.elements for name in values if name.startswith("on")] == []
    assert not set(page) & {"\0", "\x1b", "\x07", "\u202e", "\u2066"}
    body = re.sub(r'<script type="application/gzip".*?</script>', "", page, flags=re.DOTALL)
    assert "window.broken=1&gt;" in body or "window.broken=1&lt;" in body
    assert "x" * 1000 not in body
    assert len(body) < 3_000_000


def test_hostile_texts_stay_text_elsewhere() -> None:
    """The same in Markdown, in the chart and in the label of a file whose name is not text."""
    run = hostile_run()
    report = report_of(run)
    markdown = reports.markdown(report)
    assert "<script>" not in markdown.replace("\\<script\\>", "")
    assert "\0" not in markdown
    for draw in reports.CHARTS.values():
        chart = draw(report)
        assert "<script" not in chart
        assert "<img" not in chart
        assert not set(chart) & {"\0", "\u202e", "\u2066", "\x1b"}
        ElementTree.fromstring(chart)
    measured = replace_label(report, "\udcff\x00<script>.json")
    reports.html(measured).encode("utf-8")


def replace_label(report: reports.Report, label: str) -> reports.Report:
    """The same report of a file with another name."""
    one = report.measured[0]
    return reports.Report((reports.Measured(label, one.run, one.comparisons),), report.texts)


def test_hostile_texts_are_all_in_the_example() -> None:
    """The hostile run holds every kind of hostile text, or the tests above would prove nothing."""
    text = repr(hostile_run())
    assert all(repr(one)[1:-1][:40] in text or one[:20] in text for one in HOSTILE)


@pytest.mark.parametrize(
    "change",
    [
        {"visits": ()},
        {"visits": (), "workloads": (), "arms": (), "environments": (), "square": (), "skipped": ()},
        {"probe": {}},
        {"environments": ()},
    ],
)
def test_a_run_that_lacks_parts_is_reported(change: dict[str, object]) -> None:
    """Nothing measured, nothing known, nothing at all: still a page."""
    outline(reports.html(report_of(replace(rich_run(rounds=4, boots=6), **change))))


def test_values_that_no_machine_gives_are_reported() -> None:
    """Zeros, infinities and single samples break nothing."""
    run = synthetic_run(1, boots=6, rounds=3, workloads=("cpu.zlib", "memory.triad"))
    odd = [(0.0, 0.0, 0.0), (1e308, 1e-308, 1.0), (5.0, 5.0, 5.0)]
    visits = [
        replace(
            visit,
            samples={
                arm: replace(one, values=odd[(index + place) % 3])
                for place, (arm, one) in enumerate(visit.samples.items())
            },
        )
        for index, visit in enumerate(run.visits)
    ]
    outline(reports.html(report_of(replace(run, visits=tuple(visits)))))


def test_every_visit_excluded_is_reported_with_the_reasons() -> None:
    """Where all was thrown away, the page says why."""
    run = rich_run(rounds=4, boots=6)
    gone = replace(run, visits=tuple(replace(visit, excluded="the CPU was taken away") for visit in run.visits))
    page = reports.html(report_of(gone))
    assert "the CPU was taken away" in page


def test_markdown_leads_with_the_verdict() -> None:
    """A pull request shows gate and headline first, and the table of the analysis."""
    row = RuleResult(
        "*@*<=3%", "cpu.zlib", "kvm", "kvm", 1.2, 1.1, 1.3, 0.001, GateVerdict.FAIL, reason="beyond the limit"
    )
    text = reports.markdown(report_of(rich_run(), gate=GateReport(GateVerdict.FAIL, (row,))))
    assert text.startswith("### ✕ Fail: 1 failed")
    assert "| workload |" in text
    assert "\u202f" not in text
    assert "\\u202f" not in text


def test_fifteen_arms_by_sixty_workloads_by_thirty_boots() -> None:
    """The largest page is made in under 3 s of processor time and is under 3 MB with its data."""
    arms = ("bare", "bare-aa", *(f"env{number:02}" for number in range(13)))
    workloads = tuple(f"suite{number // 12}.work_{number:02}" for number in range(60))
    report = report_of(synthetic_run(1, boots=30, rounds=20, arms=arms, workloads=workloads))
    begin = time.process_time()
    page = reports.html(report)
    spent = time.process_time() - begin
    assert len(page.encode()) < 3_000_000
    assert spent < 3
