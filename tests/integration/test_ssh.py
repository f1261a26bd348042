"""ssh:HOST against a real sshd: vprobe gets there by itself, asks nothing, and leaves nothing there however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ssh_server

from vprobe import environments
from vprobe.environments import Available, Launch, Unavailable, sessions

pytestmark = pytest.mark.engine("sshd")
PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssh_server.Server]:
    """One sshd for all tests."""
    with ssh_server.serving(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def server(running: ssh_server.Server, monkeypatch: pytest.MonkeyPatch) -> ssh_server.Server:
    """The sshd, known to this user as localhost."""
    monkeypatch.setenv("HOME", str(running.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return running


def over_there(server: ssh_server.Server) -> list[str]:
    """Processes that came through this sshd, and what they have in their temporary directory."""
    found = [f"file {path}" for path in (server.place / "tmp").rglob("*")]
    for entry in Path("/proc").iterdir():
        try:
            variables = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if f" {server.port}\0".encode() in variables and b"SSH_CONNECTION" in variables:
            found.append(f"process {entry.name}")
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, for a bounded time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def bench(server: ssh_server.Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`vprobe bench` as a user runs it."""
    command = [sys.executable, "-m", "vprobe", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=server.place, timeout=120, check=False)


def test_bench(server: ssh_server.Server) -> None:
    """Kernels, Python and a command are measured there, by the very same code; the other machine's own probe is in the run."""
    selected = ("--select", "cpu.integer_chain", "--select", "cpu.sha256", "--command", 'test "$SSH_CONNECTION"')
    variants = ("--variant", "a=env:ONE=1", "--variant", "b=env:ONE=2")
    done = bench(server, "--env", "ssh:localhost", "--boots", "1", *selected, *variants, "-o", "run.json")
    assert "command exited with 1" in done.stderr, "bare has no connection: the command has to fail there and not here"
    done = bench(server, "--env", "ssh:localhost", "--boots", "1", *selected[:4], "-o", "run.json")
    assert done.returncode == 0, done.stderr
    run = json.loads((server.place / "run.json").read_text())
    bare, _, there = run["environments"]
    assert there["name"] == "ssh:localhost"
    assert there["vprobe_hash"] == bare["vprobe_hash"], "the zipapp holds other bits"
    assert there["python_hash"] == bare["python_hash"]
    assert there["probe"]["schema"] == "vprobe.probe/1"
    assert there["probe"]["cpu"] == {key: run["probe"]["cpu"][key] for key in there["probe"]["cpu"]}
    assert there["class"] in {"none", "os-level", "full-hardware", "full-software", "paravirtual"}
    assert "127.0.0.1" not in json.dumps(there), "an address in a file that is shown around"
    for visit in run["visits"]:
        assert set(visit["samples"]) == {"bare", "bare-aa", "ssh:localhost"}
    wait_for(lambda: not over_there(server))


def test_killed_controller(server: ssh_server.Server, tmp_path: Path) -> None:
    """kill -9 of vprobe in the middle of a command there: the command and all that was brought is gone by itself."""
    command = [
        sys.executable,
        "-m",
        "vprobe",
        "bench",
        "--env",
        "ssh:localhost",
        "--command",
        "sleep 1000 & sleep 1000",
    ]
    before = over_there(server)
    assert before == []
    with subprocess.Popen([*command, "-o", str(tmp_path / "run.json")], stderr=subprocess.PIPE) as process:
        wait_for(lambda: len(over_there(server)) > 2)
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not over_there(server))


def test_killed_leader(server: ssh_server.Server) -> None:
    """kill -9 of what leads the session there: the next session sweeps what its program has started, and the directory."""
    found = environments.get("ssh:localhost")
    with sessions.open_run() as run:
        launch = Launch(("sh", "-c", "echo $PPID; sleep 1000"), run.new_session(), run.scratch)
        with found.start(launch) as session:
            leader = int(os.read(session.from_agent, 64))
            os.kill(leader, signal.SIGKILL)
    assert over_there(server) != []
    with sessions.open_run() as run, found.start(Launch(("true",), run.new_session(), run.scratch)) as session:
        assert os.read(session.from_agent, 1) == b""
    wait_for(lambda: not over_there(server))


class TestRefusals:
    """What stands in the way is one line with a remedy, never a question."""

    def verdict(self, name: str = "ssh:localhost") -> Unavailable:
        found = environments.get(name).availability()
        assert isinstance(found, Unavailable)
        assert "\n" not in found.reason + found.remedy
        return found

    def configure(self, server: ssh_server.Server, home: Path, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
        """A HOME with other settings in front."""
        (home / ".ssh").mkdir(parents=True)
        known = (server.home / ".ssh" / "config").read_text()
        (home / ".ssh" / "config").write_text(f"Host localhost\n{extra}\n{known}")
        monkeypatch.setenv("HOME", str(home))

    @pytest.mark.parametrize("file", ["none", "/nonexistent/known_hosts"])
    def test_unknown_host_key(
        self, server: ssh_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
    ) -> None:
        """A host whose key is not known is not trusted, and that is said; not even where the file is called none."""
        self.configure(server, tmp_path, monkeypatch, f"UserKnownHostsFile {file}")
        found = self.verdict()
        assert found.reason.startswith("host key")
        assert "ssh localhost" in found.remedy

    def test_wrong_key(self, server: ssh_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that the server does not take."""
        ssh_server.make_key(tmp_path / "other")
        self.configure(server, tmp_path / "home", monkeypatch, f"IdentityFile {tmp_path / 'other'}")
        (tmp_path / "home/.ssh/config").write_text(
            (tmp_path / "home/.ssh/config").read_text().replace(f"IdentityFile {server.place}/key", "")
        )
        found = self.verdict()
        assert found.reason.startswith("permission denied")
        assert "ssh-copy-id" in found.remedy

    def test_key_with_a_passphrase(
        self, server: ssh_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A key that would need its passphrase is no key: nobody is asked."""
        ssh_server.make_key(tmp_path / "locked", "secret")
        self.configure(server, tmp_path / "home", monkeypatch, "")
        path = tmp_path / "home/.ssh/config"
        path.write_text(path.read_text().replace(f"{server.place}/key", str(tmp_path / "locked")))
        assert self.verdict().remedy

    def test_nobody_listens(self, server: ssh_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No server on that port."""
        self.configure(server, tmp_path, monkeypatch, f"Port {ssh_server.free_port()}")
        assert self.verdict().reason == "no connection: Connection refused"

    def test_no_such_host(self, server: ssh_server.Server) -> None:
        """A name that does not resolve: exit code 5, before anything is measured."""
        assert self.verdict("ssh:nowhere.invalid").reason.startswith("unknown host: ")
        done = bench(server, "--env", "ssh:nowhere.invalid")
        assert done.returncode == 5
        assert len(done.stderr.splitlines()) == 1

    def test_available(self, server: ssh_server.Server) -> None:
        """And with all in place: Python and system over there, and the class that its probe gave."""
        found = environments.get("ssh:localhost").availability()
        assert isinstance(found, Available), found
        assert os.uname().release in found.version
        assert found.virt_class is not None
