"""Linux guests on KVM, proven on a machine that has VT-x or AMD-V: all of it by one command, with a result file.

    make validate-kvm        (writes validate-kvm.json and validate-kvm-run.json)

What it does: the probe; the trial boot; a run of bare, kvm, qemu-kvm, qemu-kvm:emulated and qemu-tcg; the promises of every
environment for qemu-kvm (killed in every phase, nothing left); the start compared with virtme-ng. Where KVM cannot run a guest
the file says why, and the exit code is 1.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vprobe import environments
from vprobe.environments import Unavailable
from vprobe.probe import probe_host

RESULT, RUN = Path("validate-kvm.json"), Path("validate-kvm-run.json")
TAIL = 4000
ENVIRONMENTS = "bare,kvm,qemu-kvm,qemu-kvm:emulated,qemu-tcg"
PROMISES = ("tests/integration/test_environments.py", "-k", "qemu-kvm", "-q", "--tb=short", "-rs")
STEPS = {
    "bench": ("-m", "vprobe", "bench", "--env", ENVIRONMENTS, "--preset", "default", "-o", str(RUN), "--json"),
    "promises": ("-m", "pytest", *PROMISES),
    "start": ("tests/validation/guest_start.py", "--accelerator", "kvm"),
}


def perform(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Run one step: its exit code, how long it took, and what it printed last."""
    before = time.monotonic()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    return {
        "command": ["python", *arguments],
        "exit_code": done.returncode,
        "seconds": round(time.monotonic() - before, 1),
        "stdout": done.stdout[-TAIL:],
        "stderr": done.stderr[-TAIL:],
    }


def main() -> int:
    """Do it and write the file."""
    document = probe_host().document()
    result: dict[str, Any] = {
        "schema": "vprobe.validate-kvm/1",
        "kernel": platform.release(),
        "cpu": document["cpu"]["brand"],
        "hypervisor": document["hypervisor"]["kind"],
        "kvm": document["kvm"],
        "steps": {},
    }
    found = environments.get("qemu-kvm").availability()
    if isinstance(found, Unavailable):
        result["verdict"], result["reason"], result["remedy"] = "cannot", found.reason, found.remedy
    else:
        for name, arguments in STEPS.items():
            print(f"{name} …", file=sys.stderr, flush=True)
            result["steps"][name] = perform(arguments)
        failed = [name for name, step in result["steps"].items() if step["exit_code"]]
        result["verdict"], result["reason"] = ("fail", f"failed: {', '.join(failed)}") if failed else ("pass", "")
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    because = f": {result['reason']}" if result["reason"] else ""
    print(f"{result['verdict']}{because} ({RESULT})")
    return 0 if result["verdict"] == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
