"""Real engines: every environment starts, shows its boundary, and leaves the host as it was however its run ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ssh_server

import vprobe
from vprobe import environments
from vprobe.environments import Environment, Launch, Limits, Unavailable, guest_kernel, process, sessions, supervisor
from vprobe.environments.limits import obstacle
from vprobe.environments.process import ProcessSession
from vprobe.measure.evidence import NAMESPACES
from vprobe.measure.sessions import look_up
from vprobe.states import VirtClass

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
    f"import json, sys; sys.path.insert(0, {str(Path(vprobe.__file__).parents[1])!r})\n"
    "from vprobe.measure import evidence\n"
    "seen = evidence.boundary()\n"
    "try: seen['personality'] = int(open('/proc/self/personality').read(), 16)\n"
    "except OSError: seen['personality'] = None\n"
    "print(json.dumps(seen), flush=True)\n"
)
SPACES = frozenset(f"namespaces.{kind}" for kind in ("mnt", "pid", "net", "ipc", "uts"))
DIFFERS = {
    "chroot": {"root"},
    **dict.fromkeys(("namespaces", "bubblewrap", "nspawn", "lxc", "runc", "crun", "podman"), SPACES),
    "docker": {"root", *SPACES},
    "gvisor": {"kernel"},
    "qemu-kvm": {"boot_id", "root"},
    "qemu-tcg": {"boot_id", "root", "cpuid_signature"},
    "qemu-user": {"cpuid_signature"},
    "ssh:localhost": {"connection"},
}
"""What an agent's evidence must tell of the place, whatever the environment itself declares. kvm's is in the agent's hello."""
ONE_KERNEL = ("kernel", "cpuid_signature")
"""What is the host's in every environment of the class os-level. Not the boot id: nspawn and lxc put another in its place."""
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
SLOW_TO_LEAVE = "import os, time; os.write(1, b'up\\n'); os.read(0, 1); time.sleep(0.2)"
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
    with ssh_server.preferred():
        yield


@pytest.fixture(autouse=True)
def own_base(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Directories of runs below a directory of the test's own; engines have sockets there, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="vp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        monkeypatch.setenv("TMPDIR", directory)
        yield


def is_of_this_test(entry: Path) -> bool:
    """Whether a process's variables or command line name this test's own temporary directory. OSError if it has ended."""
    mark = os.fsencode(tempfile.gettempdir())
    return mark in (entry / "environ").read_bytes() or mark in (entry / "cmdline").read_bytes()


def processes() -> set[str]:
    """Processes of this test's sessions: engines and what they started, also without their variables."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and is_of_this_test(entry):
                found.add(f"process {entry.name}: {(entry / 'cmdline').read_bytes()!r}")
    return found


def heads() -> dict[int, int]:
    """Process -> the one that leads to it from this test or one of its ancestors: what was started on its own has its own."""
    parents = supervisor.parents()
    line = {0, 1, os.getpid()}
    pid = os.getpid()
    while pid := parents.get(pid, 0):
        line.add(pid)
    found = {}
    for pid in parents:
        head = pid
        while parents.get(head, 0) not in line:
            head = parents[head]
        found[pid] = head
    return found


def namespaces(others: Collection[int]) -> set[str]:
    """Namespaces of this test's processes and of all others but those below `others`; and those that this process holds open.

    Those that are bound to a file are among the mounts.
    """
    found = set()
    for pid, head in heads().items():
        entry = Path("/proc", str(pid))
        with contextlib.suppress(OSError):
            if head not in others or is_of_this_test(entry):
                found |= {str((entry / "ns" / kind).readlink()) for kind in NAMESPACES}
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            if target.partition(":[")[0] in NAMESPACES:
                found.add(target)
    return found


def is_ours(cgroup: str) -> bool:
    """Whether it counts: not the Docker daemon's own, made with its first container, nor one of another vprobe's."""
    name = cgroup.rpartition("/")[2]
    launch = Launch((), sessions.base() / "run" / "s-", Path())
    ours = process.container_name(launch)
    return name != "docker" and (not name.startswith(process.CONTAINER_PREFIX) or name.startswith(ours))


def host_state(others: Collection[int] = ()) -> set[str]:
    """What a run could leave behind on the host, one line each. `others`: processes that lead somebody else's."""
    lines = processes() | {f"namespace {name}" for name in namespaces(others)}
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
    before, others = host_state(), set(heads().values())
    yield
    deadline = time.monotonic() + PATIENCE_S  # others use this machine, too, and come and go
    while left := host_state(others) - before:
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
    places = (Path(sys.prefix), Path(sys.executable).resolve().parents[1], Path(vprobe.__file__).parents[1])
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


def evidence(name: str) -> dict[str, Any]:
    """What an agent sees that has a layout drawn for it."""
    with running(name, EVIDENCE, layout=7) as session:
        seen: dict[str, Any] = json.loads(read_line(session.from_agent))
        return seen


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("name", NAMES)
class TestEveryEnvironment:
    """The same promises, whatever the engine."""

    def test_exchanges_bytes_and_stops(self, name: str) -> None:
        """Bytes come back unchanged, also more than a pipe holds; stop ends an idle agent without force.

        The moment of launch lies between the call of start and the agent's first word.
        """
        before_ns = time.monotonic_ns()
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
                assert before_ns < session.launched_ns < time.monotonic_ns()
            assert session.stop() < 1.5e9, "it was forced, or waited for"
            assert session.exit_status == 0
            assert session.stop() == session.stop()

    def test_shows_its_boundary(self, name: str) -> None:
        """Each key that the environment declares, and what it must at least, differs from bare's; the kernel where it has one."""
        found = environment(name)
        in_hello = {"microvm.nonce"}  # see test_an_agent_on_the_host_is_refused
        bare, seen = evidence("bare"), evidence(name)
        for key in (found.boundary | DIFFERS.get(name, set())) - in_hello:
            assert look_up(seen, key) is not None, key
            assert look_up(seen, key) != look_up(bare, key), key
        if found.virt_class in {VirtClass.OS_LEVEL, VirtClass.NONE}:
            assert [seen[key] for key in ONE_KERNEL] == [bare[key] for key in ONE_KERNEL]
        if found.virt_class is VirtClass.NONE:
            assert {**seen, "pid": 0} == {**bare, "pid": 0}
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

    def test_interrupted_while_starting(self, name: str) -> None:
        """Ctrl-C in the middle of the start: when the exception is here, nothing of the session is."""
        found = environment(name)
        with pytest.raises(KeyboardInterrupt), sessions.open_run() as run:
            press_ctrl_c(0.03)
            with found.start(launch(run, ECHO)) as session:
                assert isinstance(session, ProcessSession)
                session.wait(PATIENCE_S)
        assert not processes()
        assert not sessions.base().exists()

    def test_interrupted_while_running_and_again_while_stopping(self, name: str) -> None:
        """Ctrl-C ends what runs; another one, while it is being ended, leaves nothing half done."""
        with pytest.raises(KeyboardInterrupt), running(name, SLOW_TO_LEAVE) as session:
            read_line(session.from_agent)
            press_ctrl_c(0.08)
            os.kill(os.getpid(), signal.SIGINT)
        assert session.stop() > 0.1e9, "the second one came when it had left"
        assert not processes()
        assert not sessions.base().exists()

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


def press_ctrl_c(after_s: float) -> None:
    """SIGINT for this process after a while."""
    threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT)).start()


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


@pytest.mark.root
def test_the_record_sees_namespaces_that_are_left() -> None:
    """The record of the host shows an orphan's namespace, though it carries no mark, and one that only a descriptor holds."""
    before, others = host_state(), set(heads().values())
    start = ["sh", "-c", "env -i setsid unshare --net sleep 1000 >/dev/null 2>&1 & echo $!"]
    orphan = int(subprocess.run(start, capture_output=True, check=True).stdout)
    try:
        wait_for(lambda: Path(f"/proc/{orphan}/ns/net").readlink() != Path("/proc/self/ns/net").readlink())
        line = f"namespace {Path(f'/proc/{orphan}/ns/net').readlink()}"
        assert line in host_state(others) - before
        descriptor = os.open(f"/proc/{orphan}/ns/net", os.O_RDONLY)
    finally:
        os.kill(orphan, signal.SIGKILL)
    wait_for(lambda: not alive(orphan))
    assert line in host_state(others) - before
    os.close(descriptor)
    assert line not in host_state(others) - before


@pytest.mark.root
@pytest.mark.engine("sshd", "dockerd")
def test_envs_finds_what_is_running() -> None:
    """`vprobe envs` beside an sshd and a Docker daemon: both are available; qemu-kvm is, or says what its trial boot gave."""
    command = [sys.executable, "-m", "vprobe", "envs", "--json", "docker", "ssh:localhost", "kvm", "qemu-kvm"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["docker"]["available"], rows["docker"]
    assert rows["ssh:localhost"]["available"], rows["ssh:localhost"]
    prepared = rows["kvm"]["available"] and guest_kernel.find() is not None and shutil.which("qemu-system-x86_64")
    if prepared and not rows["qemu-kvm"]["available"]:
        assert "trial boot" in rows["qemu-kvm"]["reason"]
