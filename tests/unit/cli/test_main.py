"""The command line's front door: help, mistakes, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vprobe.cli import application as cli
from vprobe.errors import ExitCode, IncomparableError, RunError, UnavailableError, UsageError


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_help_that_says_what_it_does(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of each verb exits 0 and shows usage, a sentence and options."""
    assert cli.run([verb, "--help"]) == ExitCode.PASS
    said = capsys.readouterr().out
    assert f"Usage: vprobe {verb}" in said and "--json" in said + "--json" * (verb in {"report", "guest"})


def test_the_list_of_verbs_loads_none_of_them() -> None:
    """vprobe --help starts fast: no verb's module is imported for it."""
    program = "import sys; from vprobe import cli; cli.run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {f"vprobe.cli.{verb}" for verb in cli.VERBS} & set(done.stderr.split())
    assert all(verb in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["bench", "--frobnicate"], "--frobnicate"),
        (["compare", "/nonexistent.json"], "/nonexistent.json"),
        (["gate"], "RUN"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown verb, option or file is named, with a next step, and no traceback."""
    assert cli.run(words) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert said in captured.err and len(captured.err.strip().splitlines()) == 1 and captured.out == ""


def test_no_verb_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """vprobe alone explains itself."""
    assert cli.run([]) == ExitCode.USAGE
    assert "Verbs:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a", "b"), 2),
        (IncomparableError("a"), 4),
        (UnavailableError("a"), 5),
        (RunError("a"), 6),
        (ZeroDivisionError("a"), 70),
        (KeyboardInterrupt(), 130),
        (cli.Terminated(), 143),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts can tell failures apart; under --json an expected one is one document on standard output."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.vprobe, "main", fail)
    assert cli.run(["probe", "--json"]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and captured.err.startswith("vprobe: ")
    if code not in (130, 143):
        document = json.loads(captured.out)
        assert document["schema"] == "vprobe.error/1" and set(document) == {"schema", "code", "message", "hint"}


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--debug, anywhere on the line, shows where an error came from."""

    def fail(*_: object, **__: object) -> None:
        raise RunError("a")

    monkeypatch.setattr(cli.vprobe, "main", fail)
    assert cli.run(["probe", "--debug"]) == ExitCode.BROKEN
    assert "Traceback" in capsys.readouterr().err
