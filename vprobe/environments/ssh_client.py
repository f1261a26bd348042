"""Connects standard input and output with a program on another machine: the engine of the environment ssh.

Run as a process of its own under a session's supervisor: `python -m vprobe.environments.ssh_client HOST COMMAND FILE` sends the
bytes of FILE first. It uses the user's ssh_config and known_hosts and the keys of agent and files; it never asks for
anything. Ends with the program's exit status, or with 255 after one line that says why there is no connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import asyncssh

FAILED = 255
CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 15.0
WATERMARK_BYTES = 1 << 20
CONFIGURATIONS = ("~/.ssh/config", "/etc/ssh/ssh_config")
KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
"""The defaults of UserKnownHostsFile and GlobalKnownHostsFile, see ssh_config(5)."""


def readable(paths: Sequence[str]) -> list[str]:
    """Those of the paths that can be read."""
    return [str(path) for path in map(Path.expanduser, map(Path, paths)) if os.access(path, os.R_OK)]


def options(host: str) -> asyncssh.SSHClientConnectionOptions:
    """How to connect: as OpenSSH would, but without a question. ValueError where the configuration cannot be used."""
    user, at, name = host.rpartition("@")
    words: dict[str, Any] = {
        "host": name,
        "config": readable(CONFIGURATIONS),
        "password_auth": False,
        "kbdint_auth": False,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "login_timeout": CONNECT_TIMEOUT_S,
        "keepalive_interval": KEEPALIVE_S,
        **({"username": user} if at else {}),
    }
    found = asyncssh.SSHClientConnectionOptions(**words)
    # Nothing, and "none", would be to asyncssh that every host is trusted; a file that is missing, an error.
    configured = cast("Sequence[str]", found.known_hosts)
    known_hosts = readable(configured or KNOWN_HOSTS)
    return asyncssh.SSHClientConnectionOptions(found, known_hosts=known_hosts or b"")


class Relay(asyncssh.SSHClientSession[bytes]):
    """Copies between the channel and the standard descriptors, without a buffer of its own in the way."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.status = FAILED
        self.at_end = False
        self.loop = asyncio.get_running_loop()
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Before the program runs."""
        self.channel = chan
        chan.set_write_buffer_limits(WATERMARK_BYTES)

    def begin(self, payload: bytes) -> None:
        """Send what comes first, then whatever standard input says."""
        assert self.channel is not None
        self.resume_writing()
        self.channel.write(payload)

    def pause_writing(self) -> None:
        """The other side is slow."""
        self.loop.remove_reader(0)

    def resume_writing(self) -> None:
        """The other side has caught up."""
        if not self.at_end:
            self.loop.add_reader(0, self._forward)

    def _forward(self) -> None:
        assert self.channel is not None
        data = os.read(0, 65536)
        if data:
            self.channel.write(data)
        else:
            self.at_end = True
            self.loop.remove_reader(0)
            self.channel.write_eof()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """From the program."""
        target = 2 if datatype == asyncssh.EXTENDED_DATA_STDERR else 1
        while data:
            data = data[os.write(target, data) :]

    def exit_status_received(self, status: int) -> None:
        """The program has ended."""
        self.status = status

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed."""
        self.loop.remove_reader(0)
        if exc is not None:
            os.write(2, f"vprobe ssh: {reason(exc)}\n".encode())
        if not self.ended.done():
            self.ended.set_result(None)


async def relay(host: str, command: str, payload: bytes) -> int:
    """Run a command over there; its exit status."""
    session = Relay()
    async with await asyncssh.connect(host.rpartition("@")[2], options=options(host)) as connection:
        await connection.create_session(lambda: session, command, encoding=None)
        session.begin(payload)
        await session.ended
    return session.status


def reason(error: Exception) -> str:
    """What went wrong, in a line. The words before the colon are those that vprobe.environments.ssh has remedies for."""
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return f"host key: {error.reason}"
    if isinstance(error, asyncssh.PermissionDenied):
        return f"permission denied: {error.reason}"
    if isinstance(error, asyncssh.DisconnectError):
        return f"no connection: {error.reason}"
    if isinstance(error, (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, asyncssh.ConfigParseError, ValueError)):
        return f"configuration: {error}"
    if isinstance(error, TimeoutError):
        return f"no connection: no answer within {CONNECT_TIMEOUT_S:.0f} s"
    if isinstance(error, socket.gaierror):
        return f"unknown host: {error.strerror}"
    if isinstance(error, OSError) and error.filename:
        return f"configuration: {error.filename}: {error.strerror}"
    if isinstance(error, OSError):
        return f"no connection: {os.strerror(error.errno) if error.errno else error}"
    return f"no connection: {error}"


def main() -> None:
    """Entry point."""
    host, command, file = sys.argv[1:]
    try:
        status = asyncio.run(relay(host, command, Path(file).read_bytes()))
    except (asyncssh.Error, OSError, ValueError) as error:
        sys.stderr.write(f"vprobe ssh: {' '.join(reason(error).split())}\n")
        status = FAILED
    sys.stderr.flush()
    os._exit(status)  # nothing is left to be finished, and asyncio's executor would take its time


if __name__ == "__main__":
    main()
