"""TCP between an environment and the host side, which is a process at the other end of its veth pair or tap.

Bare reaches the host side over the host's own loopback: what that costs is what every network of an environment's own is held
against. Both ends run on the measured CPU, so a round trip is made of what both do, and of nobody's wake-up from idleness.
"""

from __future__ import annotations

import functools
import os
import socket
import struct

from . import Block, Place, UnsupportedError, native_extension, workload

CHUNK_BYTES = 128 * 1024
REQUEST = struct.Struct(">cQ")
"""What the host side takes: `r` and how many bytes it is to receive, `s` and how many it is to send."""
TIMEOUT_S = 20.0
LINGER_NOT = struct.pack("ii", 1, 0)
"""Close by a reset: a connection that both sides have closed leaves nothing behind, in particular no TIME-WAIT (socket(7))."""

_declare = functools.partial(workload, kind="python", needs=("python", "network"))
_declare_bandwidth = functools.partial(_declare, unit="B/s", better="higher")


def connected(place: Place, port: int) -> socket.socket:
    """A connection to the host side. UnsupportedError where that does not answer."""
    try:
        connection = socket.create_connection((place.peer, port), TIMEOUT_S)
    except OSError as error:
        raise UnsupportedError(f"{place.peer} does not answer from here: {error}") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    return connection


class Exchange:
    """What goes over one connection: an object that is called with a number of iterations."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class RoundTrips(Exchange):
    """One byte there and back, again and again, by the native kernel of the pipe's round trip."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.host = native_extension().KernelHost(0)

    def __call__(self, iterations: int) -> None:
        descriptor = self.connection.fileno()
        self.host.run("pipe_round_trip", 0, iterations, descriptor, descriptor)

    def close(self) -> None:
        self.host.close()
        super().close()


class Sending(Exchange):
    """Chunks to the host side, until it has them all. They hold random bytes: a fresh bytes(n) is one page of zeros, seen
    n / 4096 times, which lies in L1 however large n is."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.memory = os.urandom(CHUNK_BYTES)

    def __call__(self, iterations: int) -> None:
        send, memory = self.connection.sendall, self.memory
        send(REQUEST.pack(b"r", iterations * CHUNK_BYTES))
        for _ in range(iterations):
            send(memory)
        self.connection.recv(1)


class Receiving(Exchange):
    """Chunks from the host side."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.memory = bytearray(CHUNK_BYTES)

    def __call__(self, iterations: int) -> None:
        receive, memory = self.connection.recv_into, self.memory
        left = iterations * CHUNK_BYTES
        self.connection.sendall(REQUEST.pack(b"s", left))
        while left > 0:
            left -= receive(memory)


@_declare("network.round_trip", needs=("python", "network", "kernels"))
def round_trip(place: Place) -> Block:
    """One byte to the host side and back over a connection that stays: request and response."""
    return RoundTrips(connected(place, place.echo_port))


@_declare_bandwidth("network.send", parameters={"": {"block_bytes": CHUNK_BYTES}})
def send(place: Place, block_bytes: int) -> Block:
    """TCP throughput from the environment to the host side, by calls of 128 KiB."""
    del block_bytes
    return Sending(connected(place, place.stream_port))


@_declare_bandwidth("network.receive", parameters={"": {"block_bytes": CHUNK_BYTES}})
def receive(place: Place, block_bytes: int) -> Block:
    """TCP throughput from the host side to the environment, by calls of 128 KiB."""
    del block_bytes
    return Receiving(connected(place, place.stream_port))


@_declare("network.connect")
def connect(place: Place) -> Block:
    """Make a connection to the host side, which closes it at once: its reciprocal is connections per second."""
    connected(place, place.connect_port).close()
    target = (place.peer, place.connect_port)

    def run(iterations: int) -> None:
        for _ in range(iterations):
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            connection.connect(target)
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            connection.close()

    return run
