"""Redis against redis-benchmark, called directly on a server of its own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vprobe.suites.applications import REQUESTS

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate
from oracles.programs import Blocks, ProgramError
from vprobe.measure.calibration import BlockSize

ROUNDS = 6
START_TIMEOUT_S = 5.0

SESSION = """
redis-server --port 0 --unixsocket "$1/socket" --save "" --appendonly no --dir "$1" >/dev/null 2>&1 &
trap "kill -9 $!" EXIT
while read -r _; do
    redis-benchmark -s "$1/socket" -t "$2" -n "$3" --csv | awk -F '"' 'END { printf "%.3f\\n", 1e9 / $4 }'
done
"""
"""As from one shell: server and benchmark are in one session, as ours are. Where the kernel balances sessions (sched(7),
autogroup), two of them on one CPU take turns in another way. It prints ns a request, by the rate that redis-benchmark tells."""


@contextlib.contextmanager
def by_hand(cpu: int, operation: str) -> Iterator[Blocks]:
    """A redis-server without persistence on a Unix socket, and a run of redis-benchmark for each call."""
    with tempfile.TemporaryDirectory(prefix="vprobe-redis-") as directory:
        words = ("-c", SESSION, "session", directory, operation, REQUESTS)
        with Blocks(Path(shutil.which("sh") or "/bin/sh"), cpu, *words) as session:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not Path(directory, "socket").exists():
                if time.monotonic() > deadline:
                    raise ProgramError("redis-server does not start")
                time.sleep(0.01)
            yield session


def against_redis(operation: str) -> Callable[[Bench, int], Iterator[Pair]]:
    """Runs of redis-benchmark, ours and theirs, by turns."""

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for _ in range(count):
            with (
                by_hand(bench.cpu, operation) as theirs,
                bench.prepared(f"applications.redis[{operation}]", iterations=1) as ours,
            ):
                ours.size = BlockSize(1, 0)
                yield alternate(ours, theirs, ROUNDS)

    return pairs


ROWS = tuple(
    Row(
        f"applications.redis[{operation}]", f"redis-benchmark -t {operation}", 0.10, against_redis(operation),
        programs=("redis-server", "redis-benchmark"), packages=("redis-server", "redis-tools"),
    )
    for operation in ("set", "get")
)  # fmt: skip
