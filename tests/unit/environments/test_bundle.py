"""The OCI bundle: what is bound, so that every path is visible and nothing is created in the host's root."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vprobe.environments import Launch, bundle

paths = st.lists(st.sampled_from(["a", "b", "tmp", "run", "home"]), min_size=1, max_size=4).map(
    lambda p: "/" + "/".join(p)
)


def test_a_path_on_the_root_needs_no_bind() -> None:
    """The bundle's root shows it already."""
    assert bundle.binds([Path("/usr/lib/python3")], ["/", "/proc", "/boot"]) == []


def test_a_path_on_another_file_system_is_reached_through_its_mount_point() -> None:
    """The mount point itself is bound: it exists in the root, the path below it does not."""
    assert bundle.binds([Path("/home/me/src")], ["/", "/home"]) == ["/home"]


def test_nested_mounts_are_bound_from_the_outside_in() -> None:
    """Each mount point is there when the next one is bound on it, whatever the order in which they are listed."""
    assert bundle.binds([Path("/home/me/src")], ["/home/me", "/", "/home"]) == ["/home", "/home/me"]


def test_a_path_below_a_private_tmpfs_is_bound_itself() -> None:
    """/tmp is the container's own, so the bind is all there is."""
    assert bundle.binds([Path("/tmp/tree/x")], ["/", "/tmp"]) == ["/tmp/tree/x"]


def test_a_directory_that_only_begins_alike_is_not_below() -> None:
    """/tmpfiles is not in /tmp, /home2 is not in /home."""
    assert bundle.binds([Path("/tmpfiles"), Path("/home2/x")], ["/", "/tmp", "/home"]) == []


@given(st.lists(paths.map(Path), max_size=4), st.lists(paths, max_size=4))
def test_every_path_is_visible(wanted: list[Path], points: list[str]) -> None:
    """Whatever is mounted where: a path is bound itself, or all mount points on the way to it are, outermost first."""
    bound = bundle.binds(wanted, ["/", *points])
    for path in map(str, wanted):
        if bundle.below(path, bundle.FRESH):
            assert path in bound
        else:
            way = sorted({point for point in points if bundle.below(path, [point])}, key=len)
            assert [point for point in bound if point in way] == way


@given(st.lists(paths.map(Path), max_size=4), st.lists(paths, max_size=4))
def test_nothing_is_created_in_the_root(wanted: list[Path], points: list[str]) -> None:
    """What is bound outside the fresh directories is a mount point of the host, which its root therefore has."""
    for path in bundle.binds(wanted, ["/", *points]):
        assert bundle.below(path, bundle.FRESH) or path in points


def configuration(cgroup2: bool) -> dict[str, object]:
    """The configuration of some launch."""
    launch = Launch(
        ("/bin/sh", "-c", ":"), Path("/tmp/s"), Path("/tmp/scratch"), {"A": "1"}, (Path("/opt/py"), Path("/tmp/w"))
    )
    document: dict[str, object] = json.loads(json.dumps(bundle.configuration(launch, ["/"], cgroup2=cgroup2)))
    return document


def test_cgroup_view_only_on_the_unified_hierarchy() -> None:
    """Where the hierarchy is v1 or hybrid there is neither the namespace nor the mount."""
    for cgroup2 in (False, True):
        text = json.dumps(configuration(cgroup2))
        assert ('"type": "cgroup"' in text) == cgroup2
        assert ("/sys/fs/cgroup" in text) == cgroup2


def test_scratch_is_the_only_writable_bind() -> None:
    """Everything of the host is read-only inside, but for the scratch directory at its own path."""
    document = configuration(cgroup2=False)
    assert document["root"] == {"path": "root", "readonly": True}
    mounts = document["mounts"]
    assert isinstance(mounts, list)
    binds = {mount["destination"]: mount["options"][1] for mount in mounts if mount["type"] == "bind"}
    assert binds == {"/tmp/w": "ro", "/tmp/scratch": "rw"}
    assert all(mount["source"] == mount["destination"] for mount in mounts if mount["type"] == "bind")


def test_the_agents_variables_are_inside() -> None:
    """The launch's own variables reach the process, with the session's mark."""
    process = configuration(cgroup2=False)["process"]
    assert isinstance(process, dict)
    assert {"A=1", "VPROBE_SESSION=/tmp/s"} <= set(process["env"])
    assert process["noNewPrivileges"] is True
