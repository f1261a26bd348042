"""`vprobe report` as a user runs it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from unit.reports.examples import rich_run

from vprobe import runfile
from vprobe.cli import run as vprobe
from vprobe.model import Run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two run files."""
    monkeypatch.chdir(tmp_path)
    runfile.save(rich_run(1, rounds=5), tmp_path / "a.json")
    runfile.save(rich_run(2, rounds=5), tmp_path / "b.json.gz")
    return tmp_path


def test_a_report_is_written_where_it_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default to report.html, else to -o, and the command says where."""
    assert vprobe(["report", "a.json"]) == 0
    assert vprobe(["report", "a.json", "-o", "other.html"]) == 0
    assert capsys.readouterr().out.splitlines() == ["wrote report.html", "wrote other.html"]
    assert (place / "report.html").read_bytes() == (place / "other.html").read_bytes()
    assert (place / "report.html").read_text().startswith("<!doctype html>")


def test_what_is_extracted_makes_the_same_report(place: Path) -> None:
    """Report, extract, report: the figures are the same, and so is the run."""
    assert vprobe(["report", "a.json", "b.json.gz"]) == 0
    assert vprobe(["report", "--extract", "report.html", "-o", "out.json"]) == 0
    for made, original in (("out.json", "a.json"), ("out-2.json", "b.json.gz")):
        assert runfile.load(place / made) == runfile.load(place / original)


def test_several_runs_are_compared_with_the_first(place: Path) -> None:
    """The page has the comparison, with what differs."""
    run = runfile.load(place / "a.json")
    other: Run = msgspec.structs.replace(run, fingerprint=msgspec.structs.replace(run.fingerprint, kernel="6.12.9"))
    runfile.save(other, place / "c.json")
    assert vprobe(["report", "a.json", "c.json"]) == 0
    page = (place / "report.html").read_text()
    assert 'id="runs"' in page
    assert "1 fact differs" in page
    assert "6.12.9" in page


def test_markdown_goes_to_standard_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a pipe into a pull request; with -o into a file."""
    assert vprobe(["report", "a.json", "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("**qemu-tcg costs") or text.startswith("**kvm costs")
    assert vprobe(["report", "a.json", "--format", "markdown", "-o", "pr.md"]) == 0
    assert (place / "pr.md").read_text() == text


def test_a_chart_is_a_file_of_its_own(place: Path) -> None:
    """Well-formed SVG without script or reference to anything outside."""
    assert vprobe(["report", "a.json", "--chart", "forest", "-o", "forest.svg"]) == 0
    root = ElementTree.fromstring((place / "forest.svg").read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "style", "rect", "text", "path"}


def test_a_gate_leads_the_report(place: Path) -> None:
    """With --rule, or rules from a file, the verdict comes first; the exit code stays that of a report."""
    assert vprobe(["report", "a.json", "--rule", "*@qemu-tcg<=5%"]) == 0
    assert "badge-fail" in (place / "report.html").read_text().partition("</h1>")[0]
    (place / "vprobe.toml").write_text('[tool.vprobe.gate]\nrules = ["cpu.zlib@runc<=50%"]\n')
    assert vprobe(["report", "a.json", "--config", "vprobe.toml"]) == 0
    assert "badge-pass" in (place / "report.html").read_text().partition("</h1>")[0]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "no run file is given"),
        (["missing.json"], 2, "missing.json cannot be read"),
        (["a.json", "--lang", "tlh"], 2, "use one of: en, zh-CN"),
        (["a.json", "--format", "pdf"], 2, "--format"),
        (["a.json", "--rule", "nonsense"], 2, "nonsense"),
        (["a.json", "-o", "no/such/place.html"], 6, "cannot be written"),
        (["--extract", "a.json"], 2, "no run is embedded"),
        (["--extract", "missing.html"], 2, "missing.html cannot be read"),
        (["--extract", "a.json", "a.json"], 2, "takes no RUN"),
    ],
)
def test_mistakes_are_one_line_with_the_next_step(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    """Each says what is wrong and what to do, with the right exit code, and leaves no file behind."""
    before = sorted(path.name for path in place.iterdir())
    assert vprobe(["report", *arguments]) == code
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_report_that_cannot_be_written_leaves_the_old_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle of writing: the file of yesterday is still whole."""
    assert vprobe(["report", "a.json"]) == 0
    before = (place / "report.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert vprobe(["report", "b.json.gz"]) == 6
    assert (place / "report.html").read_bytes() == before
    assert sorted(path.name for path in place.iterdir()) == ["a.json", "b.json.gz", "report.html"]
