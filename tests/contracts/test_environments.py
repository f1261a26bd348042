"""What every environment promises, held against the table, the protocol and reality; and that an impostor is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from vprobe import environments
from vprobe.cli import envs
from vprobe.environments import Available, Environment, Launch, Session, Unavailable, bare
from vprobe.errors import RunError, UsageError
from vprobe.measure import evidence
from vprobe.model import VirtClass

CLASSES = {
    "bare": "none",
    "bare-aa": "none",
    "chroot": "os-level",
    "bubblewrap": "os-level",
    "nspawn": "os-level",
    "lxc": "os-level",
    "podman": "os-level",
    "docker": "os-level",
    "gvisor": "user-space-kernel",
    "namespaces": "os-level",
    "runc": "os-level",
    "crun": "os-level",
    "kvm": "full-hardware",
    "qemu-kvm": "full-hardware",
    "qemu-tcg": "full-software",
    "qemu-user": "emulation",
    "ssh:localhost": None,
}
CAPABILITIES = {"os", "python", "kernels", "microvm", "commands", "storage", "network", "boots"}


@dataclass(frozen=True)
class Impostor:
    """Says that it is a container and runs the agent on the host: what vprobe must never believe."""

    name: str
    virt_class: VirtClass = VirtClass.OS_LEVEL
    capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands"})
    boundary: frozenset[str] = frozenset({"namespaces.pid", "namespaces.mnt", "root_mount"})

    def availability(self) -> Available:
        return Available("impostor 1.0")

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> Session:
        return bare.environment("bare").start(launch)


@dataclass(frozen=True)
class OnTheHost:
    """An environment as it is, but for its agent, which runs on the host, and natively."""

    real: Environment

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def agent_options(self) -> Mapping[str, str]:
        return {}

    def start(self, launch: Launch) -> Session:
        return bare.environment("bare").start(launch)


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an environment that another package brings through the entry-point group."""
    point = metadata.EntryPoint("impostor", "of.another:package", environments.GROUP)
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda _: Impostor)

    def entry_points(*, group: str, name: str | None = None) -> list[metadata.EntryPoint]:
        return [point] if group == environments.GROUP and name in (None, "impostor") else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return "impostor"


@pytest.mark.parametrize("name", environments.BUILT_IN)
class TestProtocol:
    """Each built-in environment."""

    def test_declares_itself(self, name: str) -> None:
        """Its name is the one asked for, its class the documented one, its words are known words."""
        found = environments.get(name)
        assert found.name == name
        assert found.virt_class == CLASSES[name]
        assert found.capabilities <= CAPABILITIES
        assert all(isinstance(value, str) for value in found.agent_options().values())

    def test_boundary_is_in_the_evidence(self, name: str) -> None:
        """Each key of its boundary is one that agents report, so that no typing error makes a boundary vacuous."""
        seen = evidence.boundary() | {"microvm": {"nonce": 1}}
        for key in environments.get(name).boundary:
            value: object = seen
            for part in key.split("."):
                assert isinstance(value, dict) and part in value, key
                value = value[part]

    def test_only_bare_has_no_boundary(self, name: str) -> None:
        """What claims to be a boundary can be caught lying."""
        assert bool(environments.get(name).boundary) == (not name.startswith("bare"))

    def test_a_refusal_says_why(self, name: str) -> None:
        """Available, or a reason of one line and a remedy."""
        found = environments.get(name).availability()
        if isinstance(found, Unavailable):
            assert found.reason
            assert "\n" not in found.reason + found.remedy


def test_names_load_no_environment() -> None:
    """Listing the names, as the shell's completion does, imports none of their modules."""
    program = (
        "import sys; from vprobe import environments; environments.names()\n"
        "print([m for m in sys.modules if m.startswith('vprobe.environments.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_module_with_an_environment_is_in_the_table() -> None:
    """A file that defines environment() and that no name reaches would be dead."""
    folder = Path(environments.__file__).parent
    defining = {path.stem for path in folder.glob("*.py") if "\ndef environment(" in path.read_text()}
    assert defining == set(environments.BUILT_IN.values())


def test_an_unknown_name_suggests_a_close_one() -> None:
    """A typing error costs one line."""
    with pytest.raises(UsageError, match="runcc") as caught:
        environments.get("runcc")
    assert "runc" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        environments.get("\x1b[31m")
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize("name", ["ssh", "ssh:", "qemu-tcg:", "bare:x", "runc:x", "ssh:-oProxyCommand=x", "ssh:a b"])
def test_arguments_of_names(name: str) -> None:
    """A name that lacks its argument, has one that it cannot have, or one that is none, is a mistake in one line."""
    with pytest.raises(UsageError) as caught:
        environments.get(name)
    assert "\n" not in caught.value.message + caught.value.hint
    assert environments.get("qemu-tcg:emulated").name == "qemu-tcg:emulated"
    assert environments.get("ssh:me@host").name == "ssh:me@host"


def test_another_package_can_add_one(impostor: str) -> None:
    """A name of the entry-point group is listed after the built-in ones and can be got."""
    assert environments.names() == (*environments.BUILT_IN, impostor)
    assert isinstance(environments.get(impostor), Impostor)


def booted(*chosen: Environment) -> None:
    """Start a boot of these environments and end it again."""
    from vprobe.environments.sessions import open_run
    from vprobe.measure.plan import NO_VARIANT, PlannedArm
    from vprobe.measure.sessions import Site, boot
    from vprobe.model import Arm

    arms = [PlannedArm(Arm(one.name, one.name), one, NO_VARIANT) for one in chosen]
    order = [one.name for one in chosen]
    with open_run() as run, boot(arms, order, Site(run, Path(__file__).parents[2], 1.0), (0,)):
        pass


def test_an_impostor_is_refused(impostor: str) -> None:
    """A session that is not where it says ends the run before anything is measured, whenever bare is started."""
    one, base = environments.get(impostor), environments.get("bare")
    for both in ((base, one), (one, base)):
        with pytest.raises(RunError, match="impostor: the session is not where it says"):
            booted(*both)


@pytest.mark.parametrize("name", [name for name in environments.BUILT_IN if not name.startswith("bare")])
def test_an_agent_on_the_host_is_refused(name: str) -> None:
    """Whatever kind it says it is: an environment that runs its agent on the host does not get to measure."""
    stand_in: Any = OnTheHost(environments.get(name))
    with pytest.raises(RunError, match=f"{name}: the session is not where it says"):
        booted(environments.get("bare"), stand_in)


def test_what_is_available_is_believed() -> None:
    """The agent of every environment that says it is available answers, and is where it says."""
    everything = [environments.get(name) for name in environments.names()]
    available = [one for one in everything if isinstance(one.availability(), Available)]
    assert "bare" in [one.name for one in available]
    booted(*available)


class TestCommand:
    """`vprobe envs`."""

    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(envs.command, arguments, standalone_mode=False)
        assert result.exception is None
        return result.stdout

    def test_json_is_the_contract(self) -> None:
        """One array, with exactly the fields that scripts read, null where there is nothing to say."""
        rows = json.loads(self.run("--json"))
        assert [row["name"] for row in rows] == list(environments.names())
        for row in rows:
            assert set(row) == {"name", "class", "available", "reason", "remedy", "version"}
            assert (row["reason"] is None) == row["available"]
            assert (row["version"] is None) or row["available"]

    def test_table_shows_every_name(self) -> None:
        """A person sees all of them, with their classes."""
        text = self.run()
        assert all(name in text and (kind or "as-probed") in text for name, kind in CLASSES.items())

    def test_a_pipe_gets_one_line_an_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reason and remedy stand on the line with the name, however long they are: what grep finds is whole."""
        long = Unavailable("because " * 40, "do this " * 40)
        monkeypatch.setattr(envs, "survey", lambda chosen: tuple(long for _ in chosen))
        lines = self.run("bare", "docker").splitlines()
        assert len(lines) == 3
        assert all(long.reason.strip() in line and long.remedy.strip() in line for line in lines[1:])
        assert all(line == line.rstrip() for line in lines)

    def test_a_terminal_gets_lines_that_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Long reasons are wrapped below themselves at the terminal's width, whatever that is."""
        long = Unavailable("because " * 40, "do this " * 40)
        rows = [(environments.get(name), long) for name in ("bare", "ssh:localhost")]
        for width in (80, 200):
            output = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
            envs.print_table(rows, output)
            assert isinstance(output.file, io.StringIO)
            lines = output.file.getvalue().splitlines()
            assert width - 9 < max(map(len, lines)) <= width
            assert sum(line.count("because") for line in lines) == 80

    def test_names_filter(self) -> None:
        """Only those asked for are tried and shown."""
        assert [row["name"] for row in json.loads(self.run("--json", "bare"))] == ["bare"]

    def test_install_hints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One line to paste, each package once."""
        missing = Unavailable("not installed", "install it", ("runc", "crun"))
        monkeypatch.setattr(envs, "survey", lambda chosen: tuple(missing for _ in chosen))
        assert self.run("--install-hints") == "apt install --no-install-recommends crun runc\n"

    def test_markup_of_the_machine_is_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Brackets in a reason are shown, not taken for colours."""
        monkeypatch.setattr(envs, "survey", lambda chosen: tuple(Unavailable("[red]x[/red]", "[link]") for _ in chosen))
        assert "[red]x[/red]" in self.run("bare")
