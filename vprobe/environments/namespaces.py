"""namespaces: a process in mount, PID, network, IPC, UTS, cgroup and user namespaces of its own, through unshare(1).

The file system is the host's as it is, but for /proc, which is the new PID namespace's own.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vprobe.environments import Available, Launch, Unavailable, process, trial
from vprobe.model import VirtClass

FLAGS = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "--mount-proc")
USER_FLAGS = ("--user", "--map-root-user")


def mapped_root_may_read(path: Path) -> bool:
    """Whether root of a user namespace that maps root alone can still reach a path: other owners' modes bind it."""
    own = {os.geteuid()}
    return all(
        status.st_uid in own or status.st_mode & needed == needed
        for step, needed in ((path, 0o005 if path.is_dir() else 0o004), *((parent, 0o001) for parent in path.parents))
        for status in [step.stat()]
    )


@functools.cache
def user_namespace_allowed(program: str) -> bool:
    """Whether the kernel lets this process make a user namespace; it refuses to all in a chroot (user_namespaces(7))."""
    done = subprocess.run([program, "--user", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def refusal(said: str) -> Unavailable:
    """Why the kernel refused, by the knobs that distributions turn (read, never changed)."""
    for knob, off, remedy in (
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ):
        try:
            value = Path("/proc/sys", knob).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == off:
            return Unavailable(f"{knob.replace('/', '.')} is {value}", f"as root: {remedy}, or run vprobe as root")
    if not Path("/proc/self/ns/user").exists():
        return Unavailable("this kernel has no user namespaces", "a kernel with CONFIG_USER_NS, or run vprobe as root")
    reason = said or "unshare failed without saying why"
    return Unavailable(reason, "a container or seccomp filter around vprobe may forbid unshare(2): run outside it")


@dataclass(frozen=True)
class Namespaces:
    """unshare(1) of util-linux."""

    name: str = "namespaces"
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands", "storage", "network"})
    boundary: frozenset[str] = frozenset(f"namespaces.{kind}" for kind in ("mnt", "pid", "net", "ipc", "uts"))

    def availability(self) -> Available | Unavailable:
        program = trial.find("unshare")
        if program is None:
            return trial.missing("unshare", "util-linux")
        said = trial.run(self)
        if said is not None:
            return refusal(said)
        return Available(f"util-linux {trial.version(program)}".strip())

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> process.ProcessSession:
        program = trial.find("unshare") or "unshare"
        plain = process.plain(launch)
        paths = (*launch.read_only_paths, launch.scratch)
        optional = os.geteuid() == 0  # root can do without a user namespace, others cannot make the rest without it
        if optional and not (user_namespace_allowed(program) and all(map(mapped_root_may_read, paths))):
            user: tuple[str, ...] = ()
        else:
            user = USER_FLAGS
        argv = (program, *user, *FLAGS, "--", *plain.argv)
        return process.start(replace(plain, argv=argv), launch)


def environment(name: str) -> Namespaces:
    """The environment of that name."""
    return Namespaces(name)
