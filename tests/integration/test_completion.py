"""Tab completion in real, interactive shells, switched on as the README says."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vprobe.cli import bench
from vprobe.cli.completion import complete_names

README = Path(__file__).parents[2] / "README.md"
PATIENCE_S = 30.0
OPTIONS = {
    "bash": ("--norc", "--noprofile", "-i"),
    "zsh": ("-f", "-i"),
    "fish": ("--no-config", "--interactive", "--init-command", "set -g fish_autosuggestion_enabled 0"),
}
"""Shells, and how each is started as itself. fish takes the end of the line for the suggestion that it shows there."""


def completed(text: str) -> list[str]:
    """What is offered for a beginning."""
    return [item.value for item in complete_names(click.Context(bench.command), bench.command.params[0], text)]


def test_what_is_offered() -> None:
    """A name by its beginning, also the last of a comma-separated list, without repeating one."""
    assert completed("ru") == ["runc"]
    assert completed("ssh") == ["ssh:localhost"]
    assert completed("bare,na") == ["bare,namespaces"]
    assert completed("bare,ba") == ["bare,bare-aa"]


class Shell:
    """An interactive shell on a terminal of its own, in an empty directory, without start-up files."""

    def __init__(self, name: str, home: Path) -> None:
        scripts = str(Path(sys.executable).parent)
        path = f"{scripts}:{os.environ['PATH']}"
        variables = {"PATH": path, "TERM": "dumb", "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
        self.name, self.said, self.answer = name, "", home / "answer"
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            os.execve(shutil.which(name) or name, [name, *OPTIONS[name]], variables)

    def execute(self, command: str) -> None:
        """Type a command and the end of the line."""
        os.write(self.terminal, f"{command}\n".encode())

    def line(self, keys: str) -> str:
        """What stands on the line once these keys are typed; it is not executed, but written to a file.

        Without the blank at its end: zsh takes it back when the cursor moves away.
        """
        begin, end = "\x01", "\x05"  # Ctrl-A, Ctrl-E: the beginning and the end of the line, in all three shells
        self.execute(f"{keys}{begin}printf '%s;' '{end}' >{self.answer}")
        deadline = time.monotonic() + PATIENCE_S
        while not (self.answer.exists() and self.answer.read_text().endswith(";")):
            assert time.monotonic() < deadline, f"{self.name} said only {self.said!r}"
            if select.select([self.terminal], [], [], 0.01)[0]:
                self.said += os.read(self.terminal, 4096).decode(errors="replace")
        written = self.answer.read_text().removesuffix(";").rstrip()
        self.answer.unlink()
        return written

    def close(self) -> None:
        """Hang up and wait for its end."""
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def needs(name: str) -> pytest.MarkDecorator:
    """The mark of a test that is skipped where a shell is missing."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


@pytest.fixture(params=[pytest.param(name, marks=needs(name)) for name in OPTIONS])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    """A shell in which completion is switched on by the README's lines for it."""
    one = Shell(request.param, tmp_path)
    try:
        for command in re.findall(rf"^(.+?) +# {one.name}", README.read_text(encoding="utf-8"), re.MULTILINE):
            one.execute(command)
        yield one
    finally:
        one.close()


@pytest.mark.skipif(
    not Path(sys.executable).with_name("vprobe").exists(), reason="vprobe is not installed as a command"
)
def test_in_a_real_shell(shell: Shell) -> None:
    """Names complete after --env, also after a comma and across the colon of a name; verbs and options do, too."""
    assert shell.line("vprobe bench --env bare,ru\t") == "vprobe bench --env bare,runc"
    assert shell.line("vprobe bench --env ssh:lo\t") == "vprobe bench --env ssh:localhost"
    assert shell.line("vprobe env\t") == "vprobe envs"
    assert shell.line("vprobe bench --adap\t") == "vprobe bench --adaptive"
