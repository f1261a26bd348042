"""Runs in a guest: the same CPU time and memory are allowed in one environment after another, and two commands ask for more.

    limited.py ENVIRONMENT…

Prints one JSON object: "environments": name -> {"share" of a CPU that a greedy loop got, "status" of a program that fills
500 MB of memory} or {"trouble": why there was neither}; bare without limits is "unlimited". "membership": the cgroups that
this process is in; "left": those that were not there before.
"""

import json
import sys
from pathlib import Path

from vprobe import environments
from vprobe.environments import Limits, Unavailable, sessions
from vprobe.environments.limits import obstacle
from vprobe.errors import VprobeError
from vprobe.measure.plan import PlannedArm
from vprobe.measure.protocol import CommandReply
from vprobe.measure.sessions import Site, started
from vprobe.model import Arm

LIMITS = Limits(cpus=0.5, memory_bytes=300 << 20)
GREEDY = "exec /usr/bin/timeout 2 /bin/sh -c 'while :; do :; done'"
HUNGRY = f"{sys.executable} -I -S -c 'b\"x\" * 524288000'; exit $?"  # by an emulated CPU far faster than through a pipe
TIMEOUT_S = 120.0
CGROUPS = Path("/sys/fs/cgroup")


def cgroups():
    return {str(path) for path in CGROUPS.rglob("*") if path.is_dir()}


def asked_for_more(name, limits):
    environment = environments.get(name)
    for found in (environment.availability(), obstacle(name, limits)):
        if isinstance(found, Unavailable):
            return {"trouble": found.reason}
    try:
        with sessions.open_run() as run:
            site = Site(run, Path("/"), 1.0, limits=limits)
            with started(PlannedArm(Arm(name, name), environment), site) as agent:
                greedy, hungry = (
                    agent.channel.request({"op": "command", "command": command}, CommandReply, TIMEOUT_S)
                    for command in (GREEDY, HUNGRY)
                )
    except VprobeError as error:
        return {"trouble": error.message}
    return {"share": (greedy.user_ns + greedy.system_ns) / greedy.ns, "status": hungry.status}


before = cgroups()
answers = {"unlimited": asked_for_more("bare", Limits())}
for name in sys.argv[1:]:
    Path("/dev/console").write_text(f"lab: step: limits in {name}\n")
    answers[name] = asked_for_more(name, LIMITS)
membership = Path("/proc/self/cgroup").read_text()
json.dump({"environments": answers, "membership": membership, "left": sorted(cgroups() - before)}, sys.stdout)
