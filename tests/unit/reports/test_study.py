"""The table of the study: its ratios beside ours, and a reason for every cell that is empty."""

from __future__ import annotations

import msgspec
import pytest
from synthetic import synthetic_run
from vprobe.reports.study import ROWS, study, study_text
from vprobe.suites import catalog

from vprobe import reports
from vprobe.analysis import compare
from vprobe.model import Run, Skipped

from .examples import report_of


def run_of_the_study() -> Run:
    run = synthetic_run(arms=("bare", "bare-aa", "runc", "kvm"), workloads=("memory.triad",), effects={"kvm": 1.5})
    skips = (Skipped("kvm", "applications.redis[get]", "kvm has no system"), Skipped("bare", "cpu.xz", "no lzma here"))
    return msgspec.structs.replace(run, skipped=skips)


def test_ratios_stand_beside_the_studys() -> None:
    """Triad: 45.6 to 45.0 GB/s is 1.013 in the study's KVM, and what was measured stands in our columns, bare left out."""
    run = run_of_the_study()
    table = study(run, compare(run))
    assert table.arms == ("runc", "kvm")
    (triad,) = (row for row in table.rows if row.workload == "memory.triad")
    assert triad.published == (pytest.approx(1.0), pytest.approx(45.6 / 45.0))
    found = triad.ours[1].found
    assert found is not None and found.ratio == pytest.approx(1.5, abs=0.02)
    assert "1.000 | 1.013" in study_text(run, compare(run)) and "▲" in study_text(run, compare(run))
    assert [row.study for row in table.rows] == [row[0] for row in ROWS]


def test_empty_cells_say_why() -> None:
    """The arm's own reason, or bare's, or that it was not measured; each once, with its workloads."""
    run = run_of_the_study()
    gaps = {(arm, reason): workloads for arm, reason, workloads in study(run, compare(run)).gaps}
    assert gaps["kvm", "kvm has no system"] == ("applications.redis[get]",)
    assert "cpu.xz" in gaps["runc", "no lzma here"] and "cpu.xz" in gaps["kvm", "no lzma here"]
    assert "memory.copy" in gaps["kvm", "was not measured in this run"]


def test_the_text_is_one_table() -> None:
    """As many bars in every row, all workloads by names that exist."""
    run = run_of_the_study()
    rows = [line for line in study_text(run, compare(run)).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(ROWS) and len({row.count("|") for row in rows}) == 1
    assert {workload for _, _, workload in ROWS} <= set(catalog())


@pytest.mark.parametrize(("language", "words"), [("en", "9.3 Gb/s for all"), ("zh-CN", "三者都是 9.3 Gb/s")])
def test_the_page_shows_the_table(language: str, words: str) -> None:
    """A run with the study's workloads has a section: its ratios, its words, ours, and numbered reasons for what is empty."""
    workloads = tuple(row[2] for row in ROWS if row[2].startswith(("memory.", "cpu.")))
    run = synthetic_run(arms=("bare", "bare-aa", "kvm"), workloads=workloads, rounds=4)
    run = msgspec.structs.replace(
        run, skipped=(Skipped("kvm", "applications.sqlite", "needs Python; kvm runs native kernels only"),)
    )
    page = reports.html(report_of(run, language=language))
    section = page[page.index('<section id="study"') : page.index('<section id="probe"')]
    assert words in section and "1.205×" in section and "[2]" in section
    assert section.count('id="study-0-') == 2
    assert 'lang="en"' not in section


def test_a_run_of_other_things_has_no_table() -> None:
    """One workload of the study is not the study."""
    assert '<section id="study"' not in reports.html(report_of(run_of_the_study()))
