"""An sshd of the tests' own: its own keys, configuration and port, and a HOME whose ssh_config calls it localhost."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vprobe.environments import guest_kernel

SSHD = shutil.which("sshd", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin")
CONFIGURATION = """
ListenAddress {address}
Port {port}
HostKey {place}/host_key
AuthorizedKeysFile {place}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv TMPDIR={temporary}
"""
CLIENT = """
Host localhost
    HostName {address}
    Port {port}
    User {user}
    IdentityFile {place}/key
    IdentitiesOnly yes
    UserKnownHostsFile {place}/known_hosts
    GlobalKnownHostsFile {place}/none
"""


@dataclass(frozen=True)
class Server:
    """A running sshd. `home`: the HOME that knows it. `pid` leads its processes."""

    place: Path
    home: Path
    port: int
    pid: int


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_key(path: Path, passphrase: str = "") -> str:
    """A fresh key pair; the public part."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_suffix(".pub").read_text()


def configure(place: Path, address: str, port: int, temporary: Path) -> Path:
    """Write keys and configuration of both sides into a directory; the HOME that knows the server as localhost."""
    host_key = make_key(place / "host_key")
    (place / "authorized_keys").write_text(make_key(place / "key"))
    (place / "known_hosts").write_text(f"[{address}]:{port} {host_key}")
    words = {"place": place, "address": address, "port": port, "temporary": temporary, "user": getpass.getuser()}
    (place / "sshd_config").write_text(CONFIGURATION.format(**words))
    home = place / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(CLIENT.format(**words))
    return home


@contextlib.contextmanager
def serving(place: Path) -> Iterator[Server]:
    """Start it, wait until it answers, and end it."""
    assert SSHD
    port = free_port()
    (place / "tmp").mkdir()
    home = configure(place, "127.0.0.1", port, place / "tmp")
    daemon = [SSHD, "-D", "-e", "-f", str(place / "sshd_config")]
    if os.geteuid() == 0:  # it insists on a directory below /run: it gets one of its own
        script = 'mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec "$@"'
        daemon = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *daemon]
    command = ["setpriv", "--pdeathsig", "TERM", *daemon]
    with (place / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                    break
                assert process.poll() is None, (place / "log").read_text()
                assert time.monotonic() < deadline, (place / "log").read_text()
                time.sleep(0.02)
            yield Server(place, home, port, process.pid)
        finally:
            process.terminate()
            process.wait(10)


@contextlib.contextmanager
def preferred() -> Iterator[None]:
    """Within the block localhost is such an sshd to ssh, where there is one to start; the guests' kernel stays where it is."""
    if SSHD is None:
        yield
        return
    with (
        tempfile.TemporaryDirectory(prefix="vps") as place,
        pytest.MonkeyPatch.context() as patch,
        serving(Path(place)) as server,
    ):
        patch.setenv("XDG_CACHE_HOME", str(guest_kernel.cache().parents[1]))
        patch.setenv("HOME", str(server.home))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        yield
