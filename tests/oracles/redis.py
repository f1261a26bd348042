"""Redis against redis-benchmark, called directly on a server of its own."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vprobe.suites.applications import REQUESTS

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate
from oracles.programs import ProgramError, pinned, run
from vprobe.measure.calibration import BlockSize

ROUNDS = 6
START_TIMEOUT_S = 5.0


@contextlib.contextmanager
def server(cpu: int) -> Iterator[Path]:
    """A redis-server without persistence on a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="vprobe-redis-") as directory:
        socket = Path(directory, "socket")
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", directory]
        process = subprocess.Popen(
            pinned(cpu, ["redis-server", *options]),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not socket.exists():
                if time.monotonic() > deadline or process.poll() is not None:
                    raise ProgramError("redis-server does not start")
                time.sleep(0.01)
            yield socket
        finally:
            process.kill()
            process.wait()


def redis_benchmark(socket: Path, cpu: int, operation: str) -> float:
    """ns a request, by the throughput that it prints."""
    told = run(["redis-benchmark", "-s", socket, "-t", operation, "-n", str(REQUESTS), "-q"], cpu)
    words = told.replace("\r", "\n").strip().splitlines()[-1].split()
    try:
        return 1e9 / float(words[1])
    except (IndexError, ValueError):
        raise ProgramError("redis-benchmark tells no rate") from None


def against_redis(operation: str) -> Callable[[Bench, int], Iterator[Pair]]:
    """Runs of redis-benchmark, ours and theirs, by turns."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for _ in range(count):
            with server(bench.cpu) as socket, bench.prepared(f"applications.redis[{operation}]", iterations=1) as ours:
                ours.size = BlockSize(1, 0)
                yield alternate(ours, functools.partial(redis_benchmark, socket, bench.cpu, operation), ROUNDS)

    return pairs


ROWS = tuple(
    Row(
        f"applications.redis[{operation}]", f"redis-benchmark -t {operation}", 0.10, against_redis(operation),
        programs=("redis-server", "redis-benchmark"), packages=("redis-server", "redis-tools"),
    )
    for operation in ("set", "get")
)  # fmt: skip
