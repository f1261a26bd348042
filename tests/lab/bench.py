"""A bench: one virtual machine, what is run in it, and what every probe in it has to say.

A bench boots once and probes as often as its script asks: each probe is a view, with a row of expectations of its own. What
was read goes into tests/data/lab, where the unit tests decode it again without the machine.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vprobe.environments.guest_kernel import Kernel
from vprobe.errors import VprobeError
from vprobe.probe.report import decode
from vprobe.probe.sources.capture import decode_capture

from . import guest, tools
from .guest import Answer, Setup
from .initramfs import Archive
from .packages import LabError

DATA = Path(__file__).resolve().parents[1] / "data" / "lab"
INDEX = DATA / "index.json"
PREFIX = "vprobe-lab-work-"
PROGRAMS = tuple(sorted(Path(__file__).with_name("guest").glob("*.py")))
"""What scripts may run in their guests: $PYTHON $LAB/lab/NAME.py."""


class Row(NamedTuple):
    """The questions, and what is answered."""

    vtx: str = "absent"
    amdv: str = "absent"
    reason: str = ""
    controls: int = 0
    kvm: str = "no"
    backend: str = "-"
    layers: str = "-"
    role: str = "-"
    container: str = "none"


class Machine(Protocol):
    """What boots a kernel and an initramfs, and ends when its guest powers off."""

    @property
    def host_root(self) -> bool:
        """The guest mounts this host's root: it needs nothing of its own."""

    @property
    def power_off(self) -> str:
        """Shell of busybox that ends the machine, where its kernel cannot."""

    def check(self) -> None:
        """LabError where this host lacks something that it needs."""

    def boot(self, place: Path, kernel: Kernel, initramfs: Path, tools: Path | None = None) -> float:
        """Run it to its end, and return the wall time in s."""


Problems = list[str]


@dataclass(frozen=True)
class Bench:
    """One machine. `check` looks at whatever else came back, and returns what is wrong."""

    name: str
    about: str
    machine: Machine
    script: str
    views: Mapping[str, Row]
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """View -> further facts of its document, by their path: {"guest": {"hypervisor.platform": "openstack"}}."""
    check: Callable[[Answer], Problems] | None = None
    modules: tuple[str, ...] = ()
    boot_modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    """What the script needs of the distribution beside the tools: laid over the host's root, not installed."""
    inner: Setup | None = None
    """A guest of the guest: its initramfs is at $LAB/inner.cpio, the kernel at $LAB/vmlinuz."""
    inner_answer: str = ""
    """The file in which its answer comes back; its captures are then views, too."""
    in_ci: bool = False

    def fixture(self, view: str) -> Path:
        """Where the capture of a view is kept."""
        return DATA / f"{self.name}.{view}.json.gz"


def observe(document: Mapping[str, Any]) -> Row:
    """The answers of one document of `vprobe probe --json`."""
    virtualization, hypervisor, kvm = document["virtualization"], document["hypervisor"], document["kvm"]
    vtx, amdv = virtualization["vtx"], virtualization["amdv"]
    own = vtx if document["cpu"]["vendor"] == "GenuineIntel" else amdv
    return Row(
        vtx=vtx["state"],
        amdv=amdv["state"],
        reason=own["reason"] or "",
        controls=sum(control["may_be_1"] for control in vtx["controls"].values())
        if own is vtx
        else sum(amdv["features"].values()),
        kvm={True: "usable", False: "no", None: "unknown"}[kvm["usable"]],
        backend=kvm["backend"] or "-",
        layers=", ".join(f"{layer['kind']} ({layer['class']})" for layer in hypervisor["layers"]) or "-",
        role=hypervisor["role"] or "-",
        container=document["container"]["kind"] or "-",
    )


def document_of(capture: bytes) -> dict[str, Any]:
    """What the probe says of a capture."""
    return decode(decode_capture(capture)).document()


def stable(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a document that must be the same in every boot of a bench, on any host."""
    virtualization = document["virtualization"]
    kept: dict[str, Any] = {name: virtualization[name]["state"] for name in ("sev", "tdx", "sgx", "iommu")}
    for name, words in (
        ("vtx", "state reason remedy feature_control controls fields unknown_bits"),
        ("amdv", "state reason remedy features asids vm_cr"),
    ):
        kept[name] = {word: virtualization[name][word] for word in words.split()}
    hypervisor = {
        word: document["hypervisor"][word]
        for word in ["state", "kind", "role", "layers", "monitor", "platform", "paravirtual_features"]
    }
    kvm = {word: document["kvm"][word] for word in ["state", "usable", "backend", "api_version", "reason", "remedy"]}
    return kept | {"hypervisor": hypervisor, "kvm": kvm, "nested": document["kvm"]["nested"]["state"]}


def run(bench: Bench, kernel: Kernel, *, with_tools: bool) -> Answer:
    """Boot the bench in a temporary directory and return what came back. `with_tools`: other tools are asked, too."""
    bench.machine.check()
    with work_directory() as place:
        tree = tools.tree(bench.packages) if with_tools else None
        setup = Setup(
            script=(tools.SCRIPT if tree else "tools() { :; }\n") + bench.script,
            modules=bench.modules,
            boot_modules=bench.boot_modules,
            host_root=bench.machine.host_root,
            power_off=bench.machine.power_off,
        )

        def fill(archive: Archive) -> None:
            for program in PROGRAMS:
                archive.add(f"lab/{program.name}", program.read_bytes())
            if tree and not bench.machine.host_root:
                tools.add(archive)
            if bench.inner:
                inner = guest.write_initramfs(bench.inner, kernel, place / "inner.cpio", tools.add if tree else no_more)
                archive.add("lab/inner.cpio", inner.read_bytes())
                archive.add("lab/vmlinuz", kernel.image.read_bytes())

        initramfs = guest.write_initramfs(setup, kernel, place / "initramfs", fill)
        wall_s = bench.machine.boot(place, kernel, initramfs, tree if bench.machine.host_root else None)
        console, sent = (
            (place / name).read_bytes() if (place / name).exists() else b"" for name in ("console", "answer")
        )
        answer = guest.unpack(sent, console.decode("utf-8", "replace"), wall_s)
        if bench.inner_answer:
            answer.files.update(guest.unpack(answer.files.get(bench.inner_answer, b""), answer.console, wall_s).files)
        return answer


@contextmanager
def work_directory() -> Iterator[Path]:
    """A directory that is removed at the end, together with those of benches that were killed: nobody holds their locks."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        with suppress(OSError), left.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as directory, Path(directory, "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(directory, "lock"))  # only now may others look whether it is held
        yield Path(directory)


def no_more(archive: Archive) -> None:
    """Adds nothing."""


def judge(bench: Bench, answer: Answer) -> Problems:
    """Everything in which an answer differs from what the bench expects and from what was recorded."""
    problems = []
    for view in bench.views:
        capture = answer.files.get(f"{view}.json")
        if not capture:
            problems.append(f"{view}: no capture came back: {answer.text('errors').strip()[-300:]}")
            continue
        try:
            document = document_of(capture)
        except VprobeError as error:
            problems.append(f"{view}: {error}")
            continue
        problems += [f"{view}: {text}" for text in disagreements(bench, view, document)]
        if bench.fixture(view).exists():
            recorded = document_of(gzip.decompress(bench.fixture(view).read_bytes()))
            problems += [f"{view}: {text}" for text in unlike(stable(recorded), stable(document))]
    try:
        return problems + (bench.check(answer) if bench.check else [])
    except (KeyError, ValueError, VprobeError) as error:  # of what it looks at, something did not come back whole
        return [*problems, f"what came back could not be checked: {error!r}"]


def disagreements(bench: Bench, view: str, document: Mapping[str, Any]) -> Problems:
    """What a document answers otherwise than the bench expects."""
    asked = [*zip(Row._fields, bench.views[view], observe(document), strict=True)]
    asked += [(path, wanted, look_up(document, path)) for path, wanted in bench.facts.get(view, {}).items()]
    return [f"{name} is {seen!r} and should be {wanted!r}" for name, wanted, seen in asked if wanted != seen]


def look_up(document: Mapping[str, Any], path: str) -> Any:
    """A fact of a document by the names and numbers that lead to it; None where one is missing."""
    found: Any = document
    for name in path.split("."):
        if isinstance(found, list):
            found = found[int(name)] if int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def unlike(recorded: Mapping[str, Any], fresh: Mapping[str, Any], path: str = "") -> Problems:
    """Where two documents differ."""
    found = []
    for name in sorted({*recorded, *fresh}):
        old, new = recorded.get(name), fresh.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += unlike(old, new, f"{path}{name}.")
        elif old != new:
            found.append(f"{path}{name} was {old!r} when it was recorded and is {new!r}")
    return found


def record(bench: Bench, answer: Answer, kernel: Kernel) -> None:
    """Keep what a bench read: its captures, the command that made them, and what the other tools said."""
    DATA.mkdir(parents=True, exist_ok=True)
    index = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    for view in bench.views:
        content = answer.files.get(f"{view}.json", b"")
        if not content:
            continue
        bench.fixture(view).write_bytes(gzip.compress(content, 9, mtime=0))
        index[bench.fixture(view).name] = {
            "command": f"make lab BENCH={bench.name} RECORD=1",
            "in the guest": f"vprobe probe --capture {view}.json",
            "machine": repr(bench.machine),
            "kernel": kernel.release,
            "tools": tools.said(answer, view),
        }
    INDEX.write_text(json.dumps(dict(sorted(index.items())), indent=1) + "\n")


@dataclass(frozen=True)
class Result:
    """How a bench went."""

    bench: Bench
    problems: Problems
    wall_s: float
    answer: Answer | None = None


def perform(bench: Bench, kernel: Kernel, *, keep: bool = False, with_tools: bool = True) -> Result:
    """Run and judge a bench; with `keep` what it read becomes the record. What fails is a problem of this bench alone."""
    started, answer = time.monotonic(), None
    try:
        answer = run(bench, kernel, with_tools=with_tools)
        if keep:
            record(bench, answer, kernel)
        problems = judge(bench, answer)
    except (LabError, VprobeError, OSError, subprocess.SubprocessError) as error:
        problems = [str(error)]
    return Result(bench, problems, time.monotonic() - started, answer)
