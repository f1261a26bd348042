"""Leads a session on another machine: runs the agent there, and sees to it that nothing is left when the connection ends.

This process came through sshd with the zipapp (vprobe.environments.shipment) in a memory file: nothing is written to this
machine's disk but what the session itself puts into a directory of its own, which goes with the session, or is swept by
the next one if this very process is killed. sshd closes our standard input when the connection ends, however that happens.

Standard library only, and Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

from vprobe.environments import sessions, supervisor
from vprobe.errors import VprobeError
from vprobe.measure.zipped import load_native
from vprobe.probe import probe_host

GRACE_S = 2.0
POLLRDHUP = 0x2000
"""<poll.h>; select has no name for it before Python 3.13. sshd's end is a socket or a pipe, as it was built."""


def describe(archive: str) -> dict[str, Any]:
    """What this machine is: for `vprobe envs`."""
    load_native(archive)
    system, version = os.uname(), sys.version.split()[0]
    return {
        "python": f"{sys.implementation.name} {version}",
        "system": f"{system.sysname} {system.release} {system.machine}",
        "probe": probe_host().document(),
    }


def become(instructions: dict[str, Any], archive: str, scratch: str) -> NoReturn:
    """In the child: turn into the agent, or into the program that was asked for."""
    try:
        supervisor.check(supervisor.libc.prctl(supervisor.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.environ.update(instructions["variables"])
        place = instructions["working_directory"]
        if instructions["elsewhere"] and not os.path.isdir(place):
            place = os.path.expanduser("~")
        os.chdir(place)
        argv = instructions["argv"]
        if instructions["agent"] is not None:
            options = json.dumps({**json.loads(instructions["agent"]), "scratch": scratch})
            argv = [sys.executable, "-I", "-S", archive, options]
        os.execvp(argv[0], argv)
    except BaseException as error:  # a forked child must never return into the parent's code
        os.write(2, f"vprobe: cannot start {instructions['argv'][0]}: {error}\n".encode())
    os._exit(127)


class Leader(supervisor.Subreaper):
    """Waits for the end of the agent, of the connection, or of the patience with either."""

    def run(self, instructions: dict[str, Any], archive: str, scratch: str) -> int:
        """The child's exit status, after the end of everything that it started."""
        self.child = os.fork()
        if self.child == 0:
            become(instructions, archive, scratch)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 1)  # so that the other side sees the end of the agent
        self.watch()
        while not self.reap():
            supervisor.signal_all(supervisor.descendants(os.getpid()), signal.SIGKILL)
            select.select([self.wake], [], [], 0.01)
        return self.child_status

    def watch(self) -> None:
        """Until the child has ended; for a while only once the connection has ended or a signal came."""
        poll = select.poll()
        poll.register(0, POLLRDHUP)
        poll.register(self.wake, select.POLLIN)
        deadline: float | None = None
        connected = True
        while not self.reap() and self.child:
            left_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if left_ms == 0:
                return
            for descriptor, _ in poll.poll(left_ms):
                if descriptor == self.wake:
                    os.read(self.wake, 512)
                else:
                    poll.unregister(0)
                    connected = False
            if (self.signalled or not connected) and deadline is None:
                deadline = time.monotonic() + GRACE_S


def main(archive: str, text: str) -> None:
    """Entry point, called by what vprobe.environments.ssh has the other machine's Python run first."""
    instructions = json.loads(text)
    if instructions["describe"]:
        os.write(1, json.dumps(describe(archive)).encode())
        return
    with contextlib.suppress(OSError, VprobeError):
        sessions.sweep()  # what a killed leader left; a directory that cannot be removed stands in nobody's way
    with sessions.open_run() as run:
        mark = {
            supervisor.SESSION_VARIABLE: str(run.new_session())
        }  # by it a sweep finds what outlives a killed leader
        instructions["variables"] = {**instructions["variables"], **mark}
        status = Leader(status=127).run(instructions, archive, str(run.scratch))
    raise SystemExit(status if status >= 0 else 128 - status)
