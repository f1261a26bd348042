"""A host whose only cgroups are version 2's: limits on CPU time and memory hold behind every kind of boundary."""

from __future__ import annotations

import json

from lab.bench import Bench, Problems, Row
from lab.guest import Answer
from lab.qemu import Qemu

ENVIRONMENTS = ("bare", "namespaces", "bubblewrap", "nspawn", "lxc", "runc", "crun")
SCRIPT = f"""
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +cpu +memory +pids > /sys/fs/cgroup/cgroup.subtree_control
probe guest; tools guest
step limits
$PYTHON $LAB/lab/limited.py {" ".join(ENVIRONMENTS)} > $OUT/limited.json
"""
MOST_CPUS = 0.6
"""Where 0.5 are allowed: what a loop gets before the first period is over counts, too."""
KILLED = 128 + 9
"""A shell's status of a command that SIGKILL ended: the kernel's, for memory that is not allowed."""


def held(answer: Answer) -> Problems:
    """Everywhere the loop was held back and the hungry program killed, without limits neither; nothing is left."""
    said = json.loads(answer.text("limited.json") or "null")
    if said is None:
        return [f"no limits were tried: {answer.text('errors').strip()[-1500:]}"]
    problems = [] if said["membership"] == "0::/\n" else [f"cgroups of version 1, too: {said['membership']!r}"]
    problems += [f"left behind: {path}" for path in said["left"]]
    for name, seen in said["environments"].items():
        if "trouble" in seen:
            problems.append(f"{name}: {seen['trouble']}")
            continue
        limited = name != "unlimited"
        if (seen["share"] < MOST_CPUS) != limited or seen["share"] < 0.1:
            problems.append(f"{name}: a greedy loop got {seen['share']:.2f} of a CPU")
        if seen["status"] != (KILLED if limited else 0):
            problems.append(f"{name}: 500 MB were asked for with status {seen['status']}")
    return problems + ([] if {*ENVIRONMENTS} < {*said["environments"]} else ["environments are missing"])


BENCHES = (
    Bench(
        name="cgroup2",
        about="cgroup v2 alone: CPU time and memory are limited in seven environments",
        machine=Qemu(memory_mib=2048, limit_s=900),
        script=SCRIPT,
        views={
            "guest": Row(
                amdv="present",
                controls=3,
                reason="VM_CR does not disable SVM",
                layers="qemu (full-software)",
                role="guest",
            )
        },
        check=held,
    ),
)
