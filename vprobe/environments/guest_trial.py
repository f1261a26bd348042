"""Whether KVM runs a Linux guest here is found out by booting one; the verdict is kept in the cache, since that takes seconds.

A verdict holds for this boot of the host, this QEMU and this kernel. KVM alone does not tell: kvm_pvm creates machines
gladly, and then emulates a kernel that is not built for it instruction by instruction.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vprobe.environments import Launch, Unavailable, guest_kernel, sessions, trial
from vprobe.errors import RunError

if TYPE_CHECKING:
    from vprobe.environments.guest import GuestSession, LinuxGuest
    from vprobe.environments.guest_kernel import Kernel

TIMEOUT_S = 30.0
PVM_TIMEOUT_S = 8.0
"""A guest that works answers in about a second. Where kvm_pvm is at work the likely outcome is none, so the wait is shorter."""
PVM = Path("/sys/module/kvm_pvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WORD = b"vprobe"
ARGV = ("/bin/sh", "-c", f"echo {WORD.decode()}")


def key(program: str, kernel: Kernel, machine: object) -> str:
    """What a verdict depends on."""
    files = [(os.path.realpath(path), Path(path).stat().st_mtime_ns) for path in (program, kernel.image)]
    modules = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if Path("/sys/module", name).exists()]
    facts = repr((BOOT_ID.read_text(encoding="ascii"), files, modules, machine, os.geteuid()))
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def verdict(environment: LinuxGuest, program: str, kernel: Kernel) -> Unavailable | None:
    """None if a guest boots and answers, else why not: from the cache, or by a trial boot."""
    file = guest_kernel.cache() / "trials" / f"{key(program, kernel, environment.machine)}.json"
    try:
        reason, remedy = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        found = boot(environment)
        reason, remedy = ("", "") if found is None else (found.reason, found.remedy)
        keep(file, json.dumps([reason, remedy]))
    return Unavailable(reason, remedy) if reason else None


def keep(file: Path, text: str) -> None:
    """Write a verdict whole or not at all. The cache may be unwritable: then the next call tries again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as temporary:
            temporary.write(text)
        Path(temporary.name).replace(file)
    except OSError:
        return


def boot(environment: LinuxGuest) -> Unavailable | None:
    """Boot a guest that says one word. None if it was heard."""
    pvm = PVM.exists()
    timeout_s = (PVM_TIMEOUT_S if pvm else TIMEOUT_S) * trial.slowness()
    with sessions.open_run() as directory:
        launch = Launch(ARGV, directory.new_session(), directory.scratch)
        try:
            with environment.start(launch) as session:
                if heard(session, timeout_s):
                    return None
                said, state = session.stderr_tail(), session.state()
        except RunError as error:
            return Unavailable(error.message, error.hint)
    if pvm:
        return Unavailable(
            f"guest kernel is not PVM-aware: on kvm_pvm its trial boot did not reach user space within {timeout_s:.0f} s",
            "pass --kernel FILE with a kernel that is built as a PVM guest",
        )
    console = f"; its console: {said}" if said else "; its console is empty"
    return Unavailable(
        f"the trial boot did not reach user space within {timeout_s:.0f} s (QEMU: {state}){console}",
        "pass another kernel with --kernel FILE; see 'vprobe check kvm'",
    )


def heard(session: GuestSession, timeout_s: float) -> bool:
    """Whether the guest says its word before its channel ends or the time is up."""
    deadline, seen = time.monotonic() + timeout_s, b""
    while WORD not in seen:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([session.from_agent], [], [], left_s)[0]:
            return False
        chunk = os.read(session.from_agent, 4096)
        if not chunk:
            return False
        seen = (seen + chunk)[-64:]
    return True
