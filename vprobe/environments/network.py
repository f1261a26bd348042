"""Links between an environment and the host side: a process (peer.py) at the other end of a veth pair, a tap or the loopback.

How an environment is linked is a row of KINDS; every other one that has the capability "network" gets a veth pair into the
network namespace that it made for itself, once its agent has shown which that is.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from vprobe.environments import peer

READY_TIMEOUT_S = 15.0
END_TIMEOUT_S = 5.0


class Kind(StrEnum):
    """How an environment reaches the host side; the words of peer.py."""

    LOOPBACK = "loopback"  # it is in the host's own network
    VETH = "veth"  # a pair into its network namespace, made after it was started
    NAMESPACE = "namespace"  # it is started in a network namespace that holds one end of a pair
    TAP = "tap"  # the same, with a tap for a guest's network card


KINDS = {
    "bare": Kind.LOOPBACK,
    "bare-aa": Kind.LOOPBACK,
    "gvisor": Kind.NAMESPACE,  # it takes over what devices there are when it starts
    "qemu-kvm": Kind.TAP,
    "qemu-tcg": Kind.TAP,
}


class NoLinkError(Exception):
    """There is no link; the text says why, and becomes the reason of the skip."""


@dataclass
class Link:
    """A running peer: where it answers, and the network namespace that an environment is to be started in, if any."""

    process: subprocess.Popen[bytes]
    address: str
    echo_port: int
    stream_port: int
    connect_port: int
    namespace: Path | None

    def place(self) -> dict[str, str | int]:
        """What the agent is told: fields of suites.Place."""
        return {
            "peer": self.address,
            "echo_port": self.echo_port,
            "stream_port": self.stream_port,
            "connect_port": self.connect_port,
        }

    def close(self) -> None:
        """End the peer. Its network namespace, and the pair with it, goes with the last process in it."""
        _end(self.process)


def kind_of(environment: str) -> Kind:
    """How the environment of that name is linked."""
    return KINDS.get(environment.partition(":")[0], Kind.VETH)


def open_link(kind: Kind, cpus: Sequence[int], network_namespace: int = 0) -> Link:
    """Start a peer on these CPUs. `network_namespace`: for a VETH, the inode of the one that the environment is in.

    NoLinkError where there can be none: not root, no ip(8), no veth in this kernel.
    """
    words = [",".join(map(str, cpus)), kind.value, *([str(network_namespace)] if kind is Kind.VETH else [])]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", peer.__file__, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches only the controller, which then unwinds
        cwd="/",
    )
    try:
        return _linked(process)
    except BaseException:
        _end(process)
        raise


def _linked(process: subprocess.Popen[bytes]) -> Link:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], READY_TIMEOUT_S)[0]:
        raise NoLinkError(f"the host side was not ready within {READY_TIMEOUT_S:.0f} s")
    word, _, rest = process.stdout.readline().decode("utf-8", "replace").strip().partition(" ")
    if word != "ready":
        raise NoLinkError(rest or "the host side died")
    address, *numbers = rest.split()
    echo, stream, connect, keeper = map(int, numbers)
    return Link(process, address, echo, stream, connect, Path(f"/proc/{keeper}/ns/net") if keeper else None)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
