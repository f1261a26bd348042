"""TCP over loopback against iperf3 and sockperf, all processes on one CPU."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate, over
from oracles.programs import ProgramError, pinned, run

SIZE = "1G"
START_TIMEOUT_S = 5.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def server(cpu: int, port: int, *words: str) -> Iterator[None]:
    """A server for as long as the context, once it listens."""
    process = subprocess.Popen(
        pinned(cpu, words),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not listens(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise ProgramError(f"{words[0]} does not listen")
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether a TCP socket listens on that port, as the kernel's table says: a connection would be taken for a client."""
    tables = [Path("/proc/net", name) for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == LISTEN for row in rows)


LISTEN = "0A"
"""<linux/tcp_states.h>: TCP_LISTEN."""


def iperf3(cpu: int, *reverse: str) -> float:
    """Bytes per second of one TCP stream, as the receiver counts."""
    port = free_port()
    with server(cpu, port, "iperf3", "--server", "--one-off", "--port", str(port)):
        options = [
            "--client",
            "127.0.0.1",
            "--port",
            str(port),
            "--bytes",
            SIZE,
            "--length",
            "128K",
            "--json",
            *reverse,
        ]
        told = json.loads(run(["iperf3", *options], cpu))
    return float(told["end"]["sum_received"]["bits_per_second"]) / 8


def sockperf(cpu: int) -> float:
    """ns of a round trip."""
    port = free_port()
    with server(cpu, port, "sockperf", "server", "--tcp", "--ip", "127.0.0.1", "--port", str(port)):
        options = ["--tcp", "--ip", "127.0.0.1", "--port", str(port), "--time", "1", "--full-rtt"]
        told = run(["sockperf", "ping-pong", *options], cpu)
    found = re.search(r"(?:percentile 50\.000|median|50\.000)\D*=\s*([\d.]+)", told)
    if found is None:
        raise ProgramError("sockperf does not tell the median")
    return float(found[1]) * 1e3


def against(name: str, theirs: Callable[[int], float]) -> Callable[[Bench, int], Iterator[Pair]]:
    """Our blocks and runs of the program, by turns."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for _ in range(count):
            with bench.prepared(name, BLOCK_NS) as ours:
                yield alternate(over(ours, BLOCKS), lambda: theirs(bench.cpu), ROUNDS)

    return pairs


BLOCKS, BLOCK_NS, ROUNDS = 20, 10_000_000, 2
"""Of ours, about as long as one run of theirs."""

ROWS = (
    Row("network.send", "iperf3", 0.20, against("network.send", iperf3), programs=("iperf3",), packages=("iperf3",)),
    Row(
        "network.receive", "iperf3 --reverse", 0.20, against("network.receive", lambda cpu: iperf3(cpu, "--reverse")),
        programs=("iperf3",), packages=("iperf3",),
    ),
    Row(
        "network.round_trip", "sockperf ping-pong", 0.20, against("network.round_trip", sockperf),
        programs=("sockperf",), packages=("sockperf",),
    ),
)  # fmt: skip
