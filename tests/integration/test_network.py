"""Links between environments and the host side: they carry TCP, the host's network shows nothing of them, and nothing stays."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vprobe import runfile
from vprobe.environments import network, peer

pytestmark = [pytest.mark.root, pytest.mark.engine("ip")]

CPU = max(os.sched_getaffinity(0))
CLIENT = (
    "import socket, sys\n"
    "address, echo, stream, connect = sys.argv[1], *map(int, sys.argv[2:])\n"
    "one = socket.create_connection((address, echo), 5)\n"
    "one.sendall(b'there and back')\n"
    "assert one.recv(64) == b'there and back'\n"
    "two = socket.create_connection((address, stream), 5)\n"
    "two.sendall(b'r' + (300_000).to_bytes(8, 'big') + bytes(300_000))\n"
    "assert two.recv(1) == b'!'\n"
    "two.sendall(b's' + (300_000).to_bytes(8, 'big'))\n"
    "left = 300_000\n"
    "while left: left -= len(two.recv(left))\n"
    "three = socket.create_connection((address, connect), 5)\n"
    "assert three.recv(1) == b''\n"
    "print('all')\n"
)


def host_devices() -> set[str]:
    """Names of the host's network devices, and its namespaces with a name."""
    named = Path("/run/netns")
    return {name for _, name in socket.if_nameindex()} | {str(path) for path in named.glob("*")}


@contextlib.contextmanager
def private_network() -> Iterator[tuple[int, int]]:
    """A process in a network namespace of its own, and that one's inode."""
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as process:
        try:
            host = Path("/proc/self/ns/net").stat().st_ino
            path = Path(f"/proc/{process.pid}/ns/net")
            wait_until(lambda: path.stat().st_ino != host)
            yield process.pid, path.stat().st_ino
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must become true."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def devices_of(pid: int) -> str:
    """What ip(8) lists in the network namespace of a process."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-brief", "address"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


def talk(link: network.Link, *prefix: str) -> str:
    """What a client says that uses all that the host side serves."""
    ports = map(str, (link.echo_port, link.stream_port, link.connect_port))
    command = [*prefix, sys.executable, "-I", "-S", "-c", CLIENT, link.address, *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or done.stderr


def test_a_veth_pair_shows_in_neither_end_of_the_hosts_network() -> None:
    """Both ends are in private namespaces, what is served answers across them, and closing the link removes the pair."""
    before = host_devices()
    with private_network() as (pid, number):
        link = network.open_link(network.Kind.VETH, (CPU,), number)
        assert host_devices() == before
        assert peer.INSIDE_ADDRESS in devices_of(pid)
        assert talk(link, "nsenter", f"--net=/proc/{pid}/ns/net") == "all"
        link.close()
        wait_until(lambda: peer.DEVICE not in devices_of(pid))
    assert host_devices() == before


@pytest.mark.parametrize("kind", [network.Kind.NAMESPACE, network.Kind.TAP])
def test_a_namespace_to_be_started_in(kind: network.Kind) -> None:
    """An engine that takes devices over when it starts finds one end of the link; the host's network shows nothing of it."""
    before = host_devices()
    link = network.open_link(kind, (CPU,))
    try:
        assert link.namespace is not None
        assert host_devices() == before
        assert peer.DEVICE in devices_of(int(link.namespace.parts[2]))
        assert talk(link, "nsenter", f"--net={link.namespace}") == "all"
    finally:
        link.close()
    assert not link.namespace.exists()


def test_the_loopback() -> None:
    """bare needs no pair: the host side answers on the host's own loopback, and its ports are free afterwards."""
    link = network.open_link(network.Kind.LOOPBACK, (CPU,))
    assert talk(link) == "all"
    link.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((link.address, link.echo_port), 5)


def test_a_killed_controller_leaves_no_pair() -> None:
    """SIGKILL of whoever opened the link: the host side's processes end with it, and the pair goes with them."""
    with private_network() as (pid, number):
        program = (
            "import sys, time\n"
            "from vprobe.environments import network\n"
            f"link = network.open_link(network.Kind.VETH, ({CPU},), {number})\n"
            "print(link.process.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as controller:
            assert controller.stdout is not None
            side = int(controller.stdout.readline())
            assert peer.DEVICE in devices_of(pid)
            controller.send_signal(signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{side}").exists())
        wait_until(lambda: peer.DEVICE not in devices_of(pid))


def test_without_root_it_says_why() -> None:
    """A normal user is told what a pair takes; that is the reason of the skip."""
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-I", "-S", "-", str(CPU), "veth", "1"]
    source = Path(peer.__file__).read_text(encoding="utf-8")
    done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip("this interpreter cannot be used by another user")
    assert done.stdout.startswith("failed only root can make a veth pair")


def test_a_namespace_that_is_gone_is_said() -> None:
    """No process in it: a reason, not a traceback."""
    with pytest.raises(network.NoLinkError, match="no process is in the environment"):
        network.open_link(network.Kind.VETH, (CPU,), 1)


@pytest.mark.engine("runc", "runsc")
@pytest.mark.slow
def test_the_suite(tmp_path: Path) -> None:
    """Each workload of the suite in bare, in a container and in gVisor, whose own network stack takes several times as long;
    a chroot shares the host's network and is left out with that reason."""
    before = host_devices()
    words = ["bench", "--env", "bare,chroot,runc,gvisor", "--select", "network.*", "--boots", "1", "-o", "run.json"]
    command = [sys.executable, "-m", "vprobe", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert host_devices() == before
    run = runfile.load(tmp_path / "run.json")
    assert {visit.workload for visit in run.visits} == {
        f"network.{w}" for w in ("round_trip", "send", "receive", "connect")
    }
    for visit in run.visits:
        assert set(visit.samples) == {"bare", "bare-aa", "runc", "gvisor"}
        middle = {arm: sorted(s.values)[len(s.values) // 2] for arm, s in visit.samples.items()}
        if visit.workload == "network.round_trip":
            assert middle["gvisor"] > 1.5 * middle["bare"]
            assert middle["runc"] < middle["gvisor"]
    assert {skip.arm for skip in run.skipped} == {"chroot"}
    assert all("no network of its own" in skip.reason for skip in run.skipped)
