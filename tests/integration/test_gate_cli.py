"""`vprobe compare` and `vprobe gate` as a user or a CI job runs them: files in, exit codes and documents out."""

from __future__ import annotations

import csv
import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from synthetic import FINGERPRINT, synthetic_run

from vprobe import cli
from vprobe.cli import bench
from vprobe.model import Run
from vprobe.runfile import save

replace = msgspec.structs.replace
FEW = ["cpu.zlib", "memory.triad"]


def written(path: Path, seed: int = 1, **settings: Any) -> str:
    """A run file of 20 boots; `settings` go to synthetic_run()."""
    defaults: dict[str, Any] = {"boots": 20, "rounds": 10, "workloads": FEW}
    save(synthetic_run(seed, **{**defaults, **settings}), path)
    return str(path)


@pytest.fixture
def run_file(tmp_path: Path) -> str:
    """A run in which kvm is 10 % slower and nothing else is."""
    return written(tmp_path / "run.json", effects={"kvm": 1.1})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without settings, so that those of the source tree do not matter."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and the one line on standard error of a command that prints nothing else."""
    code = cli.run(list(words))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("vprobe: ")
    return code, err


# --- exit codes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("*@runc<=3%", 0),
        ("*@*<=3%", 1),
        ("*@kvm<=10%", 3),
        ("cpu.none@kvm<=3%", 2),
        ("*@xen<=3%", 2),
        ("*@*<=3% vs base", 2),
        ("*@*<=3% vs baseline", 2),
        ("nonsense", 2),
    ],
)
def test_exit_code_is_the_verdict(run_file: str, rule: str, code: int) -> None:
    """0 pass, 1 fail, 3 inconclusive, 2 for what cannot be judged."""
    assert cli.run(["gate", run_file, "--rule", rule]) == code


def other_cpu(run: Run) -> Run:
    return replace(run, fingerprint=replace(FINGERPRINT, cpu="GenuineIntel family 6 model 85"))


def other_kernel(run: Run) -> Run:
    return replace(run, fingerprint=replace(FINGERPRINT, kernel="5.10.0-1-amd64"))


def other_mitigations(run: Run) -> Run:
    return replace(run, fingerprint=replace(FINGERPRINT, mitigations={"meltdown": "Vulnerable"}))


def other_suites(run: Run) -> Run:
    return replace(run, fingerprint=replace(FINGERPRINT, suite_version="2"))


def other_code(run: Run) -> Run:
    return replace(run, fingerprint=replace(FINGERPRINT, kernel_code_hash="00"))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (other_cpu, "CPU: "),
        (other_kernel, "kernel: "),
        (other_mitigations, "mitigation of meltdown: "),
        (other_suites, "version of the suites: "),
        (other_code, "code of the kernels: "),
    ],
)
def test_unlike_baselines_are_incomparable(
    run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Run], Run], told: str
) -> None:
    """Each fact that differs is exit 4 and one clear sentence."""
    save(spoil(synthetic_run(2, boots=20, rounds=10, workloads=FEW)), tmp_path / "old.json")
    words = ["gate", run_file, "--rule", "*@kvm<=50% vs baseline", "--baseline", str(tmp_path / "old.json"), "--json"]
    assert cli.run(words) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "incomparable"
    assert all(told in row["reason"] for row in document["rules"])


def test_renamed_workload_and_missing_arm(run_file: str, tmp_path: Path) -> None:
    """Against a baseline that lacks them: incomparable. In the run itself: a rule that matches nothing."""
    renamed = written(tmp_path / "renamed.json", 2, workloads=["cpu.old", "memory.triad"])
    fewer = written(tmp_path / "fewer.json", 2, arms=["bare", "bare-aa", "runc"])
    for old in (renamed, fewer):
        assert cli.run(["gate", run_file, "--rule", "*@kvm<=50% vs baseline", "--baseline", old]) == 4
    assert cli.run(["gate", renamed, "--rule", "cpu.zlib@kvm<=3%"]) == 2
    assert cli.run(["gate", fewer, "--rule", "*@kvm<=3%"]) == 2


def test_broken_files(run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Truncated, of a newer schema, missing, not a run: exit 2 and one line that says which."""
    data = Path(run_file).read_bytes()
    for content, told in [
        (data[:1000], "truncated"),
        (data.replace(b"vprobe.run/1", b"vprobe.run/2"), "newer vprobe"),
        (b"not JSON", "not JSON"),
        (b'{"schema": "vprobe.probe/1"}', "not a run"),
    ]:
        (tmp_path / "bad.json").write_bytes(content)
        for words in (
            ["gate", str(tmp_path / "bad.json"), "--rule", "*@*<=3%"],
            ["compare", str(tmp_path / "bad.json")],
        ):
            code, line = refused(capsys, *words)
            assert (code, told in line) == (2, True)
    assert refused(capsys, "compare", str(tmp_path / "none.json"))[0] == 2


def test_usage_errors(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is exit 2 and one line with what to do."""
    for words, told in [
        (["gate", run_file], "there is no rule to judge by"),
        (["gate", run_file, "--rule", "*@*<=3%", "--across", "kernal"], "--across takes cpu"),
        (["gate", run_file, "--rule", "*@*<=3%", "--baseline", run_file], "no rule compares with the baseline"),
        (["gate", run_file, "--rule", "*@*<=3%", "--config", "none.toml"], "No such file"),
        (["compare", run_file, "--base", "xen"], "it has bare, bare-aa"),
        (["compare", run_file, "--margin", "wide"], "for example --margin 2%"),
        (["compare", run_file, "--margin", "200%"], "not between 0 and 100 %"),
        (["compare", run_file, "--format", "xml"], "xml"),
        (["compare", run_file, run_file, "--base", "bare"], "--base has no meaning"),
        (["compare"], "RUN"),
    ]:
        code, line = refused(capsys, *words)
        assert (code, told in line) == (2, True), line


def test_json_is_one_document_also_on_failure(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of --json are documents, too."""
    assert cli.run(["gate", run_file, "--rule", "nonsense", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "vprobe.error/1"
    assert document["code"] == "usage"


def test_a_file_that_cannot_be_written(run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output in a directory that does not exist is exit 6, and no verdict is printed."""
    target = str(tmp_path / "none" / "out.xml")
    code, line = refused(capsys, "gate", run_file, "--rule", "*@*<=3%", "--junit", target)
    assert (code, "cannot be written" in line) == (6, True)


@pytest.mark.parametrize(("policy", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_policies_of_the_command_line(run_file: str, policy: str, code: int) -> None:
    """What an undecided row counts as is for the caller to say; the settings of a file are overruled."""
    assert cli.run(["gate", run_file, "--rule", "*@kvm<=10%", "--inconclusive", policy]) == code


# --- documents ---------------------------------------------------------------------------------------------------------


def test_documents_of_the_contract(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """compare and gate print the schemas, with every field that scripts rely on."""
    assert cli.run(["compare", run_file, "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["schema"] == "vprobe.comparison/1"
    assert set(comparison["noise_floor"]["cpu.zlib"]) == {"ratio", "low", "high"}
    expected = {
        "workload", "environment", "arm", "base", "ratio", "low", "high", "estimate", "unit", "confidence", "p", "boots",
        "rounds", "minimum_detectable", "verdict", "reason",
    }  # fmt: skip
    assert all(expected <= set(row) for row in comparison["comparisons"])
    assert cli.run(["gate", run_file, "--rule", "*@*<=3%", "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["schema"], verdict["verdict"]) == ("vprobe.gate/1", "fail")
    expected = {
        "rule", "workload", "environment", "arm", "ratio", "low", "high", "p_adjusted", "verdict", "confirmed", "reason",
    }  # fmt: skip
    assert all(expected <= set(row) for row in verdict["rules"])


def test_formats_of_compare(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--json is --format json; CSV and Markdown hold the same rows; the table says what the base is."""
    texts = {}
    for words in (["--json"], ["--format", "json"], ["--format", "csv"], ["--format", "markdown"], []):
        assert cli.run(["compare", run_file, *words]) == 0
        texts[" ".join(words)] = capsys.readouterr().out
    assert texts["--json"] == texts["--format json"]
    rows = json.loads(texts["--json"])["comparisons"]
    assert len(list(csv.DictReader(io.StringIO(texts["--format csv"])))) == len(rows)
    assert "| cpu.zlib |" in texts["--format markdown"]
    assert "Ratio to bare" in texts[""]


def test_files_for_ci(run_file: str, tmp_path: Path) -> None:
    """JUnit and OpenMetrics are written whatever the verdict, whole."""
    junit, metrics = tmp_path / "out.xml", tmp_path / "out.prom"
    words = ["gate", run_file, "--rule", "*@*<=3%", "--junit", str(junit), "--openmetrics", str(metrics)]
    table = tmp_path / "out.md"
    assert cli.run([*words, "--markdown", str(table)]) == 1
    assert table.read_text().startswith("### ❌ vprobe gate: fail") and "| cpu.zlib |" in table.read_text()
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("failures"), suite.get("tests")) == ("2", "6")
    assert 'vprobe_gate_verdict{verdict="fail"} 1' in metrics.read_text()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_github(
    run_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed with commands off, annotations after it; the summary is appended to."""
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert cli.run(["gate", run_file, "--rule", "*@*<=3%", "--github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert len(token) == 32
    end = lines.index(f"::{token}::")
    assert not any(line.startswith("::") for line in lines[1:end])
    assert [line.partition(" ")[0] for line in lines[end + 1 :]] == ["::error", "::error"]
    assert summary.read_text().startswith("before\n### ❌ vprobe gate: fail")
    assert cli.run(["gate", run_file, "--rule", "*@*<=3%", "--github", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "fail"
    assert "::error" in err


def test_github_outside_of_actions(
    run_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a summary file the verdict is what it is, and the lack is said."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert cli.run(["gate", run_file, "--rule", "*@runc<=3%", "--github"]) == 0
    assert "GITHUB_STEP_SUMMARY is not set" in capsys.readouterr().err


# --- settings ----------------------------------------------------------------------------------------------------------


def test_settings_of_the_directory(run_file: str, tmp_path: Path) -> None:
    """vprobe.toml gives rules, policies and the baseline; --rule takes the place of its rules."""
    written(tmp_path / "cwd" / "old.json", 2, effects={"kvm": 1.1})
    Path("vprobe.toml").write_text(
        '[tool.vprobe.gate]\nrules = ["*@kvm<=10%", "*@kvm<=20% vs baseline"]\nbaseline = "old.json"\ninconclusive = "pass"\n'
    )
    assert cli.run(["gate", run_file]) == 0
    assert cli.run(["gate", run_file, "--rule", "*@kvm<=3%"]) == 1
    Path("vprobe.toml").write_text('[tool.vprobe.gate]\nrules = ["*@kvm<=10%"]\ninconclusive = "fail"\n')
    assert cli.run(["gate", run_file]) == 1


def test_across(run_file: str, tmp_path: Path) -> None:
    """Named differences are let pass."""
    old = tmp_path / "old.json"
    save(other_kernel(synthetic_run(2, boots=20, rounds=10, workloads=FEW, effects={"kvm": 1.1})), old)
    words = ["gate", run_file, "--rule", "*@kvm<=10% vs baseline", "--baseline", str(old)]
    assert cli.run(words) == 4
    assert cli.run([*words, "--across", "kernel,mitigations"]) == 0


def test_confirm_calls_the_engine(run_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--confirm hands the failed rows to the engine; what does not fail again passes."""
    asked: list[tuple[str, str]] = []

    def confirm(run: Run, rows: Any) -> Run:
        asked.extend((row.workload, row.arm) for row in rows)
        return synthetic_run(3, boots=20, rounds=10, workloads=FEW)

    monkeypatch.setattr(bench, "measure_again", confirm)
    assert cli.run(["gate", run_file, "--rule", "*@*<=3%", "--confirm"]) == 0
    assert asked == [("cpu.zlib", "kvm"), ("memory.triad", "kvm")]


# --- the command itself ------------------------------------------------------------------------------------------------


def test_as_a_process(run_file: str) -> None:
    """The installed command: verdict on standard output, nothing on standard error, a pipe that closes is no error."""
    done = subprocess.run(
        [sys.executable, "-m", "vprobe", "gate", run_file, "--rule", "*@*<=3%"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1].startswith("FAIL")
    command = f"{sys.executable} -m vprobe compare {run_file} | head -1"
    piped = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert piped.stderr == ""


@pytest.mark.parametrize("verb", ["compare", "gate"])
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help explains the arguments and fits 120 columns."""
    assert cli.run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "RUN" in text
    assert max(len(line) for line in text.splitlines()) <= 120


@pytest.mark.slow
def test_large_runs_are_judged_in_time_and_memory(tmp_path: Path) -> None:
    """2,000 visits of 100 rounds in 10 arms: the file is under 100 MB, the gate under 10 s and 1 GiB."""
    arms = ["bare", "bare-aa", *(f"environment{n}" for n in range(8))]
    path = tmp_path / "large.json"
    written(path, boots=20, rounds=100, arms=arms, workloads=[f"cpu.w{n}" for n in range(100)])
    assert path.stat().st_size < 100e6
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "vprobe", "gate", str(path), "--rule", "*@*<=5%"]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # of the processor: what the machine does beside it is not the gate's time
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    assert after.ru_maxrss < 1 << 20  # KiB
