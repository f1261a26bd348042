"""The host's own interpreter and the agent, in a root that is not the host's: a container of the user's own image.

The image need not have any Python, nor the host's C library: interpreter, standard library and shared libraries are shown
below a directory of their own and started by the host's own dynamic loader, ld.so(8), which is told where to look. A command
that the agent runs there is the image's, with the image's variables.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments import Launch, Unavailable, process, shipment, supervisor

PLACE = "/.vprobe"
ZIPAPP = "agent.pyz"


@dataclass(frozen=True)
class Interpreter:
    """A dynamically linked Python of this host. `loader` is None where it is linked statically."""

    program: Path
    loader: Path | None
    libraries: tuple[Path, ...]


def interpreter() -> Interpreter:
    """The interpreter that runs this, by what the kernel has mapped for it (proc_pid_maps(5))."""
    mapped = {
        Path(line.split(maxsplit=5)[5]) for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line
    }
    shared = {path for path in mapped if ".so" in path.name and "-packages" not in str(path)}
    loader = next((path for path in sorted(shared) if path.name.startswith("ld-")), None)
    libraries = {path.parent for path in shared if "lib-dynload" not in path.parts}
    return Interpreter(Path(os.path.realpath(sys.executable)), loader, tuple(sorted(libraries)))


def places(found: Interpreter) -> tuple[Path, ...]:
    """The directories of the host that have to be shown below PLACE, none of them below another."""
    standard = Path(os.path.realpath(sysconfig.get_paths()["stdlib"]))
    loader = () if found.loader is None else (found.loader.parent,)
    wanted = sorted({found.program.parent, standard, *found.libraries, *loader, Path(sys.base_prefix).resolve()})
    return tuple(path for path in wanted if not any(other in path.parents for other in wanted))


def no_image(engine: str, image: str) -> Unavailable:
    """The verdict where the engine has no such image. vprobe itself pulls nothing."""
    return Unavailable(f"{engine} has no image {image}", f"{engine} pull {image}, or name one of '{engine} images'")


def write(launch: Launch) -> Path:
    """Put the zipapp into the session's directory."""
    path = launch.session_dir / ZIPAPP
    path.write_bytes(shipment.zipapp())
    path.chmod(0o644)  # of whoever the image says runs; the session's directory keeps others out
    return path


@dataclass(frozen=True)
class Bind:
    """A directory or file of the host, and where it is shown inside."""

    source: str
    destination: str
    read_only: bool = True


def binds(launch: Launch) -> tuple[Bind, ...]:
    """What has to be shown inside: the user's directory and the scratch directory at their own paths, and the interpreter."""
    scratch, place = str(launch.scratch), working_directory(launch)
    found = [Bind(place, place), Bind(scratch, scratch, read_only=False)]
    if launch.agent is not None:
        found += [Bind(str(path), f"{PLACE}{path}") for path in places(interpreter())]
        found.append(Bind(str(write(launch)), f"{PLACE}/{ZIPAPP}"))
    return tuple(one for one in found if one.source != scratch or not one.read_only)


def argv(launch: Launch) -> tuple[str, ...]:
    """What to run inside: the agent, or a program of the image where the launch is no agent."""
    if launch.agent is None:
        return launch.argv
    found = interpreter()
    program = f"{PLACE}{found.program}"
    libraries = ":".join(f"{PLACE}{path}" for path in found.libraries)
    loader = () if found.loader is None else (f"{PLACE}{found.loader}", "--library-path", libraries)
    return (*loader, program, "-I", "-S", f"{PLACE}/{ZIPAPP}", launch.agent)


def variables(launch: Launch) -> dict[str, str]:
    """Variables beside the image's own."""
    return {"LANG": "C.UTF-8", **launch.variables, supervisor.SESSION_VARIABLE: str(launch.session_dir)}


def working_directory(launch: Launch) -> str:
    """Where commands run: the user's directory, shown read-only at its own path; the scratch directory where that is /."""
    place = process.plain(launch).working_directory
    return str(launch.scratch) if place == "/" else place
