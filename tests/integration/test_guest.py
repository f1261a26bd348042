"""Linux guests of QEMU: what sets them apart from other environments. The promises of all are in test_environments.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vprobe import environments, runfile
from vprobe.environments import guest, guest_kernel, initramfs, peer, sessions
from vprobe.environments.guest import GuestSession, LinuxGuest
from vprobe.errors import RunError
from vprobe.measure import sessions as measuring
from vprobe.measure.guests import Guests
from vprobe.measure.links import links
from vprobe.measure.plan import NO_VARIANT, PlannedArm
from vprobe.measure.protocol import CommandReply, Reply
from vprobe.measure.sessions import Site, Started, started
from vprobe.model import Arm

pytestmark = [pytest.mark.engine("qemu-system-x86_64"), pytest.mark.guest]
ROOT = Path(__file__).parents[2]
PHASES = ["engine_ns", "firmware_ns", "kernel_ns", "userspace_ns", "agent_ns"]


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A run's directory."""
    with sessions.open_run() as run:
        yield Site(run, ROOT, 1.0)


def arm(environment: environments.Environment) -> PlannedArm:
    """An arm of one environment."""
    return PlannedArm(Arm(environment.name, environment.name), environment, NO_VARIANT)


@contextlib.contextmanager
def agent(environment: environments.Environment) -> Iterator[Started]:
    """The agent in an environment."""
    with site() as place, started(arm(environment), place) as one:
        yield one


def tcg() -> LinuxGuest:
    """The guest that runs everywhere."""
    found = environments.get("qemu-tcg")
    assert isinstance(found, LinuxGuest)
    return found


def cpu_ticks(pid: int) -> int:
    """User and system time of a process, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_guest_from_inside() -> None:
    """One boot: another kernel and CPU than the host's, the same interpreter; phases that add up; pinned, paused, renewed."""
    kernel = guest_kernel.find()
    assert kernel is not None
    with agent(environments.get("bare")) as bare, agent(tcg()) as inside:
        seen, own = inside.hello.evidence, bare.hello.evidence
        assert kernel.release in seen["kernel"]
        assert seen["cpuid_signature"] == "TCGTCGTCGTCG" != own["cpuid_signature"]
        assert seen["boot_id"] != own["boot_id"]
        hashes = [one.channel.request({"op": "evidence"}, measuring.EvidenceReply, 60.0) for one in (bare, inside)]
        assert hashes[0].python_hash == hashes[1].python_hash
        assert hashes[0].vprobe_hash == hashes[1].vprobe_hash

        assert list(inside.phases) == PHASES
        assert min(inside.phases.values()) >= 0 < inside.phases["kernel_ns"]
        assert sum(inside.phases.values()) == inside.start_ns

        session = inside.session
        assert isinstance(session, GuestSession)
        cpu = max(os.sched_getaffinity(0))
        assert session.pin([cpu]) == (0,)
        for thread in Path(f"/proc/{session.engine_pid}/task").iterdir():
            assert os.sched_getaffinity(int(thread.name)) == {cpu}

        session.freeze()
        before = cpu_ticks(session.engine_pid)
        os.write(session.to_agent, b'{"op":"ping","id":7}\n')
        time.sleep(0.3)
        assert cpu_ticks(session.engine_pid) - before <= 1
        session.thaw()
        assert json.loads(os.read(session.from_agent, 4096)) == {"id": 7}

        rate = f"tsc: Detected {guest.tsc_khz() // 1000}.{guest.tsc_khz() % 1000:03} MHz"
        told = {"op": "command", "command": f"dmesg | grep -q '{rate}'"}
        assert inside.channel.request(told, CommandReply, 60.0).status == 0

        written = {"op": "command", "command": "echo here > /usr/written-by-a-guest && test -s /usr/written-by-a-guest"}
        assert inside.channel.request(written, CommandReply, 60.0).status == 0
        assert not Path("/usr/written-by-a-guest").exists()

        inside.channel.renew()
        again, _ = inside.channel.hello(60.0)
        assert again.evidence["boot_id"] == seen["boot_id"]
        assert inside.channel.request({"op": "ping"}, Reply, 60.0).error == ""


@pytest.mark.validation
def test_a_guest_is_kept_over_boots() -> None:
    """In the second boot another agent answers in the same guest, in the third another guest."""
    with site() as place, Guests(boots_per_guest=2) as guests:
        boots = []
        for number in range(3):
            guests.begin_boot(number)
            with links((0,), wanted=False) as linked:
                one = guests.launched(arm(tcg()), place, 0, linked)
                boots.append(one.greeted().hello.evidence["boot_id"])
    assert boots[0] == boots[1] != boots[2]


def bench_command(*arguments: str) -> list[str]:
    """`vprobe bench` of a guest's disk and network, as a user runs it."""
    selected = ("--select", "network.round_trip", "--select", "storage.random_read[*")
    return [sys.executable, "-m", "vprobe", "bench", *selected, *arguments]


def processes_of(directory: Path) -> dict[int, str]:
    """Command lines of the processes that have a directory as TMPDIR. A network namespace ends with those that are in it."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={directory}\0".encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this process may use one CPU only")
def test_disk_network_and_second_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that is kept over two boots is measured on virtio devices and on two CPUs; nothing of disk and tap is left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = ("--env", "bare,qemu-tcg", "--boots", "2", "--select", "memory.atomic*", "-o", "run.json")
    done = subprocess.run(bench_command(*words), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    run = runfile.load(tmp_path / "run.json")
    assert run.skipped == ()
    atomics = {"memory.atomic", "memory.atomic[contended]"}
    assert {(visit.boot, visit.workload) for visit in run.visits} == {
        (boot, name) for boot in (0, 1) for name in ("network.round_trip", "storage.random_read[4KiB]", *atomics)
    }
    for visit in run.visits:
        assert set(visit.samples) == {"bare", "bare-aa", "qemu-tcg"}
        assert visit.guest_boot == 0
    assert run.environments[-1].evidence["devices"] == {
        "cpus": "2",
        "storage": "virtio_blk on virtio-pci",
        "network": "virtio_net on virtio-pci",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert processes_of(tmp_path) == {}


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short name: QEMU's socket lies below it, and its path must be shorter than 108 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="vp") as directory:
        yield Path(directory)


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.validation)])
def test_a_run_that_is_cut_short_leaves_neither_disk_nor_tap(
    number: signal.Signals, tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 or Ctrl-C while the guest has both: QEMU, the other end of the tap, namespace, mounts and files go."""
    monkeypatch.setenv("TMPDIR", str(short))
    command = bench_command("--env", "bare,qemu-tcg", "-o", str(tmp_path / "run.json"))
    before = devices_and_mounts()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: any("tap,id=link" in line for line in processes_of(short).values()))
            assert any(f"{peer.__file__} " in line and " tap" in line for line in processes_of(short).values())
            assert list(short.rglob("disk-s-*"))
            process.send_signal(number)
            assert process.wait(30) == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[number]
        finally:
            process.kill()
    wait_for(lambda: not processes_of(short) and not list(short.iterdir()))
    assert devices_and_mounts() == before


def devices_and_mounts() -> tuple[str, str]:
    """The network devices and the mounts that this process sees, without their counters."""
    devices = " ".join(line.partition(":")[0] for line in Path("/proc/net/dev").read_text().splitlines())
    return devices, Path("/proc/self/mountinfo").read_text()


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, for a bounded time."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_panic_shows_the_consoles_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without an initramfs panics: the error says so in the kernel's own words, at once and on one line."""
    monkeypatch.setattr(initramfs, "build", lambda *_: b"")
    with (
        pytest.raises(RunError, match="Kernel panic - not syncing: VFS: Unable to mount root fs") as caught,
        agent(tcg()),
    ):
        pass
    assert "\n" not in caught.value.message


def test_a_hang_shows_the_consoles_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that never answers is given up after its time, with what its console said last."""
    monkeypatch.setattr(measuring, "HELLO_TIMEOUT_S", 12.0)
    silent = ("/bin/sh", "-c", "echo waiting for Godot > /dev/console; sleep 1000")
    monkeypatch.setattr(guest, "Program", lambda device, _, *rest: initramfs.Program(device, silent, *rest))
    with (
        pytest.raises(RunError, match=r"no answer within 12 s.* \(QEMU: running, busy \d+% of the time\): .*Godot"),
        agent(tcg()),
    ):
        pass


def test_a_missing_device_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of init that fails is named with its target and its error."""
    monkeypatch.setattr(guest, "root_steps", lambda *_: (("mkdir", "/x"), ("mount", "nothing", "/x", "ext4")))
    with pytest.raises(RunError, match="vprobe init: mount /x: error"), agent(tcg()):
        pass


@pytest.mark.skipif(shutil.which("mke2fs") is None, reason="mke2fs is not installed")
def test_a_command_in_the_users_own_image(tmp_path: Path) -> None:
    """The command sees the image's root and the host's working directory; the image is not written to."""
    root, image = tmp_path / "root", tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/issue").write_text("mine")
    for program in ("sh", "cat", "grep"):
        copy_with_libraries(shutil.which(program) or program, root)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, image, "64M"], check=True, capture_output=True)
    before = image.read_bytes()
    command = "grep mine /etc/issue && grep -q vprobe pyproject.toml && echo x > /written && cat /written"
    for machine in (tcg(), replace(tcg(), machine=guest.Machine(emulated=True))):
        with agent(guest.configured(machine, disk=image)) as inside:
            reply = inside.channel.request({"op": "command", "command": command}, CommandReply, 60.0)
            assert reply.status == 0, reply.output
    assert image.read_bytes() == before


def copy_with_libraries(program: str, root: Path) -> None:
    """A program of the host with the libraries that ldd(1) names, at their own paths."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
    for path in {
        os.path.realpath(program): f"/bin/{Path(program).name}",
        **{word: word for word in listed if word[0] == "/"},
    }.items():
        target = root / path[1].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path[0], target)
