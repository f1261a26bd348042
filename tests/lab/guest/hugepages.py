"""Runs in a guest with KVM: a guest of its own, whose memory are huge pages.

Prints one JSON object: how many huge pages were free "before", "while" that guest answered, and "after" it; what it was given,
"bytes"; or "trouble": why there was no such guest.
"""

import json
import re
import sys
from pathlib import Path

from vprobe import environments
from vprobe.environments import Limits, Unavailable, guest, sessions
from vprobe.errors import VprobeError
from vprobe.measure.plan import PlannedArm
from vprobe.measure.sessions import Site, started
from vprobe.model import Arm

NAME = "qemu-kvm:hugepages"


def free():
    return int(re.search(r"HugePages_Free: +(\d+)", Path("/proc/meminfo").read_text())[1])


def measured():
    environment = environments.get(NAME)
    found = environment.availability()
    if isinstance(found, Unavailable):
        return {"trouble": found.reason}
    answers = {"before": free(), "bytes": guest.memory_mib(Limits(), hugepages=True) << 20}
    try:
        with sessions.open_run() as run, started(PlannedArm(Arm(NAME, NAME), environment), Site(run, Path("/"), 1.0)):
            answers["while"] = free()
    except VprobeError as error:
        return {"trouble": error.message}
    return {**answers, "after": free()}


json.dump(measured(), sys.stdout)
