"""Real engines: every environment starts, shows its boundary, and leaves the host as it was however its run ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import ssh_server

from vprobe import environments
from vprobe.environments import Environment, Launch, Limits, Unavailable, guest_kernel, process, sessions, supervisor
from vprobe.environments.limits import obstacle
from vprobe.environments.process import ProcessSession

ENGINES = {
    "bubblewrap": "bwrap",
    "chroot": "chroot",
    "crun": "crun",
    "docker": "dockerd",
    "gvisor": "runsc",
    "lxc": "lxc-execute",
    "namespaces": "unshare",
    "nspawn": "systemd-nspawn",
    "podman": "podman",
    "qemu-kvm": "qemu-system-x86_64",
    "qemu-tcg": "qemu-system-x86_64",
    "qemu-user": "qemu-x86_64",
    "runc": "runc",
    "ssh:localhost": "sshd",
}
GUESTS = {"qemu-kvm", "qemu-tcg"}
OWN_LAYOUT = {"docker", "gvisor", "ssh:localhost", *GUESTS}
"""A daemon or another kernel starts what runs there, and places its memory."""
NAMES = [
    pytest.param(
        name,
        marks=[
            *([pytest.mark.engine(ENGINES[name])] if name in ENGINES else []),
            *([pytest.mark.guest] if name in GUESTS else []),
        ],
    )
    for name in environments.BUILT_IN
]
PATIENCE_S = 15.0
LITTLE_GRACE_S = 0.5

ECHO = "import os\nwhile data := os.read(0, 4096): os.write(1, data)"
EVIDENCE = (
    "import json, os\n"
    "def space(name):\n"
    "    try: return os.stat(f'/proc/self/ns/{name}').st_ino\n"
    "    except OSError: return None\n"
    "seen = {f'namespaces.{name}': space(name) for name in ('mnt', 'pid', 'net', 'ipc', 'uts')}\n"
    "seen['root_mount'] = [line.split()[2:] for line in open('/proc/self/mountinfo') if line.split()[4] == '/'][-1]\n"
    "seen['root'] = [os.stat('/').st_dev, os.stat('/').st_ino]\n"
    "place = '/proc/sys/kernel/random/boot_id'\n"
    "seen['boot_id'] = open(place).read() if os.path.exists(place) else None\n"
    "seen['kernel'] = open('/proc/version').read()\n"
    "place = '/proc/self/personality'\n"
    "seen['personality'] = int(open(place).read(), 16) if os.path.exists(place) else None\n"
    "print(json.dumps(seen), flush=True)\n"
)
GREEDY = (
    "import os, time\n"
    "wall, cpu = time.monotonic(), time.process_time()\n"
    "while time.monotonic() - wall < 0.5: pass\n"
    "share = (time.process_time() - cpu) / (time.monotonic() - wall)\n"
    "os.write(1, f'{share:.2f}\\n'.encode())\n"
    "taken = bytearray(500 << 20)\n"
    "taken[::4096] = b'x' * len(taken[::4096])\n"
    "os.write(1, b'survived\\n')\n"
)
"""Takes all CPU time for half a second and says what share it got, then 500 MiB of memory."""
STUBBORN = (
    "import os, signal, time\n"
    "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    os.fork()\n"
    "os.write(1, b'up\\n')\n"
    "time.sleep(1000)\n"
)
"""Ignores signals and the end of its channel, and has a daemon and its child on the side."""


@pytest.fixture(scope="session", autouse=True)
def private_sshd(private_docker: None) -> Iterator[None]:
    """An sshd of the tests' own, which ssh_config calls localhost; the machine's is left alone."""
    if ssh_server.SSHD is None:
        yield
        return
    with (
        tempfile.TemporaryDirectory(prefix="vps") as place,
        pytest.MonkeyPatch.context() as patch,
        ssh_server.serving(Path(place)) as server,
    ):
        patch.setenv("XDG_CACHE_HOME", str(guest_kernel.cache().parents[1]))  # where the guests' kernel is
        patch.setenv("HOME", str(server.home))
        yield


@pytest.fixture(autouse=True)
def own_base(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Directories of runs below a directory of the test's own; engines have sockets there, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="vp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)
        yield


def processes() -> set[str]:
    """Processes that carry the mark of a session of these tests."""
    mark = f"{supervisor.SESSION_VARIABLE}={sessions.base()}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found.add(f"process {entry.name}: {(entry / 'cmdline').read_bytes()!r}")
    return found


def is_ours(cgroup: str) -> bool:
    """Whether it counts: not the Docker daemon's own, made with its first container, nor one of another vprobe's."""
    name = cgroup.rpartition("/")[2]
    launch = Launch((), sessions.base() / "run" / "s-", Path())
    ours = process.container_name(launch)
    return name != "docker" and (not name.startswith(process.CONTAINER_PREFIX) or name.startswith(ours))


def host_state() -> set[str]:
    """What a run could leave behind on the host, one line each."""
    lines = processes()
    lines |= {f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    lines |= {f"device {line.split(':')[0]}" for line in Path("/proc/net/dev").read_text().splitlines()[2:]}
    for place, depth in (("/sys/fs/cgroup", 9), ("/run", 2), ("/var/lib", 1), ("/", 1), (tempfile.gettempdir(), 9)):
        for directory, names, files in os.walk(place):
            if len(Path(directory).relative_to(place).parts) >= depth - 1:
                names.clear() if depth < 9 else None
            if place.startswith("/sys") and not is_ours(directory):
                names.clear()
                continue
            lines.add(f"directory {directory}")
            if not place.startswith("/sys"):
                lines |= {f"file {directory}/{file}" for file in files}
    return lines


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Whatever the test does, the host is afterwards as it was."""
    before = host_state()
    yield
    deadline = time.monotonic() + PATIENCE_S  # others use this machine, too, and come and go
    while left := host_state() - before:
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "\n".join(sorted(left)))
        time.sleep(0.1)
    gone = before - host_state()
    assert not [line for line in gone if line.startswith(("mount", "device"))]


@pytest.fixture
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents that do not mean to leave are not waited for as long as a user's would be."""
    monkeypatch.setattr(process, "GRACE_S", LITTLE_GRACE_S)


def environment(name: str) -> Environment:
    """The environment, or a skip with its reason."""
    found = environments.get(name)
    verdict = found.availability()
    if isinstance(verdict, Unavailable):
        pytest.skip(f"{name}: {verdict.reason}")
    return found


def launch(run: sessions.RunDirectory, program: str, layout: int | None = None) -> Launch:
    """A Python program as the agent."""
    places = (Path(sys.prefix), Path(sys.executable).resolve().parents[1])
    argv = (sys.executable, "-I", "-S", "-c", program)
    return Launch(argv, run.new_session(), run.scratch, read_only_paths=places, layout=layout)


@contextlib.contextmanager
def running(name: str, program: str, layout: int | None = None) -> Iterator[ProcessSession]:
    """A session of its own run."""
    with sessions.open_run() as run, environment(name).start(launch(run, program, layout)) as session:
        assert isinstance(session, ProcessSession)
        yield session


def read_line(descriptor: int) -> bytes:
    """One line from an agent."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 1)
        assert chunk, f"the agent ended after {line!r}"
        line += chunk
    return line


def evidence(name: str) -> dict[str, object]:
    """What an agent sees that has a layout drawn for it."""
    with running(name, EVIDENCE, layout=7) as session:
        seen: dict[str, object] = json.loads(read_line(session.from_agent))
        return seen


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("name", NAMES)
class TestEveryEnvironment:
    """The same promises, whatever the engine."""

    def test_exchanges_bytes_and_stops(self, name: str) -> None:
        """Bytes come back unchanged, also more than a pipe holds; stop ends an idle agent without force."""
        with running(name, ECHO) as session:
            for size in (1, 4096, 60_000):
                data = os.urandom(size)
                os.write(session.to_agent, data)
                back = b""
                while len(back) < size:
                    chunk = os.read(session.from_agent, 65536)
                    assert chunk, f"the agent ended: {session.stderr_tail()}"
                    back += chunk
                assert back == data
            assert session.stop() < 1.5e9, "it was forced, or waited for"
            assert session.exit_status == 0
            assert session.stop() == session.stop()

    def test_shows_its_boundary(self, name: str) -> None:
        """Each key that the environment declares differs from bare's; without a boundary, all are bare's."""
        declared = environments.get(name).boundary - {
            "microvm.nonce",
            "cpuid_signature",
            "connection",
        }  # see the contract tests
        bare, seen = evidence("bare"), evidence(name)
        assert declared <= bare.keys()
        for key in declared:
            assert seen[key] != bare[key], key
        if name.startswith("bare"):
            assert seen == bare
        if name not in OWN_LAYOUT:
            assert seen["personality"] == supervisor.ADDR_NO_RANDOMIZE, "the kernel draws its layout, and not the boot"

    def test_scratch_is_writable_and_shared(self, name: str) -> None:
        """A file written inside at the scratch directory's own path is there on the host."""
        program = "import os; open('written', 'w').write(os.getcwd()); os.write(1, b'done\\n')"
        with sessions.open_run() as run:
            with environment(name).start(launch(run, program)) as session:
                assert read_line(session.from_agent) == b"done\n"
            if name in GUESTS:
                return  # theirs is in their own memory, so that the share is never timed
            assert (run.scratch / "written").read_text() == str(run.scratch)

    def test_launched_is_before_the_agent_and_after_the_call(self, name: str) -> None:
        """The moment of launch lies between the call of start and the agent's first word."""
        program = "import os; os.write(1, b'here\\n')"
        before = time.monotonic_ns()
        with running(name, program) as session:
            read_line(session.from_agent)
            assert before < session.launched_ns < time.monotonic_ns()

    def test_limits(self, name: str) -> None:
        """A session gets no more CPU time and memory than it is allowed; where that cannot be had it is refused."""
        limits = Limits(cpus=0.4, memory_bytes=300 << 20)
        found = environment(name)
        if obstacle(name.partition(":")[0], limits):
            assert name.startswith("ssh:")
            return
        with sessions.open_run() as run:
            limited = dataclasses.replace(launch(run, GREEDY), limits=limits)
            with found.start(limited) as session:
                share = float(read_line(session.from_agent))
                if name in {"gvisor", *GUESTS}:  # a kernel of their own does not know what it does not get
                    assert isinstance(session, ProcessSession)
                    share = cpu_share(session)
                assert 0.1 < share < 0.7, "of a CPU, where 0.4 are allowed"
                assert os.read(session.from_agent, 64) == b"", "it took more memory than it may"

    def test_failed_agent(self, name: str) -> None:
        """An agent that dies shows as end of file, and what it said is still there afterwards, escaped and bounded."""
        program = "import sys; sys.stderr.write('x' * 100000 + '\\n\\x1b[31mlast words\\n'); sys.exit(3)"
        with running(name, program) as session:
            assert os.read(session.from_agent, 1) == b""
            assert session.wait(PATIENCE_S) == (7 if name in GUESTS else 3)  # see isa-debug-exit in native/guest_init.c
        assert session.stderr_tail().endswith("\\x1b[31mlast words")
        assert len(session.stderr_tail()) < 3000

    def test_a_program_that_does_not_exist(self, name: str) -> None:
        """It ends with end of file and a reason that names the program."""
        with sessions.open_run() as run:
            one = Launch(("/nonexistent/agent",), run.new_session(), run.scratch)
            with environment(name).start(one) as session:
                assert os.read(session.from_agent, 1) == b""
                assert isinstance(session, ProcessSession)
                assert session.wait(PATIENCE_S) not in (0, None)
                assert "/nonexistent/agent" in session.stderr_tail()

    def test_stopped_while_starting(self, name: str) -> None:
        """A session that is stopped before its agent has said anything is gone."""
        with running(name, ECHO):
            pass

    @pytest.mark.usefixtures("little_grace")
    def test_stubborn_agent_with_daemons(self, name: str) -> None:
        """What ignores signals and the end of its channel, and has gone to the background, is killed in bounded time."""
        with running(name, STUBBORN) as session:
            assert read_line(session.from_agent) == b"up\n"
            assert session.stop() < 12e9

    @pytest.mark.usefixtures("little_grace")
    def test_killed_supervisor(self, name: str) -> None:
        """When the supervisor is killed, stop() does its work."""
        with running(name, STUBBORN) as session:
            read_line(session.from_agent)
            os.kill(session.pid, signal.SIGKILL)

    @pytest.mark.usefixtures("little_grace")
    def test_engine_killed_from_outside(self, name: str) -> None:
        """When somebody kills the engine, what it ran does not stay."""
        with running(name, STUBBORN) as session:
            read_line(session.from_agent)
            engine = next(pid for pid, parent in supervisor.parents().items() if parent == session.pid)
            os.kill(engine, signal.SIGKILL)
            assert session.wait(PATIENCE_S) == -signal.SIGKILL
            rest = b"".join(iter(lambda: os.read(session.from_agent, 64), b""))
            assert rest.replace(b"up\n", b"") == b""

    @pytest.mark.parametrize("phase", ["starting", "running", "stopping"])
    def test_killed_controller(self, name: str, phase: str) -> None:
        """SIGKILL of the controller in every phase: all is gone without anybody's help.

        But for the directories, where the controller died before it had even started a supervisor: these are swept.
        """
        with controller(name, phase) as (process, _):
            process.kill()
            process.wait()
            if phase == "starting":
                wait_for(lambda: bool(sessions.sweep()) or not sessions.base().exists())
            wait_for(lambda: not processes() and not sessions.base().exists())

    def test_killed_controller_and_supervisor(self, name: str) -> None:
        """SIGKILL of both: the next run's sweep finds and removes all."""
        with controller(name, "running") as (process, leader):
            process.kill()
            os.kill(leader, signal.SIGKILL)
            process.wait()
            wait_for(lambda: not alive(leader))
            assert len(sessions.sweep()) == 1
            assert not sessions.base().exists()


def cpu_share(session: ProcessSession) -> float:
    """CPU time that a session's processes have taken, of the time since it was launched."""
    times = [one.cpu_times() for one in psutil.Process(session.pid).children(recursive=True)]
    return sum(one.user + one.system for one in times) / ((time.monotonic_ns() - session.launched_ns) / 1e9)


def alive(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, for a bounded time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"still there: {processes()} {list(sessions.base().glob('*/*'))}"
        time.sleep(0.02)


CONTROLLER = f"""
import os, sys, threading
from pathlib import Path
from vprobe import environments
from vprobe.environments import Launch, process, sessions
process.GRACE_S = {LITTLE_GRACE_S}
name, phase, program = sys.argv[1:]
run = sessions.open_run()
launch = Launch((sys.executable, "-I", "-S", "-c", program), run.new_session(), run.scratch,
                read_only_paths=(Path(sys.prefix), Path(sys.executable).resolve().parents[1]))
if phase == "starting":
    print(0, flush=True)
session = environments.get(name).start(launch)
if phase != "starting":
    os.read(session.from_agent, 1)
    print(session.pid, flush=True)
if phase == "stopping":
    session.stop()
threading.Event().wait()
"""


@contextlib.contextmanager
def controller(name: str, phase: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A controller of its own that has come to a phase; its supervisor's PID where that is known."""
    environment(name)
    command = [sys.executable, "-c", CONTROLLER, name, phase, STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        leader = int(process.stdout.readline())
        time.sleep({"starting": 0.06, "running": 0.0, "stopping": LITTLE_GRACE_S / 2}[phase])
        yield process, leader


def test_sweep_leaves_live_runs_alone() -> None:
    """A run whose controller lives is not swept, and works on."""
    with running("bare", ECHO) as session:
        assert sessions.sweep() == ()
        os.write(session.to_agent, b"still there")
        assert os.read(session.from_agent, 64) == b"still there"


def test_sweep_leaves_a_working_supervisor_alone() -> None:
    """A dead controller's supervisor that is still ending its session is not disturbed."""
    with controller("bare", "running") as (process, leader):
        os.kill(leader, signal.SIGSTOP)
        process.kill()
        process.wait()
        assert sessions.sweep() == ()
        assert alive(leader)
        os.kill(leader, signal.SIGCONT)
        wait_for(lambda: not sessions.base().exists())


def test_many_sessions_do_not_hold_each_other() -> None:
    """Each agent sees the end of its own channel, though others were started after it."""
    with sessions.open_run() as run, contextlib.ExitStack() as stack:
        bare = environments.get("bare")
        started = [stack.enter_context(bare.start(launch(run, ECHO))) for _ in range(4)]
        assert all(session.stop() < 1.5e9 for session in started)


def test_no_descriptor_is_leaked() -> None:
    """Twenty sessions later this process has as many descriptors as before."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with running("bare", ECHO):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
