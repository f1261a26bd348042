"""Programs that people run: a database, a store of keys, a compiler. Each runs whole inside its environment."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

from . import FULL, Block, UnsupportedError, workload

REQUESTS = 5000
"""Of one run of redis-benchmark, which counts in milliseconds: enough for some forty of them, short enough for a round."""

START_TIMEOUT_S = 10.0


class Transactions:
    """A database of accounts in a file, and transfers between them, each a transaction."""

    ACCOUNTS = 1000

    def __init__(self, parent: str) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="vprobe-sqlite-", dir=parent)
        self.database = sqlite3.connect(Path(self.directory.name) / "accounts.db", isolation_level=None)
        self.database.execute("create table accounts (id integer primary key, balance integer not null)")
        self.database.execute("begin")
        self.database.executemany("insert into accounts values (?, 1000)", ((i,) for i in range(self.ACCOUNTS)))
        self.database.execute("commit")
        self.done = 0

    def __call__(self, iterations: int) -> None:
        run = self.database.execute
        for _ in range(iterations):
            self.done += 1
            source, target = self.done * 37 % self.ACCOUNTS, self.done * 101 % self.ACCOUNTS
            run("begin immediate")
            run("update accounts set balance = balance - 1 where id = ?", (source,))
            run("update accounts set balance = balance + 1 where id = ?", (target,))
            run("commit")

    def close(self) -> None:
        """Check that no money was lost, and remove the file."""
        (total,) = self.database.execute("select sum(balance) from accounts").fetchone()
        self.database.close()
        self.directory.cleanup()
        if total != 1000 * self.ACCOUNTS:
            raise AssertionError(f"the accounts hold {total}")


def directory_in_memory() -> str:
    """A directory on a tmpfs that can be written to. UnsupportedError where there is none."""
    kinds = {}
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123 - not a regular file
        for line in mounts:
            _, point, kind, *_ = line.split(" ")
            kinds[point] = kind
    for directory in ("/dev/shm", tempfile.gettempdir()):  # noqa: S108 - looked at, made sure of by mkdtemp
        if kinds.get(directory) == "tmpfs" and os.access(directory, os.W_OK):
            return directory
    raise UnsupportedError("neither /dev/shm nor the temporary directory is on a file system in memory")


@workload("applications.sqlite", kind="python", needs=("python", "os"))
def sqlite() -> Block:
    """A transaction of SQLite: two updates by key and a commit to a file with its journal, on a file system in memory.

    In memory, since what a disk takes to say that it has written is storage.fsync's business.
    """
    return Transactions(directory_in_memory())


def _installed(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise UnsupportedError(f"{program} is not installed there: apt-get install {package}")
    return found


class Redis:
    """A redis-server of its own on a Unix socket, without persistence, and redis-benchmark against it."""

    def __init__(self, operation: str) -> None:
        server, self.client = _installed("redis-server", "redis-server"), _installed("redis-benchmark", "redis-tools")
        self.operation = operation
        self.directory = tempfile.TemporaryDirectory(prefix="vprobe-redis-")
        self.socket = str(Path(self.directory.name) / "redis.sock")
        options = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--hz", "1"]
        self.server = subprocess.Popen(
            [server, *options, "--dir", self.directory.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.server.poll() is None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(self.socket)
                client.sendall(b"PING\r\n")
                if client.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.01)
        raise UnsupportedError(f"redis-server does not answer there (status {self.server.poll()})")

    def __call__(self, iterations: int) -> int:
        return sum(self._request_ns() for _ in range(iterations))

    def _request_ns(self) -> int:
        """ns a request, by redis-benchmark's own account: its start and end are not Redis's."""
        command = [self.client, "-s", self.socket, "-t", self.operation, "-n", str(REQUESTS), "--csv"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        # "test","rps",… then "SET","123456.78",…
        row = done.stdout.strip().splitlines()[-1].split(",")
        return round(1e9 / float(row[1].strip('"')))

    def close(self) -> None:
        """End the server."""
        self.server.kill()
        self.server.wait()
        self.directory.cleanup()


@workload(
    "applications.redis",
    kind="python",
    needs=("python", "os", "commands"),
    parameters={"set": {"operation": "set"}, "get": {"operation": "get"}},
    levels={"set": FULL},  # they tell much the same, and a round of one takes half a second for five arms
)
def redis(operation: str) -> Block:
    """A request to redis-server, by redis-benchmark with 50 clients over a Unix socket, both on the measured CPU.

    A block is 5000 requests; the value is the mean of one, by redis-benchmark's own account.
    """
    return Redis(operation)


def generated_source(functions: int) -> str:
    """A C program of so many functions, each with a loop, a branch and a switch over its own constants."""
    parts = ["#include <stdint.h>\n"]
    parts += [
        f"static uint64_t f{n}(uint64_t x) {{ for (int i = 0; i < {n + 3}; i++) {{ x = x * {2 * n + 1}u + (x >> {n % 31 + 1});"
        f" switch (x % {n % 5 + 3}) {{ case 0: x ^= {n * 77}u; break; case 1: x += i; break; default: x -= {n}u; }} }}"
        " return x; }\n"
        for n in range(functions)
    ]
    calls = " ^ ".join(f"f{n}(x)" for n in range(functions))
    return "".join([*parts, f"uint64_t all(uint64_t x) {{ return {calls}; }}\n"])


class Compilation:
    """The system's C compiler over a generated source."""

    def __init__(self, functions: int) -> None:
        self.compiler = _installed("cc", "gcc")
        self.directory = tempfile.TemporaryDirectory(prefix="vprobe-compile-")
        self.source = str(Path(self.directory.name) / "generated.c")
        self.object = str(Path(self.directory.name) / "generated.o")
        Path(self.source).write_text(generated_source(functions))

    def __call__(self, iterations: int) -> None:
        command = [self.compiler, "-O1", "-c", self.source, "-o", self.object]
        for _ in range(iterations):
            pid = os.posix_spawn(self.compiler, command, os.environ)
            _, status = os.waitpid(pid, 0)
            if status:
                raise OSError(f"{self.compiler} ended with status {status}")

    def close(self) -> None:
        """Remove the files."""
        self.directory.cleanup()


@workload("applications.compile", kind="python", needs=("python", "os", "commands"), parameters={"": {"functions": 20}})
def compile_c(functions: int) -> Block:
    """The system's C compiler (cc -O1 -c) over a generated source of 20 functions: processes, files, page faults."""
    return Compilation(functions)
