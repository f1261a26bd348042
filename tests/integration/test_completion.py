"""Tab completion in a real, interactive bash, switched on as the README says."""

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


def completed(text: str) -> list[str]:
    """What is offered for a beginning."""
    return [item.value for item in complete_names(click.Context(bench.command), bench.command.params[0], text)]


def test_what_is_offered() -> None:
    """A name by its beginning, also the last of a comma-separated list, without repeating one."""
    assert completed("ru") == ["runc"]
    assert completed("ssh") == ["ssh:localhost"]
    assert completed("bare,na") == ["bare,namespaces"]
    assert completed("bare,ba") == ["bare,bare-aa"]


class Bash:
    """An interactive bash on a terminal of its own."""

    def __init__(self) -> None:
        scripts = str(Path(sys.executable).parent)
        variables = {"PATH": f"{scripts}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ ", "HOME": "/nonexistent"}
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(shutil.which("bash") or "bash", ["bash", "--norc", "--noprofile", "-i"], variables)

    def line(self, keys: str) -> str:
        """What stands on the line once these keys are typed; it is not executed, but echoed."""
        begin, end = "\x01", "\x05"  # Ctrl-A, Ctrl-E: readline's beginning and end of the line
        os.write(self.terminal, f"{keys}{begin}echo '<<{end}>>'\n".encode())
        return self.until(r"\n<<(.*)>>\r")

    def until(self, pattern: str) -> str:
        """The first group of a pattern, once it is there."""
        deadline, seen = time.monotonic() + PATIENCE_S, ""
        while not (found := re.search(pattern, seen)):
            ready = select.select([self.terminal], [], [], max(deadline - time.monotonic(), 0))[0]
            assert ready, f"bash said only {seen!r}"
            seen += os.read(self.terminal, 4096).decode()
        return found[1]

    def close(self) -> None:
        """Hang up and wait for its end."""
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.fixture
def bash() -> Iterator[Bash]:
    """A bash in which completion is switched on by the README's lines for it."""
    one = Bash()
    try:
        for command in re.findall(r"^(.+?) +# bash", README.read_text(encoding="utf-8"), re.MULTILINE):
            os.write(one.terminal, f"{command}\n".encode())
        yield one
    finally:
        one.close()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.skipif(
    not Path(sys.executable).with_name("vprobe").exists(), reason="vprobe is not installed as a command"
)
def test_in_a_real_bash(bash: Bash) -> None:
    """Names complete after --env, also after a comma and across the colon of a name; verbs and options do, too."""
    assert bash.line("vprobe bench --env bare,ru\t") == "vprobe bench --env bare,runc "
    assert bash.line("vprobe bench --env ssh:lo\t") == "vprobe bench --env ssh:localhost "
    assert bash.line("vprobe env\t") == "vprobe envs "
    assert bash.line("vprobe bench --adap\t") == "vprobe bench --adaptive "
