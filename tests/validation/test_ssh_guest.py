"""ssh:HOST against a machine of its own: a Linux guest of QEMU's with an sshd, over its tap."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ssh_server

from vprobe import environments
from vprobe.environments import Launch, network, peer, sessions

pytestmark = [
    pytest.mark.root,
    pytest.mark.guest,
    pytest.mark.validation,
    pytest.mark.engine("qemu-system-x86_64", "sshd", "ip", "nsenter"),
]
CPU = max(os.sched_getaffinity(0))
PORT = 2222
PATIENCE_S = 60.0


@contextlib.contextmanager
def guest_with_sshd(place: Path) -> Iterator[network.Link]:
    """A guest that runs the host's sshd with keys of the test's own, and the tap that leads to it."""
    script = f"mkdir -m 755 /run/sshd && exec {ssh_server.SSHD} -D -e -f {place}/sshd_config"
    link = network.open_link(network.Kind.TAP, (CPU,))
    try:
        with sessions.open_run() as run:
            launch = Launch(
                ("/bin/sh", "-c", script),
                run.new_session(),
                run.scratch,
                read_only_paths=(place,),
                network_namespace=link.namespace,
            )
            with environments.get("qemu-tcg").start(launch) as session:
                deadline = time.monotonic() + PATIENCE_S
                while "Server listening" not in session.stderr_tail():
                    assert time.monotonic() < deadline, session.stderr_tail()
                    time.sleep(0.05)
                yield link
    finally:
        link.close()


def test_the_guest_is_named_as_what_it_is(tmp_path: Path) -> None:
    """A run over SSH measures in the guest, and the guest's own probe is in the run file: QEMU in software, another kernel."""
    home = ssh_server.configure(tmp_path, peer.INSIDE_ADDRESS, PORT, Path("/dev/shm"))
    variables = {**os.environ, "HOME": str(home), "SSH_AUTH_SOCK": ""}
    with guest_with_sshd(tmp_path) as link:
        bench = (
            "bench",
            "--env",
            "bare,ssh:localhost",
            "--select",
            "cpu.integer_chain",
            "--boots",
            "1",
            "-o",
            "run.json",
        )
        command = ["nsenter", f"--net={link.namespace}", sys.executable, "-m", "vprobe", *bench]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=180, check=False
        )
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run.json").read_text())
    there = run["environments"][-1]
    assert there["name"] == "ssh:localhost"
    assert there["class"] == "full-software"
    found = there["probe"]["hypervisor"]
    assert (found["state"], found["kind"], found["role"]) == ("present", "qemu", "guest")
    assert there["evidence"]["boot_id"] != run["environments"][0]["evidence"]["boot_id"]
    assert there["evidence"]["cpuid_signature"] == "TCGTCGTCGTCG"
    assert set(run["visits"][0]["samples"]) == {"bare", "bare-aa", "ssh:localhost"}
