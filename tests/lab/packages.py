"""Packages of the distribution, unpacked into the cache: never installed, nothing outside the cache is written.

apt and dpkg-deb do the work, as any user. Where the machine's own package lists are not there or do not answer, a second
set of lists lives in the cache. What is unpacked is laid out as on a merged-/usr system, so that a tree of packages can lie
over a host's root without hiding its /bin or /lib.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Directories of / that are links into /usr on a merged system."""


class LabError(Exception):
    """A bench cannot be run here: one line that says why, and what to do."""


def cache() -> Path:
    """Where everything that benches fetch and build is kept: below vprobe's own cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    place = Path(home) / "vprobe" / "lab"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time fetches or builds something of that name."""
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpacked(tree: str, names: Iterable[str], *, closure: bool = False) -> Path:
    """The packages in one tree of the cache. `closure`: with all that they depend on and that is not installed here."""
    wanted = sorted(names)
    place = cache() / tree
    stamp = place / ".packages"
    with locked(tree):
        if stamp.exists() and stamp.read_text() == " ".join(wanted):
            return place
        shutil.rmtree(place, ignore_errors=True)
        work = cache() / f"{tree}.partial"
        shutil.rmtree(work, ignore_errors=True)
        downloads = work / ".downloads"
        downloads.mkdir(parents=True)
        for archive in _download(_with_dependencies(wanted) if closure else wanted, downloads):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(work)], check=True)
        shutil.rmtree(downloads)
        _merge(work)
        (work / ".packages").write_text(" ".join(wanted))
        work.rename(place)
    return place


def _with_dependencies(names: list[str]) -> list[str]:
    """Those packages and everything that installing them would bring, by a simulation."""
    plan = _apt(["apt-get", "install", "--simulate", "--no-install-recommends", "-o", "Debug::NoLocking=1", *names])
    return sorted({*names, *re.findall(r"^Inst (\S+)", plan, re.M)})


def _download(names: list[str], directory: Path) -> list[Path]:
    user = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []  # the sandbox's user may not write here
    _apt(["apt-get", "download", "-q", *user, *names], directory)
    found = sorted(directory.glob("*.deb"))
    if len(found) < len(names):
        raise LabError(f"{len(found)} of {len(names)} packages came: {' '.join(names)}")
    return found


def _apt(command: list[str], directory: Path | None = None) -> str:
    """Standard output of apt with the machine's lists, or else with lists of our own."""
    if not shutil.which(command[0]):
        raise LabError(f"{command[0]} is not here: benches use the packages of Debian or Ubuntu")
    first = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if first.returncode == 0:
        return first.stdout
    second = subprocess.run([*command, *_own_lists()], cwd=directory, capture_output=True, text=True, check=False)
    if second.returncode:
        raise LabError(f"{' '.join(command[:2])} failed: {second.stderr.strip().splitlines()[-1:]}")
    return second.stdout


def _own_lists() -> list[str]:
    """Options that make apt use lists in the cache, fetched once in a process."""
    state = cache() / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={state}"]
    if str(state) not in _updated:
        update = ["apt-get", "update", "-q", *options, "-o", "APT::Sandbox::User=root"]
        result = subprocess.run(update, capture_output=True, text=True, check=False)
        if result.returncode:
            raise LabError(f"no package lists: {result.stderr.strip().splitlines()[-1:]}")
        _updated.add(str(state))
    return options


_updated: set[str] = set()


def _merge(tree: Path) -> None:
    """Move /bin, /sbin and /lib* below /usr."""
    for name in MERGED:
        source = tree / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, tree / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(source)


def libraries(tree: Path) -> str:
    """LD_LIBRARY_PATH of programs in a tree."""
    return ":".join(str(path) for path in (tree / "usr/lib/x86_64-linux-gnu", tree / "usr/lib") if path.is_dir())
