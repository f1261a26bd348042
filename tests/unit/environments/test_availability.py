"""Why an environment cannot run here: each cause is told apart and names its remedy."""

from __future__ import annotations

import errno
import platform
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from vprobe.environments import Available, Launch, Session, Unavailable, docker, kvm, namespaces, oci, trial
from vprobe.environments.survey import survey
from vprobe.errors import RunError
from vprobe.model import VirtClass


@dataclass(frozen=True)
class Fake:
    """An environment whose check does what it is told."""

    outcome: Available | Unavailable | Exception
    name: str = "fake"
    virt_class: VirtClass = VirtClass.NONE
    capabilities: frozenset[str] = frozenset()
    boundary: frozenset[str] = frozenset()

    def availability(self) -> Available | Unavailable:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> Session:
        del launch
        raise RunError("first line\nthe reason\n")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EBUSY, "another hypervisor"),
        (errno.ENODEV, "load kvm_intel or kvm_amd"),
        (errno.ENOMEM, "free memory"),
        (errno.EIO, "vprobe check kvm"),
    ],
)
def test_kvm_errno(number: int, words: str) -> None:
    """Each errno of KVM becomes its own remedy, and the reason has the system's words for it."""
    found = kvm.refused(OSError(number, "x"))
    assert words in found.remedy
    assert found.reason.startswith("/dev/kvm: ")


def test_kvm_permission_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group that owns the device is the remedy if it may use it, and is not if it may not."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(kvm, "DEVICE", device)
    device.chmod(0o660)
    assert "usermod -aG" in kvm.forbidden().remedy
    device.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert "usermod" not in kvm.forbidden().remedy
    assert "chmod 660" in kvm.forbidden().remedy


def test_kvm_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The micro-VM is x86: elsewhere that is the reason, and nothing is opened."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    found = kvm.Kvm().availability()
    assert isinstance(found, Unavailable)
    assert "aarch64" in found.reason


def test_kvm_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing device is not a missing permission."""
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "none")
    found = kvm.Kvm().availability()
    assert isinstance(found, Unavailable)
    assert "not there" in found.reason


def test_missing_engine_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed says which package brings it."""
    monkeypatch.setattr(trial, "find", lambda _: None)
    for found, package in (
        (oci.environment("runc").availability(), "runc"),
        (namespaces.Namespaces().availability(), "util-linux"),
    ):
        assert isinstance(found, Unavailable)
        assert found.packages == (package,)
        assert package in found.remedy


def test_namespaces_refused_without_a_known_knob() -> None:
    """What the engine said is the reason where no knob explains it."""
    assert "Operation not permitted" in namespaces.refusal("unshare: unshare failed: Operation not permitted").reason


def test_mapped_root_cannot_read_what_others_keep_private(tmp_path: Path) -> None:
    """A directory of another owner without read permission for others rules the user namespace out."""
    assert namespaces.mapped_root_may_read(Path("/usr"))
    assert namespaces.mapped_root_may_read(tmp_path)


def test_survey_keeps_order_and_contains_failures() -> None:
    """A check that raises is that environment's reason, and hides none of the others."""
    found = survey([Fake(Available("1")), Fake(ValueError("odd")), Fake(RunError("no", "hint")), Fake(Available("2"))])
    assert [type(one) for one in found] == [Available, Unavailable, Unavailable, Available]
    assert isinstance(found[1], Unavailable) and "ValueError: odd" in found[1].reason
    assert found[2] == Unavailable("no", "hint")


def test_trial_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of what was said is the reason."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert trial.run(Fake(Available())) == "the reason"


def test_version_of_a_program(tmp_path: Path) -> None:
    """The first version number is found in whatever is around it; a program that hangs or prints none has none."""
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\necho 'Engine (tm) version v1.2.3-rc4+ds1 built 2024'\n")
    program.chmod(0o755)
    assert trial.version(str(program)) == "1.2.3-rc4+ds1"
    program.write_text("#!/bin/sh\necho none\n")
    assert trial.version(str(program)) == ""
    assert trial.version("/nonexistent") == ""


def test_version_is_bounded_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that never answers has no version."""
    monkeypatch.setattr(trial, "VERSION_TIMEOUT_S", 0.2)
    program = tmp_path / "engine"
    program.write_text("#!/bin/sh\nexec sleep 20\n")
    program.chmod(0o755)
    assert trial.version(str(program)) == ""


@pytest.mark.parametrize(("installed", "packages"), [(True, ()), (False, ("docker.io",))])
def test_a_docker_daemon_that_does_not_run(
    installed: bool, packages: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package is named only where it would bring something: with the client alone, not where the daemon is installed."""
    if installed:
        (tmp_path / "dockerd").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(trial, "SEARCH_PATH", "")
    found = docker.unreachable("Cannot connect to the Docker daemon. Is the docker daemon running?")
    assert (found.reason, found.packages) == ("no Docker daemon answers", packages)
