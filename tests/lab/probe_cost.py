"""What `vprobe probe --json` costs beside the tools that it replaces, and where the time of the library call goes.

    .venv/bin/python tests/lab/probe_cost.py [ROUNDS]

Every round starts each command once, in turn, so that what disturbs the machine disturbs all of them alike. Medians of wall
time. Exit code 1 where it takes more than 1.5 times the sum of the four small tools, or more than a sixth of py-cpuinfo.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SMALL_TOOLS = {
    "cpuid -1": ["cpuid", "-1"],
    "virt-what": ["virt-what"],
    "systemd-detect-virt": ["systemd-detect-virt"],
    "kvm-ok": ["kvm-ok"],
}
PROBE = [str(Path(sys.executable).parent / "vprobe"), "probe", "--json"]
PY_CPUINFO = [sys.executable, "-m", "cpuinfo", "--json"]


def main() -> int:
    """Measure, print, judge."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 41
    missing = [name for name, command in SMALL_TOOLS.items() if shutil.which(command[0]) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}")
        return 3
    commands = {"vprobe probe --json": PROBE, "py-cpuinfo": PY_CPUINFO, **SMALL_TOOLS}
    medians = {name: statistics.median(times) for name, times in _interleaved(commands, rounds).items()}
    for name, median_ms in medians.items():
        print(f"{median_ms:8.1f} ms  {name}")
    small = sum(medians[name] for name in SMALL_TOOLS)
    ours = medians["vprobe probe --json"]
    print(f"{ours / small:8.2f} of the four small tools together ({small:.1f} ms), at most 1.5")
    print(f"{ours / medians['py-cpuinfo']:8.2f} of py-cpuinfo, at most 0.167")
    print("\nthe library call, in one process:")
    for name, took_ms in _breakdown().items():
        print(f"{took_ms:8.2f} ms  {name}")
    return int(ours > 1.5 * small or ours > medians["py-cpuinfo"] / 6)


def _interleaved(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def _breakdown(repetitions: int = 21) -> dict[str, float]:
    """Median ms of each step of vprobe.probe_host() and of writing the document."""
    from vprobe.probe import probe_host
    from vprobe.probe.report import decode
    from vprobe.probe.sources import live
    from vprobe.probe.sources.kvm import read_kvm
    from vprobe.probe.sources.tree import read_tree

    cpus = live._allowed_cpus()
    raw, report = live.read_live(), probe_host()
    instructions = sum(len(leaves) for leaves in raw.cpuid.values())
    steps: dict[str, Callable[[], object]] = {
        f"CPUID: {instructions} leaves of {len(cpus)} CPUs": lambda: live._read_cpuid(cpus),
        "files": lambda: read_tree("/", with_cpuid=True),
        "/dev/kvm, with a VM created and closed": read_kvm,
        "msr device": lambda: live._read_msrs(cpus),
        "decoding": lambda: decode(raw),
        "document and JSON": lambda: json.dumps(report.document(), indent=1),
        "all of probe_host()": probe_host,
    }
    return {name: _median_ms(step, repetitions) for name, step in steps.items()}


def _median_ms(step: Callable[[], object], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
