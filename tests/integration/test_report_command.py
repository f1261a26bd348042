"""`vprobe report` as a user runs it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from unit.reports.examples import oracle_report, rich_run

from vprobe import oracles, reports, runfile
from vprobe.cli import run as vprobe
from vprobe.model import Run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two run files."""
    monkeypatch.chdir(tmp_path)
    runfile.save(rich_run(1, rounds=5), tmp_path / "a.json")
    runfile.save(rich_run(2, rounds=5), tmp_path / "b.json.gz")
    (tmp_path / "page.html").write_text("<!doctype html>\n<html></html>")
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


def test_oracles_go_into_the_page_and_come_out_again(place: Path) -> None:
    """The page shows the agreements, and --extract gives back the file beside the run."""
    oracles.save(oracle_report(), place / "oracles.json")
    assert vprobe(["report", "a.json", "--oracles", "oracles.json"]) == 0
    assert "2 of 3 measured rows agree" in (place / "report.html").read_text()
    assert vprobe(["report", "--extract", "report.html", "-o", "out.json"]) == 0
    assert oracles.load(place / "out-oracles.json") == oracle_report()
    assert vprobe(["report", "out.json", "--oracles", "out-oracles.json", "-o", "again.html"]) == 0
    same = (place / "again.html").read_text().replace("out.json", "a.json")
    assert same == (place / "report.html").read_text()


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


@pytest.mark.parametrize("chart", reports.CHARTS)
def test_a_chart_is_a_file_of_its_own(place: Path, chart: str) -> None:
    """Well-formed SVG without script or reference to anything outside; every text lies inside, and twice made it is the same."""
    assert vprobe(["report", "a.json", "--chart", chart]) == 0
    assert vprobe(["report", "a.json", "--chart", chart, "-o", "again.svg"]) == 0
    data = (place / f"{chart}.svg").read_bytes()
    assert data == (place / "again.svg").read_bytes()
    root = ElementTree.fromstring(data)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    allowed = {"svg", "g", "title", "style", "rect", "text", "path", "defs", "pattern", "use"}
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= allowed
    references = [value for element in root.iter() for key, value in element.attrib.items() if key.endswith("href")]
    assert all(value.startswith("#boots-") for value in references)
    ends = [float(element.attrib["y"]) for element in root.findall("{*}text")]
    assert max(ends) < float(root.attrib["height"])


def test_a_chart_of_chosen_workloads(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--select picks as bench does; a name that matches nothing, and a chart with nothing to show, say so."""
    assert vprobe(["report", "a.json", "--chart", "strips", "--select", "memory.chase[l*", "--select", "cpu.zlib"]) == 0
    drawn = (place / "strips.svg").read_text()
    assert "memory.chase[l1]" in drawn
    assert "cpu.zlib" in drawn
    assert "cpu.sha256" not in drawn
    capsys.readouterr()
    for arguments, says in (
        (["--chart", "exits", "--select", "cpu.*"], "exits were not measured"),
        (["--chart", "forest", "--select", "nope"], "'nope' matches no workload"),
        (["--select", "cpu.*"], "--select goes with --chart"),
    ):
        assert vprobe(["report", "a.json", *arguments]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1


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
        (["a.json", "--chart", "forest", "--format", "markdown"], 2, "do not go together"),
        (["page.html"], 2, "page.html is a page, not a run"),
        (["a.json", "--oracles", "missing.json"], 2, "missing.json cannot be read"),
        (["a.json", "--oracles", "a.json"], 2, "not a table of oracles"),
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
    assert sorted(path.name for path in place.iterdir()) == ["a.json", "b.json.gz", "page.html", "report.html"]
