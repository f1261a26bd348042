"""ssh:HOST: any machine that the user reaches by SSH, whatever it is: a cloud's, VMware's, Hyper-V's, or this very one.

HOST is what `ssh` takes: an alias of ssh_config(5), a name, USER@NAME. vprobe brings its agent along and leaves nothing
there (vprobe.measure.remote); a Python of version 3.9 or newer is all that has to be there. The class is as probed there.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vprobe.environments import Available, Launch, Unavailable, process, sessions, shipment, trial
from vprobe.errors import RunError, UsageError
from vprobe.states import VirtClass

MAXIMUM_DESCRIPTION_BYTES = 1 << 20
DESCRIBE_TIMEOUT_S = 30.0
GRACE_S = 5.0
"""More than the other side's own patience with what does not end (vprobe.measure.remote), so that this one sees it end."""
PAYLOAD = "agent.pyz"

FIND_PYTHON = (
    'b=$1; i=$2; shift 2; for p in "$@"; do command -v "$p" >/dev/null 2>&1 && '
    'exec "$p" -I -S -c "import base64,sys;exec(base64.b64decode(sys.argv[1]))" "$b" "$i"; done; '
    "echo vprobe ssh: python: there is none >&2; exit 127"
)
"""Without a character that any login shell would not leave alone between single quotes."""

BOOTSTRAP = """
import os
if sys.version_info < (3, 9):
    for minor in range(20, 8, -1):
        name = "python3.%d" % minor
        try:
            os.execvp(name, [name, "-I", "-S", "-c", "import base64,sys;exec(base64.b64decode(sys.argv[1]))"] + sys.argv[1:])
        except OSError:
            pass
    sys.exit("vprobe ssh: python: %s is too old" % sys.version.split()[0])
if not hasattr(os, "memfd_create"):
    sys.exit("vprobe ssh: python: it offers no memfd_create: no Linux, or an old C library")
def take(size):
    data = b""
    while len(data) < size:
        chunk = os.read(0, size - len(data))
        if not chunk:
            sys.exit("vprobe ssh: no connection: it ended early")
        data += chunk
    return data
memory = os.memfd_create("vprobe-agent", 0)
with open(os.dup(memory), "wb") as file:
    file.write(take(int(take(16))))
archive = "/proc/self/fd/%d" % memory
sys.path.insert(0, archive)
from vprobe.measure.remote import main
main(archive, base64.b64decode(sys.argv[2]).decode())
"""

REMEDIES = {
    "host key": "connect once with 'ssh {host}' and compare the key, so that known_hosts has it",
    "permission denied": "make a key that needs no password work: ssh-copy-id {host}, ssh-add",
    "no connection": "see 'ssh -v {host}'; start sshd there, or name the port in ~/.ssh/config",
    "unknown host": "name a host that resolves, or give it a HostName in ~/.ssh/config",
    "configuration": "see ssh_config(5)",
    "python": "install Python 3.9 or newer there, as python3",
}


def pythons() -> tuple[str, ...]:
    """What to try there, the best first: the interpreter that is the same as ours makes Python workloads comparable."""
    return (os.path.realpath(sys.executable), "python3", *(f"python3.{minor}" for minor in range(20, 8, -1)))


def remote_command(instructions: Mapping[str, Any]) -> str:
    """The command line for the login shell over there."""
    coded = [base64.b64encode(text.encode()).decode() for text in (BOOTSTRAP, json.dumps(instructions))]
    return shlex.join(("exec", "/bin/sh", "-c", FIND_PYTHON, "sh", *coded, *pythons()))


def instructions_for(launch: Launch) -> dict[str, Any]:
    """What the other side is told. Of the user's variables only those that were meant for the measurement go there."""
    place = launch.working_directory or launch.scratch
    own_run = sessions.run_of(launch.session_dir)
    return {
        "describe": False,
        "agent": launch.agent,
        "argv": launch.argv,
        "variables": dict(launch.variables),
        "working_directory": str(place),
        # The user's directory need not be there, too; files that vprobe itself made for the run must.
        "elsewhere": own_run is None or launch.scratch == place or not place.is_relative_to(own_run),
    }


def refusal(host: str, said: str) -> Unavailable:
    """Why there is no session, and what would change that."""
    _, found, text = said.rpartition("vprobe ssh: ")
    kind = text.partition(":")[0]
    if not found or kind not in REMEDIES:
        return Unavailable(said or "the connection ended without a word", f"see 'ssh {host} python3 --version'")
    return Unavailable(text, REMEDIES[kind].format(host=host))


def place_class(probe: Mapping[str, Any]) -> VirtClass | None:
    """The class of the innermost layer that a probe found; None where it could not tell."""
    container, hypervisor = probe["container"], probe["hypervisor"]
    if container["state"] == "present" and container.get("class"):
        return VirtClass(container["class"])
    for layer in hypervisor["layers"]:
        return VirtClass(layer["class"])
    return VirtClass.NONE if hypervisor["state"] == "absent" else None


def read_all(session: process.ProcessSession, timeout_s: float) -> bytes:
    """What a session says until it ends, or until the time or the bound is reached."""
    deadline, data = time.monotonic() + timeout_s, b""
    while len(data) < MAXIMUM_DESCRIPTION_BYTES:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([session.from_agent], [], [], left_s)[0]:
            break
        chunk = os.read(session.from_agent, 65536)
        if not chunk:
            break
        data += chunk
    return data


def start(host: str, launch: Launch, instructions: Mapping[str, Any]) -> process.ProcessSession:
    """Start the client as the session's engine."""
    zipapp = shipment.zipapp()
    payload = launch.session_dir / PAYLOAD
    payload.write_bytes(b"%016d" % len(zipapp) + zipapp)
    client = (sys.executable, "-I", "-m", "vprobe.environments.ssh_client", host, remote_command(instructions))
    return process.start(
        process.Instructions(argv=(*client, str(payload)), variables=process.engine_variables(launch), grace_s=GRACE_S),
        launch,
    )


@dataclass(frozen=True)
class Ssh:
    """OpenSSH's protocol by asyncssh."""

    name: str
    host: str
    virt_class: VirtClass | None = None
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands"})
    boundary: frozenset[str] = frozenset({"connection"})

    def availability(self) -> Available | Unavailable:
        with sessions.open_run() as run:
            launch = Launch((), run.new_session(), run.scratch)
            try:
                session = start(self.host, launch, {"describe": True})
            except RunError as error:
                return Unavailable(trial.last_line(error.message), f"see 'ssh -v {self.host}'")
            with session:
                said = read_all(session, DESCRIBE_TIMEOUT_S)
                if session.wait(1.0) != 0:
                    return refusal(self.host, trial.last_line(session.stderr_tail()))
        try:
            found = json.loads(said)
            return Available(f"{found['python']}, {found['system']}"[:200], place_class(found["probe"]))
        except (ValueError, KeyError, TypeError):
            return Unavailable(
                "the other side answers with something else", "see 'ssh {host} true': it must print nothing"
            )

    def agent_options(self) -> Mapping[str, str]:
        return {"cpus": "own", "clock": "own"}

    def start(self, launch: Launch) -> process.ProcessSession:
        return start(self.host, launch, instructions_for(launch))


def environment(name: str) -> Ssh:
    """The environment of that name."""
    host = name.partition(":")[2]
    if host.startswith("-") or not host.isprintable() or any(c.isspace() for c in host):
        raise UsageError(f"{name!a} names no host", "for example ssh:build-server or ssh:me@10.0.0.7")
    return Ssh(name, host)
