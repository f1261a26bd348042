"""What is told to a supervisor, and what is shown of foreign output."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprobe.environments import Launch, process, sessions
from vprobe.errors import RunError


@given(st.binary(max_size=5000))
def test_foreign_output_is_harmless(raw: bytes) -> None:
    """Whatever arrives, only printable characters and line breaks are shown, and not too many."""
    text = process.escaped(raw)
    assert all(character == "\n" or character.isprintable() for character in text)
    assert len(text) <= 10 * process.SHOWN_BYTES


def test_the_end_of_foreign_output_is_what_counts() -> None:
    """The last words are kept, the first are cut."""
    assert process.escaped(b"first\n" * 1000 + b"last\n").endswith("last")


def test_a_terminal_escape_is_shown_as_text() -> None:
    """Nobody's output moves the cursor of the user's terminal."""
    assert process.escaped(b"\x1b[2Jgone\x07") == "\\x1b[2Jgone\\x07"


def test_agents_get_the_same_variables_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH and HOME are the user's, the launch's own win, and nothing else of the user's leaks in."""
    monkeypatch.setenv("PATH", "/user/bin")
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setenv("SECRET", "x")
    launch = Launch(("agent",), Path("/s"), Path("/t"), {"HOME": "/elsewhere", "A": "1"})
    found = process.agent_variables(launch)
    assert found == {
        "PATH": "/user/bin",
        "LANG": "C.UTF-8",
        "HOME": "/elsewhere",
        "A": "1",
        "VPROBE_SESSION": "/s",
    }


def test_a_set_up_that_fails_is_an_error_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the engine is not even reached, start raises, says why, and has removed the session."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with sessions.open_run() as run:
        session_dir = run.new_session()
        wrong = process.Instructions(("/bin/true",), {}, working_directory="/nonexistent/place")
        before = time.monotonic()
        with pytest.raises(RunError, match="/nonexistent/place"):
            process.start(wrong, Launch((), session_dir, session_dir))
        assert time.monotonic() - before < 5, "it waited for what could not come"
        assert not session_dir.exists()


def test_a_command_ahead_of_the_engine_that_fails_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an engine's preparation fails, start raises with that, and has removed the session."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with sessions.open_run() as run:
        session_dir = run.new_session()
        wrong = process.Instructions(("/bin/true",), {}, setup=(("/bin/sh", "-c", "exit 9"),))
        with pytest.raises(RunError, match=r"could not be started.*exit status 9"):
            process.start(wrong, Launch((), session_dir, session_dir))
        assert not session_dir.exists()


def test_a_start_that_takes_too_long_is_no_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time is up while the supervisor still works, the time is the reason, and the session is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(process, "LAUNCH_TIMEOUT_S", 0.2)
    with sessions.open_run() as run:
        session_dir = run.new_session()
        slow = process.Instructions(("/bin/true",), {}, setup=(("/bin/sleep", "2"),))
        with pytest.raises(RunError, match=r"no engine ran within 0\.2 s"):
            process.start(slow, Launch((), session_dir, session_dir))
        assert not session_dir.exists()


def test_an_interpreter_that_cannot_be_executed_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that cannot even be executed is told by the interpreter's path, and the session is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with sessions.open_run() as run:
        session_dir = run.new_session()
        with pytest.raises(RunError, match=f"{tmp_path}/python: No such file"):
            process.start(process.Instructions(("/bin/true",), {}), Launch((), session_dir, session_dir))
        assert not session_dir.exists()


def test_an_agent_that_opens_its_channel_too_late_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that takes its time, and is stopped meanwhile: its agent sees the end of its input and leaves by itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with sessions.open_run() as run:
        launch = Launch(("/bin/cat",), run.new_session(), run.scratch)
        shell, option, script, *words = process.behind_fifos(launch)
        late = (shell, option, f"sleep 0.3; {script}", *words)
        instructions = process.Instructions(late, {"PATH": "/usr/bin:/bin"}, channel=process.Channel.FIFOS)
        session = process.start(instructions, launch)
        assert 0.3e9 < session.stop() < process.GRACE_S * 1e9
        assert session.exit_status == 0


def test_a_failing_teardown_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine's own clean-up says goes to the tail, and the directory goes all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with sessions.open_run() as run:
        teardown = (
            process.Teardown(("/bin/sh", "-c", "exit 7")),
            process.Teardown(("/bin/sh", "-c", "exit 8"), when_exists=str(tmp_path / "missing")),
        )
        session_dir = run.new_session()
        session = process.start(
            process.Instructions(("/bin/true",), {}, teardown=teardown), Launch((), session_dir, session_dir)
        )
        session.stop()
        assert "exit status 7" in session.stderr_tail()
        assert "exit status 8" not in session.stderr_tail()
        assert not session_dir.exists()
