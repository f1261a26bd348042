"""Real engines: the probe, started behind each boundary, names where it is."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vprobe
from vprobe import environments
from vprobe.environments import Launch, Unavailable
from vprobe.environments.namespaces import user_namespace_allowed

pytestmark = pytest.mark.usefixtures("private_docker")

KINDS = {
    "chroot": ("chroot", "chroot"),
    "namespaces": ("unshare", "namespaces"),
    "bubblewrap": ("bwrap", "bubblewrap"),
    "nspawn": ("systemd-nspawn", "systemd-nspawn"),
    "lxc": ("lxc-execute", "lxc"),
    "runc": ("runc", "oci"),
    "crun": ("crun", "oci"),
    "gvisor": ("runsc", "gvisor"),
    "podman": ("podman", "podman"),
    "docker": ("docker", "docker"),
}
"""Environment -> (program that it needs, kind that the probe must name)."""


@contextlib.contextmanager
def launch() -> Iterator[Launch]:
    """The probe as a launch: the same paths inside as outside."""
    package = Path(vprobe.__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="vpt") as session, tempfile.TemporaryDirectory(prefix="vpt") as scratch:
        yield Launch(
            argv=(sys.executable, "-m", "vprobe", "probe", "--json"),
            session_dir=Path(session),
            scratch=Path(scratch),
            read_only_paths=(package, Path(sys.prefix)),
            working_directory=package,
        )


def probe_inside(name: str) -> dict[str, Any]:
    """The document that the probe prints behind a boundary; skips where the engine is not at hand."""
    environment = environments.get(name)
    availability = environment.availability()
    if isinstance(availability, Unavailable):
        pytest.skip(f"{name}: {availability.reason}")
    content = b""
    with launch() as what, environment.start(what) as session:
        while data := os.read(session.from_agent, 65536):
            content += data
        said = session.stderr_tail()
    assert content, said
    document: dict[str, Any] = json.loads(content)
    return document


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.engine(program)) for name, (program, _) in KINDS.items()]
)
def test_the_kind_of_container_is_named_from_inside(name: str) -> None:
    """Each engine's boundary is recognised by the probe that runs behind it, with evidence."""
    if name == "namespaces" and not user_namespace_allowed("unshare"):
        pytest.skip(
            "in a chroot, where no user namespace is to be had, a private PID namespace looks like a container's"
        )
    container = probe_inside(name)["container"]
    assert (container["kind"], container["state"]) == (KINDS[name][1], "present")
    assert container["evidence"]
    assert container["class"] == ("user-space-kernel" if name == "gvisor" else "os-level")


def test_the_host_is_no_container_or_says_which(tmp_path: Path) -> None:
    """Outside of every boundary the answer differs from that of an engine started here."""
    from vprobe.probe import probe_host

    assert probe_host().container.kind != "namespaces"
