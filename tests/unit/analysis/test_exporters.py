"""Every format says the same, stays within its bounds, and is harmless whatever things are called."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from synthetic import synthetic_run

from vprobe.analysis import compare, numbers
from vprobe.analysis.exporters import escape, layout
from vprobe.analysis.exporters.csv import csv_text
from vprobe.analysis.exporters.gate_text import print_gate, worst_first
from vprobe.analysis.exporters.github import annotation_lines, step_summary
from vprobe.analysis.exporters.junit import junit_xml
from vprobe.analysis.exporters.markdown import markdown_text
from vprobe.analysis.exporters.openmetrics import openmetrics_text
from vprobe.analysis.exporters.table import print_table
from vprobe.analysis.gate import gate
from vprobe.analysis.rules import parse_rule
from vprobe.model import GateReport, GateVerdict, RuleResult, Run, Skipped, Verdict

replace = msgspec.structs.replace
HOSTILE = '=cmd|"x"!A1\x1b[31m\n::error::x | </testcase> <img src=x> `a` @octocat \u202e"\\ #1 https://evil.example'


def hostile_run() -> Run:
    """A run in which everything that has a name has a bad one."""
    run = synthetic_run(boots=6, rounds=3, arms=["bare", "bare-aa", "kvm"], workloads=["cpu.zlib", "exits.out"])
    names = {"cpu.zlib": HOSTILE, "exits.out": f"exits.{HOSTILE}", "kvm": HOSTILE}
    data = msgspec.json.encode(run).decode()
    for name, bad in names.items():
        data = data.replace(f'"{name}"', msgspec.json.encode(bad).decode())
    run = msgspec.json.decode(data, type=Run)
    skipped = (Skipped("bare", HOSTILE, HOSTILE),)
    return replace(run, skipped=skipped, visits=(replace(run.visits[0], excluded=HOSTILE), *run.visits[1:]))


def rendered(run: Run, width: int = 100) -> str:
    """The table of a run's comparison."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_table(compare(run), run, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def report(rows: int = 3, verdict: GateVerdict = GateVerdict.FAIL, name: str = "cpu.zlib") -> GateReport:
    """A gate report of so many equal rows."""
    one = RuleResult(
        "*@*<=2%", name, "kvm", "kvm", 1.1, 1.05, 1.15, 0.001, verdict, reason=name, base="bare", limit=1.02
    )
    results = tuple(replace(one, workload=f"{name}{n}", ratio=1.1 + n / 1000) for n in range(rows))
    return GateReport(verdict=verdict, rules=results, reason=name, warnings=(name,))


# --- escaping ----------------------------------------------------------------------------------------------------------


@given(text=st.text())
def test_printable_is_one_harmless_line(text: str) -> None:
    """No control, bidirectional, separating or surrogate character survives, and the length is bounded."""
    shown = escape.printable(text, 50)
    assert len(shown) <= 50
    assert shown.isprintable()
    shown.encode()


@given(text=st.text(max_size=80))
def test_markdown_makes_no_new_cell_or_line(text: str) -> None:
    """Each pipe is escaped and no line ends."""
    shown = escape.markdown(text)
    assert "\n" not in shown and "\r" not in shown
    assert not re.search(r"(?<!\\)(\\\\)*[|<`*]", shown)


@given(text=st.text(max_size=80))
def test_csv_cells_are_no_formulas(text: str) -> None:
    """No cell begins like a formula, also not after a stripped control character."""
    assert not escape.csv(text).startswith(("=", "+", "-", "@"))


@given(text=st.text(max_size=80))
def test_workflow_commands_are_not_broken_out_of(text: str) -> None:
    """Data stay on one line; properties hold neither colon nor comma."""
    assert "\n" not in escape.github_data(text) and "\r" not in escape.github_data(text)
    assert not set(":,\n\r") & set(escape.github_property(text))


@given(text=st.text(max_size=80))
def test_openmetrics_labels_are_closed(text: str) -> None:
    """No quote ends the label early."""
    assert re.fullmatch(r'([^"\\\n]|\\["\\n])*', escape.openmetrics_label(text))


# --- comparisons -------------------------------------------------------------------------------------------------------


def test_table_fits_and_says_what_it_shows() -> None:
    """At 100 columns no line is wider; base, direction, floor, estimates and skips are there."""
    text = rendered(synthetic_run(boots=9, effects={"runc": 1.05}))
    assert max(len(line) for line in text.splitlines()) <= 100
    for words in (
        "Ratio to bare; above 1 is slower",
        "9 boots",
        "Noise floor",
        "exits.out",
        "43",
        "µs",
        "geometric mean",
    ):
        assert words in text
    assert "not measured: exits.out @ bare" in text


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_table_of_many_arms_keeps_its_numbers(width: int) -> None:
    """Eight environments on a narrow terminal: the table is split, no ratio is cut."""
    arms = ["bare", "bare-aa", *(f"environment-{n}" for n in range(8))]
    text = rendered(synthetic_run(boots=6, rounds=4, arms=arms, workloads=["cpu.zlib"]), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert len(re.findall(r"\d\.\d{3} (±\d+\.\d %|\[\d\.\d{3}, \d\.\d{3}\]) [▲▼=?≠]", text)) == 8


def test_reasons_that_many_rows_share_are_told_once() -> None:
    """One line for all rows too noisy to tell, with the span of what they can show; one for all that no arm could measure."""
    compared = compare(synthetic_run(boots=6, rounds=4))
    rows = tuple(
        replace(compared.comparisons[0], workload=workload, arm=arm, verdict=Verdict.INCONCLUSIVE, reason=reason)
        for workload, arm, reason in (
            ("cpu.zlib", "runc", "9 boots show 10 % up; at 95 %"),
            ("cpu.zlib", "crun", "9 boots show 2.5 % up; at 95 %"),
            ("cpu.xz", "runc", "9 boots show 3.0 % up; at 95 %"),
            ("cpu.xz", "crun", "9 boots drift"),
        )
    )
    assert layout.reasons(replace(compared, comparisons=rows)) == [
        "cpu.zlib @ runc, cpu.zlib @ crun, cpu.xz @ runc: 9 boots show 2.5 to 10 % up; at 95 %",
        "cpu.xz @ crun: 9 boots drift",
    ]
    skipped = tuple(
        Skipped(arm, f"exits.{what}", "is no micro-VM")
        for arm in ("bare", "runc")
        for what in ("out", "in", "mmio", "halt")
    )
    run = replace(synthetic_run(boots=6, rounds=4), skipped=skipped)
    assert layout.skips(run) == ["exits.out, exits.in, exits.mmio and 1 more @ bare, runc: is no micro-VM"]


def test_brackets_of_workloads_are_not_markup() -> None:
    """memory.chase[l1] keeps its parameter."""
    assert "chase[l1]" in rendered(synthetic_run(boots=6, rounds=4, workloads=["memory.chase[l1]"]))


def test_what_bare_is_is_said() -> None:
    """On a host that is itself a guest, the table says so beside the base."""
    run = synthetic_run(boots=6, rounds=4, workloads=["cpu.zlib"])
    probe = {"hypervisor": {"state": "present", "kind": "kvm", "monitor": "firecracker"}}
    assert "here a kvm guest under firecracker" in " ".join(rendered(replace(run, probe=probe)).split())
    inside = {"hypervisor": {"state": "absent"}, "container": {"state": "present", "kind": "docker"}}
    assert "here a docker container" in " ".join(rendered(replace(run, probe=inside)).split())
    assert "here a" not in rendered(replace(run, probe={"hypervisor": "nonsense"}))


def test_two_sessions_are_announced() -> None:
    """The banner names what differs before any figure."""
    new, old = synthetic_run(1, boots=6, rounds=4), synthetic_run(2, boots=6, rounds=4)
    old = replace(old, fingerprint=replace(old.fingerprint, kernel="5.10"))
    console = Console(width=100, file=io.StringIO(), color_system=None)
    print_table(compare(new, old), new, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith("the runs differ: kernel: 6.1.0-18-amd64 here, 5.10 there")
    assert "the same arm in the other run" in text


def test_csv_has_every_field_and_row() -> None:
    """A reader of CSV gets what a reader of JSON gets."""
    found = compare(synthetic_run(boots=6, rounds=4))
    rows = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert len(rows) == len(found.comparisons)
    for cells, one in zip(rows, found.comparisons, strict=True):
        assert list(cells) == list(one.__struct_fields__)
        assert (cells["workload"], cells["arm"]) == (one.workload, one.arm)
        assert cells["ratio"] == ("" if one.ratio is None else repr(one.ratio))


def test_hostile_names_in_every_format_of_a_comparison() -> None:
    """No escape sequence, no foreign line, no cell, no formula, no HTML."""
    run = hostile_run()
    found = compare(run)
    table = rendered(run, 100)
    assert "\x1b" not in table and "\u202e" not in table
    text = markdown_text(found, run)
    assert "<img" not in text.replace("\\<img", "") and "@octocat" not in text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert widths <= {3, 6}  # the table of ratios to one arm, and that of estimates
    rows = list(csv.reader(io.StringIO(csv_text(found))))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not any(cell.startswith("=") for row in rows for cell in row)


# --- gates -------------------------------------------------------------------------------------------------------------


def test_gate_text_fits_one_screen_worst_first() -> None:
    """Of 200 rows the worst are shown and the others counted; the last line is the verdict."""
    console = Console(width=100, file=io.StringIO(), color_system=None)
    print_gate(report(200), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 40
    assert lines[0].startswith("warning: ")
    assert "cpu.zlib199 @ kvm" in lines[2]
    assert any("and 176 more rows: 176 fail" in line for line in lines)
    assert lines[-1].startswith("FAIL")


def test_worst_first() -> None:
    """By verdict, then by how far beyond the limit."""
    mixed = [
        *report(2, GateVerdict.PASS).rules, *report(1, GateVerdict.INCONCLUSIVE).rules,
        *report(2, GateVerdict.FAIL).rules, *report(1, GateVerdict.INCOMPARABLE).rules,
    ]  # fmt: skip
    found = [(one.verdict.value, one.workload) for one in worst_first(mixed)]
    assert found == [
        ("fail", "cpu.zlib1"), ("fail", "cpu.zlib0"), ("incomparable", "cpu.zlib0"), ("inconclusive", "cpu.zlib0"),
        ("pass", "cpu.zlib1"), ("pass", "cpu.zlib0"),
    ]  # fmt: skip


def test_junit_counts_and_elements() -> None:
    """A failure, an error or a skip for each row that does not pass, with figures in the message."""
    rows = tuple(one for verdict in GateVerdict for one in report(1, verdict).rules)
    tree = ElementTree.fromstring(junit_xml(GateReport(GateVerdict.FAIL, rows)))
    (suite,) = tree
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["skipped"], ["error"]]
    failure = suite[1][0]
    assert failure.get("message") == "1.100 [1.050, 1.150] ≤ 1.020 (p 0.001): cpu.zlib"


def test_github_annotations_are_worst_first_and_bounded() -> None:
    """Ten of a level at most, the tenth saying how many more there are."""
    lines = annotation_lines(report(30))
    assert len(lines) == 10
    assert lines[0].startswith("::error title=cpu.zlib29 @ kvm%3A fail::")
    assert "21 more rows" in lines[-1]
    assert len(annotation_lines(report(10))) == 10
    assert annotation_lines(report(5, GateVerdict.PASS)) == []


@pytest.mark.parametrize("rows", [3, 500, 20_000])
def test_step_summary_stays_within_githubs_limit(rows: int) -> None:
    """Never more than 1 MiB; what is left out is the best, and is counted."""
    text = step_summary(report(rows, name="cpu.zlib-with-a-name-that-is-rather-long"))
    assert len(text.encode()) <= 1 << 20
    shown = text.count("❌ fail |")
    assert shown == rows or f"{rows - shown} more rows are left out" in text
    assert f"long{rows - 1} |" in text


def test_openmetrics_is_well_formed() -> None:
    """Each line is a comment or a sample of a declared gauge, and the end is marked."""
    text = openmetrics_text(report(3), "2025-01-02T03:04:05Z")
    lines = text.splitlines()
    assert lines[-1] == "# EOF"
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    samples = [line for line in lines if not line.startswith("#")]
    for line in samples:
        found = re.fullmatch(r'([a-z_]+)(\{([a-z]+="([^"\\]|\\.)*",?)+\})? (-?[0-9.e+-]+)', line)
        assert found and found[1] in families
    assert 'vprobe_gate_verdict{verdict="fail"} 1' in samples
    assert "vprobe_run_created_timestamp_seconds 1735787045.0" in samples
    assert "timestamp" not in openmetrics_text(report(1), "yesterday")


def test_hostile_names_in_every_format_of_a_gate() -> None:
    """Text, JUnit, GitHub and OpenMetrics stay what they are."""
    run = hostile_run()
    bad = gate(run, [parse_rule("*@*<=1%")])
    console = Console(width=100, file=io.StringIO(), color_system=None)
    print_gate(bad, console)
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]
    (suite,) = ElementTree.fromstring(junit_xml(bad))
    assert len([case for case in suite if case.tag == "testcase"]) == len(bad.rules)
    for line in annotation_lines(bad):
        assert line.startswith(("::error title=", "::warning title="))
        assert "\n" not in line
    summary = step_summary(bad)
    assert "<img" not in summary.replace("\\<img", "") and "@octocat" not in summary
    for line in openmetrics_text(bad, run.created).splitlines():
        assert line.startswith(("# ", "vprobe_"))


# --- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (43_560, "ns", "43.6 µs"), (0.312, "ns", "0.312 ns"), (1.5e9, "ns", "1.50 s"), (0, "ns", "0 ns"),
        (999.7, "ns", "1000 ns"), (1.1e10, "B/s", "11.0 GB/s"), (10 * 2**20, "bytes", "10.0 MiB"), (7, "apples", "7.00 apples"),
    ],
)  # fmt: skip
def test_quantities(value: float, unit: str, expected: str) -> None:
    """Three significant digits in a unit that fits."""
    assert numbers.quantity(value, unit) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.05213, "1.052"), (9.99951, "10.0"), (37.24, "37.2"), (99.96, "100"), (12345, "12345"), (4.12e7, "4.12e+07")],
)
def test_ratios(value: float, expected: str) -> None:
    """Three decimals around 1, fewer further out."""
    assert numbers.ratio(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.003, "+0.3 %"), (-0.12, "−12 %"), (2.4, "+240 %"), (0.0996, "+10 %")]
)
def test_signed_shares(value: float, expected: str) -> None:
    """One decimal below ten per cent."""
    assert numbers.signed_share(value) == expected
