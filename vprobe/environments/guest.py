"""qemu-kvm and qemu-tcg: a Linux guest of QEMU, on KVM or in software; one implementation, two accelerators.

The guest boots a kernel of the distribution's (see guest_kernel.py) from an initramfs of ours, sees the host's root read-only
over 9p under an overlay whose upper layer is in its memory, and runs the agent of this very vprobe with this very
interpreter. The agent's channel is a virtio-serial port that QEMU connects to its own standard input and output, so that the
supervisor treats QEMU as any other engine. What the kernel says on its console is QEMU's standard error.

Storage is measured on a raw file in the scratch directory that the guest gets as a disk, the network over a tap in the network
namespace that QEMU is started in (see network.py). Both are there only in runs that measure them.

Words after a colon, joined by "+", vary the machine: `qemu-tcg:emulated` has a disk controller, a network card and a clock as
real machines have, and hides KVM, so that the guest's kernel uses none of KVM's paravirtual features. The agent's channel and
the root stay on virtio in every variety: they are never inside what is timed. `hugepages` takes the memory from the host's
reserved huge pages.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from vprobe.environments import (
    Available,
    Environment,
    Launch,
    Limits,
    Unavailable,
    bundle,
    guest_kernel,
    guest_trial,
    initramfs,
    peer,
    process,
    trial,
)
from vprobe.environments.guest_kernel import Kernel
from vprobe.environments.initramfs import Program, Step
from vprobe.environments.kvm import create_vm, refused
from vprobe.environments.qemu_monitor import Monitor
from vprobe.errors import RunError, UsageError
from vprobe.model import VirtClass
from vprobe.suites.storage import lay_out

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
FIRMWARE = "qboot.rom"
"""A firmware that does only what Linux needs: 0.4 s of an emulated CPU less than SeaBIOS. Comes with QEMU since 5.0."""
DATA_DIRECTORIES = ("share/qemu", "share/seabios", "share/qemu-firmware")

MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
BLOCK_MODULES = {"virtio": ("virtio_blk",), "emulated": ("ahci", "sd_mod")}
CARD_MODULES = {"virtio": ("virtio_net",), "emulated": ("e1000",)}
IMAGE_MODULES = ("crc32c_generic", "ext4", "xfs")
"""The first has to be there before the others, which do not say so as they should. Not btrfs: its RAID code times itself."""
WORDS = ("emulated", "hugepages")
CAPABILITIES = frozenset({"os", "python", "kernels", "commands", "storage", "network", "boots"})

MEBIBYTE = 1 << 20
MEMORY_MIB, LEAST_MEMORY_MIB = 2048, 256
MEMORY_INFORMATION = Path("/proc/meminfo")
START_TIMEOUT_S = 20.0
WATCH_S = 0.5
"""For how long a guest that does not answer is watched."""
CALIBRATION_NS = 50_000_000
MESSAGE_BYTES = 400

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND = 1, 2, 4, 0x1000
FAREWELL = re.compile(r"\] (reboot: |PM: Calling )|^\[ *[0-9.]+\] *$")
"""What every kernel says when it ends, whatever for."""
TROUBLE = re.compile(r"Kernel panic|BUG:|Oops:|Out of memory")
HOST, LAYER, ROOT = "/host", "/layer", "/root"
IMAGE = "/run/vprobe-image"
SHARE, PORT = "vprobe-host", "/dev/vport0p1"
DISK_DEVICES = {"virtio": "/dev/vda", "emulated": "/dev/sda"}
CARDS = {"virtio": "virtio-net-pci", "emulated": "e1000"}
CARD_DEVICE = "eth0"


@dataclass(frozen=True)
class Machine:
    """What QEMU is told to build, beside the accelerator."""

    qemu: str = ""
    kernel: Path | None = None
    disk: Path | None = None
    emulated: bool = False
    hugepages: bool = False

    @property
    def devices(self) -> str:
        """Which devices it has to be measured on: a row of the tables above."""
        return "emulated" if self.emulated else "virtio"


class GuestSession(process.ProcessSession):
    """QEMU under a supervisor, with its monitor."""

    monitor: Monitor | None = None
    running_ns = 0
    stopped = False

    def attach(self, socket: Path, timeout_s: float) -> None:
        """Connect to the monitor and let the guest run. RunError, with what QEMU said, where that fails."""
        try:
            self.monitor = Monitor(socket, timeout_s, lambda: self.exit_status is None)
            self.running_ns = time.monotonic_ns()
            self.monitor.execute("cont")
        except RunError as error:
            said = self.stderr_tail()
            raise RunError(
                f"{error.message}: {said}" if said else error.message, "see 'qemu-system-x86_64 --help'"
            ) from None

    def stderr_tail(self) -> str:
        """The last lines of the guest's console and of QEMU, as one line; first the kernel's own word of what is wrong."""
        lines = [line.strip() for line in super().stderr_tail().replace("\\r", "\n").splitlines()]
        lines = [line for line in lines if line and not FAREWELL.search(line)]
        trouble = [line for line in lines if TROUBLE.search(line)][-1:]
        last = " | ".join(lines)[-MESSAGE_BYTES:]
        return " | ".join([*(line for line in trouble if line not in last), last] if last else trouble)

    def state(self) -> str:
        """What QEMU says of the machine ("running", "internal-error", …); "gone" where it does not answer."""
        with contextlib.suppress(RunError):
            if self.monitor is not None:
                return str(self.monitor.execute("query-status")["status"])
        return "gone"

    def condition(self) -> str:
        """Whether QEMU runs the guest, and how busy that is: one that waits for nothing, or works, or gets no CPU time."""
        state = self.state()
        before_ns, cpu_ns = time.monotonic_ns(), self._cpu_ns()
        time.sleep(WATCH_S)
        busy = (self._cpu_ns() - cpu_ns) / (time.monotonic_ns() - before_ns)
        return f"QEMU: {state}, busy {busy:.0%} of the time"

    def waited_s(self) -> float:
        """Of the thread that waited longest: a virtual CPU's."""
        return max((waited_ns for _, waited_ns in self._threads()), default=0) / 1e9

    def _cpu_ns(self) -> int:
        """CPU time of QEMU so far, 0 where it is gone."""
        return sum(cpu_ns for cpu_ns, _ in self._threads())

    def _threads(self) -> Iterator[tuple[int, int]]:
        """ns on a CPU and ns ready to be on one, of every thread of QEMU (sched-stats.rst of the kernel's documentation)."""
        for thread in Path(f"/proc/{self.engine_pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                cpu, waited, _ = thread.read_text(encoding="ascii").split()
                yield int(cpu), int(waited)

    def freeze(self) -> None:
        """Pause the virtual CPUs."""
        if self.monitor is not None and not self.stopped:
            self.monitor.execute("stop")
            self.stopped = True

    def thaw(self) -> None:
        """Let them go on."""
        if self.monitor is not None and self.stopped:
            self.monitor.execute("cont")
            self.stopped = False

    def pin(self, cpus: Sequence[int], others: Sequence[int] = ()) -> tuple[int, ...]:
        """The n-th virtual CPU to the n-th of all these, QEMU's other threads to all of `cpus`; the CPUs' numbers inside.

        The other threads, too: where they share the CPU a message to the agent costs context switches and no interrupts.
        """
        assert self.monitor is not None
        virtual = [int(one["thread-id"]) for one in self.monitor.execute("query-cpus-fast")]
        for thread in os.listdir(f"/proc/{self.engine_pid}/task"):  # noqa: PTH208 - names are what is wanted
            with contextlib.suppress(ProcessLookupError):  # a worker that has ended meanwhile
                os.sched_setaffinity(int(thread), cpus)
        places = (*cpus, *others)
        for number, thread_id in enumerate(virtual):
            os.sched_setaffinity(thread_id, {places[number % len(places)]})
        return tuple(range(len(virtual)))

    def phases(self, answered_ns: int, agent_ns: int, clock: Mapping[str, int]) -> dict[str, int]:
        """QEMU's own start; firmware and the kernel's start until its clock runs; kernel; user space; agent.

        A kernel that starts on a busy host sets its clock by a timer that is late: where it has counted more than has passed,
        its phases are shortened in proportion.
        """
        passed_ns = answered_ns - agent_ns - self.running_ns
        share = min(1.0, passed_ns / max(clock["started_ns"], 1))
        kernel_ns, counted_ns = round(clock["init_ns"] * share), round(clock["started_ns"] * share)
        return {
            "engine_ns": self.running_ns - self.launched_ns,
            "firmware_ns": passed_ns - counted_ns,
            "kernel_ns": kernel_ns,
            "userspace_ns": counted_ns - kernel_ns,
            "agent_ns": agent_ns,
        }

    def stop(self) -> int:
        """Also where it is paused: the agent could not hear the end of its channel."""
        if self.monitor is not None:
            with contextlib.suppress(RunError):  # it has ended by itself
                self.thaw()
            self.monitor.close()
            self.monitor = None
        return super().stop()


def memory_mib(limits: Limits, *, hugepages: bool = False) -> int:
    """Memory of a guest: what the session is allowed, or else 2 GiB, or half of what the host has free.

    With `hugepages` all of those that are free, at most as much.
    """
    if limits.memory_bytes is not None:
        return limits.memory_bytes // MEBIBYTE
    half_free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEBIBYTE // 2
    return max(LEAST_MEMORY_MIB, min(MEMORY_MIB, hugepages_mib() if hugepages else half_free))


def hugepages_mib() -> int:
    """Huge pages of the host's usual size that nobody has or has reserved (hugetlbpage.rst of Linux's admin guide)."""
    found = dict(re.findall(r"^(Huge\w+): +(\d+)", MEMORY_INFORMATION.read_text(encoding="ascii"), re.MULTILINE))
    free = int(found.get("HugePages_Free", 0)) - int(found.get("HugePages_Rsvd", 0))
    return free * int(found.get("Hugepagesize", 0)) >> 10


def firmware(program: str) -> tuple[str, ...]:
    """QEMU's option for the small firmware, where it is installed."""
    prefix = Path(program).parent.parent
    found = (prefix / place / FIRMWARE for place in DATA_DIRECTORIES)
    return next((("-bios", str(path)) for path in found if path.is_file()), ())


def escaped(value: str) -> str:
    """A value for QEMU's comma-separated options."""
    return value.replace(",", ",,")


def image_format(disk: Path) -> str:
    """qcow2 or raw, by the mark at the beginning: QEMU is never left to guess, which a raw image could abuse."""
    with disk.open("rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"


def drive(path: Path, image: str, mode: str, *, emulated: bool) -> tuple[str, ...]:
    """The disk of the guest: virtio-blk, or a disk on an AHCI controller. `mode`: more of QEMU's options of a drive."""
    options = f"if=none,id=disk,format={image},{mode},file={escaped(str(path))}"
    devices = (
        ("-device", "ich9-ahci,id=ahci", "-device", "ide-hd,bus=ahci.0") if emulated else ("-device", "virtio-blk-pci")
    )
    return ("-drive", options, *devices[:-1], f"{devices[-1]},drive=disk")


def disk(machine: Machine, launch: Launch) -> tuple[str, ...]:
    """QEMU's options for the user's image, which is never written to, or for the disk that storage is measured on.

    That one goes past the host's page cache where the others' files do. A SATA disk cannot be read-only: what is written to
    it goes to a file without a name, and not to the image.
    """
    if machine.disk is not None:
        mode = "snapshot=on" if machine.emulated else "readonly=on"
        return drive(machine.disk, image_format(machine.disk), mode, emulated=machine.emulated)
    if launch.disk is not None:
        mode = "cache=none" if launch.disk.direct else "cache=writeback"
        return drive(launch.disk.file, "raw", mode, emulated=machine.emulated)
    return ()


def card(machine: Machine) -> tuple[str, ...]:
    """QEMU's options for a network card on the tap of the namespace that it is started in.

    Without vhost: its thread in the kernel would be on no CPU of ours, and the software-emulated guest cannot have it.
    """
    tap = f"tap,id=link,ifname={peer.DEVICE},script=no,downscript=no"
    return ("-netdev", tap, "-device", f"{CARDS[machine.devices]},netdev=link,romfile=")


@functools.cache
def tsc_khz() -> int:
    """kHz of this CPU's time-stamp counter, which QEMU's emulated CPUs show as it is; 0 where it cannot be read."""
    try:
        from vprobe import _native  # noqa: PLC0415 - QEMU can be there where the extension is not built
    except ImportError:
        return 0
    return round(1e6 / _native.calibrate_tsc(CALIBRATION_NS))


def clock(machine: Machine, accelerator: str) -> str:
    """Words of the kernel's command line on its clock.

    An emulated CPU's kernel would find out the rate of the counter by emulated timers. Where the host gives QEMU too little
    time while it does, its clock is wrong from then on: one ran 22 % fast. So it is told.
    """
    words = (
        f" tsc_early_khz={tsc_khz()}" if accelerator == "tcg" and tsc_khz() else "",
        " clocksource=hpet" if machine.emulated else "",
    )
    return "".join(words)


def arguments(machine: Machine, accelerator: str, image: Path, launch: Launch) -> tuple[str, ...]:
    """QEMU's command line. Its paused start (-S) is ended by the monitor, so that the phases of a boot can be told apart."""
    program = machine.qemu or trial.find(PROGRAM) or PROGRAM
    model = "max" if accelerator == "tcg" else "host"
    cpus, session_dir, memory = (
        max(1, launch.cpus),
        launch.session_dir,
        f"{memory_mib(launch.limits, hugepages=machine.hugepages)}M",
    )
    if accelerator == "kvm":
        model += ",kvm=off" if machine.emulated else ""
        model += ",-arch-capabilities" if guest_trial.PVM.exists() else ""  # it offers that MSR and refuses to set it
    backing: tuple[str, ...] = ()
    options = f"q35,accel={accelerator},vmport=off,smbus=off,sata=off"
    if machine.hugepages:
        backing = ("-object", f"memory-backend-memfd,id=memory,size={memory},hugetlb=on,prealloc=off")
        options += ",memory-backend=memory"
    return (
        *(program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S"),
        *("-machine", options, "-cpu", model, "-smp", str(cpus), "-m", memory, *backing, *firmware(program)),
        *("-kernel", str(image), "-initrd", str(session_dir / "initramfs")),
        *("-append", f"console=ttyS0 quiet panic=-1 reboot=t{clock(machine, accelerator)}"),
        *("-qmp", f"unix:{escaped(str(session_dir / 'qmp'))},server=on,wait=off"),
        *("-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci"),
        *("-device", "virtserialport,chardev=agent,nr=1,name=vprobe"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
        *("-chardev", "file,id=console,path=/dev/fd/2", "-serial", "chardev:console"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", f"virtio-9p-pci,fsdev=host,mount_tag={SHARE}"),
        *disk(machine, launch),
        *(card(machine) if launch.network_namespace else ()),
    )


def device_steps(machine: Machine, launch: Launch) -> tuple[Step, ...]:
    """Wait for the disk that storage is measured on, and bring up the network card."""
    netmask = str(IPv4Network((peer.INSIDE_ADDRESS, peer.PREFIX_BITS), strict=False).netmask)
    return (
        *([("find", DISK_DEVICES[machine.devices])] if launch.disk else []),
        *([("up", CARD_DEVICE, peer.INSIDE_ADDRESS, netmask)] if launch.network_namespace else []),
    )


def root_steps(launch: Launch, more: Sequence[Step] = ()) -> tuple[Step, ...]:
    """From the kernel's empty root to the host's under an overlay, with what a Linux system has mounted, and more."""
    upper, work = f"{LAYER}/upper", f"{LAYER}/work"
    nodes = str(MS_NOSUID)
    place = launch.working_directory or launch.scratch
    shown = dict.fromkeys(
        str(path) for path in (*launch.read_only_paths, place) if bundle.below(str(path), bundle.FRESH)
    )
    binds = [
        step
        for path in shown
        if path != str(launch.scratch)
        for step in (("mkdir", ROOT + path), ("mount", HOST + path, ROOT + path, "", str(MS_BIND)))
    ]
    return (
        ("mkdir", "/dev"),
        ("mount", "devtmpfs", "/dev", "devtmpfs"),
        ("mkdir", HOST),
        ("await", SHARE, HOST, "9p", str(MS_RDONLY), "trans=virtio,version=9p2000.L,cache=loose,msize=512000"),
        *(("mkdir", path) for path in (LAYER, ROOT)),
        ("mount", "tmpfs", LAYER, "tmpfs"),
        *(("mkdir", path) for path in (upper, work)),
        ("mount", "overlay", ROOT, "overlay", "0", f"lowerdir={HOST},upperdir={upper},workdir={work}"),
        *(("mkdir", f"{ROOT}/{path}") for path in ("proc", "sys", "dev", "tmp", "run")),
        ("mount", "proc", f"{ROOT}/proc", "proc"),
        ("mount", "sysfs", f"{ROOT}/sys", "sysfs"),
        ("mount", "/dev", f"{ROOT}/dev", "", str(MS_BIND)),
        *(("mkdir", f"{ROOT}/dev/{path}") for path in ("pts", "shm")),
        ("mount", "devpts", f"{ROOT}/dev/pts", "devpts", nodes, "mode=0620,ptmxmode=0666"),
        *(("mount", "tmpfs", f"{ROOT}/{path}", "tmpfs", nodes, "mode=1777") for path in ("dev/shm", "tmp", "run")),
        *binds,
        *more,
        ("mkdir", f"{ROOT}{launch.scratch}"),
        ("name", "vprobe"),
        ("up", "lo"),
        ("enter", ROOT),
    )


def image_steps(launch: Launch) -> tuple[Step, ...]:
    """The root of the user's image, wherever it lies on the disk, under an overlay of its own, with the user's directory."""
    lower, upper, work = "/image", f"{LAYER}/image-upper", f"{LAYER}/image-work"
    root, place = ROOT + IMAGE, str(launch.working_directory or launch.scratch)
    binds = (*("/proc", "/sys", "/dev", "/tmp", "/run"), *([place] if Path(place).is_dir() else []))  # noqa: S108
    return (
        *(("mkdir", path) for path in (lower, upper, work, root)),
        ("disk", lower, "bin/sh"),
        ("mount", "overlay", root, "overlay", "0", f"lowerdir={lower},upperdir={upper},workdir={work}"),
        *(("mkdir", root + path) for path in binds),
        *(("mount", ROOT + path, root + path, "", str(MS_BIND)) for path in binds if path != "/run"),
    )


@functools.cache
def lacks(machine: Machine) -> Mapping[str, str]:
    """Capabilities that a guest does not have, each with the reason: a second disk, or the driver of a device."""
    found = {}
    if machine.disk is not None:
        found["storage"] = "has the image of --disk as its disk: storage is measured without it"
    kernel = None
    with contextlib.suppress(UsageError):
        kernel = guest_kernel.find(machine.kernel)
    if kernel is None:
        return found  # availability says so
    for capability, names in (("storage", BLOCK_MODULES), ("network", CARD_MODULES)):
        try:
            kernel.resolve(names[machine.devices])
        except UsageError as error:
            found.setdefault(capability, f"{error.message}, the driver of what it would be measured on")
    return found


@dataclass(frozen=True)
class LinuxGuest:
    """A whole Linux of its own in QEMU."""

    name: str
    accelerator: str
    machine: Machine = Machine()

    @property
    def virt_class(self) -> VirtClass:
        return VirtClass.FULL_HARDWARE if self.accelerator == "kvm" else VirtClass.FULL_SOFTWARE

    boundary: frozenset[str] = frozenset({"boot_id", "root_mount"})

    @property
    def capabilities(self) -> frozenset[str]:
        return CAPABILITIES - self.lacks.keys()

    @property
    def lacks(self) -> Mapping[str, str]:
        """Reasons of its own for what it does not offer."""
        return lacks(self.machine)

    def availability(self) -> Available | Unavailable:
        if platform.machine() != "x86_64":
            return Unavailable(f"vprobe's guests are x86-64, this is {platform.machine()}", "")
        program = self.machine.qemu or trial.find(PROGRAM)
        if program is None:
            return trial.missing(PROGRAM, PACKAGE)
        if not initramfs.INIT.is_file():
            return Unavailable("the guests' init was not built", "install vprobe again with a C compiler")
        if self.machine.hugepages and hugepages_mib() < LEAST_MEMORY_MIB:
            return Unavailable(
                f"{hugepages_mib()} MiB of huge pages are free, and a guest needs {LEAST_MEMORY_MIB} at least",
                f"as root: sysctl vm.nr_hugepages={MEMORY_MIB // 2}",
            )
        if self.accelerator == "kvm":
            try:
                create_vm()
            except OSError as error:
                return refused(error)
        try:
            kernel = self.kernel()
            kernel.resolve(self.module_names(storage=False, network=False))
        except UsageError as error:
            return Unavailable(error.message, error.hint)
        if self.accelerator == "kvm":
            said = guest_trial.verdict(self, program, kernel)
            if said is not None:
                return said
        return Available(f"qemu {trial.version(program)}, Linux {kernel.release}")

    def agent_options(self) -> Mapping[str, str]:
        return {"command_root": IMAGE} if self.machine.disk else {"storage": DISK_DEVICES[self.machine.devices]}

    def kernel(self) -> Kernel:
        """The kernel to boot. UsageError where there is none."""
        kernel = guest_kernel.find(self.machine.kernel)
        if kernel is None:
            raise UsageError("there is no kernel for guests", "vprobe guest prepare --yes, or --kernel FILE")
        return kernel

    def module_names(self, *, storage: bool, network: bool) -> tuple[str, ...]:
        """The modules that the guest needs, to be measured on a disk and over a card where it is."""
        devices, image = self.machine.devices, self.machine.disk is not None
        return (
            *MODULES,
            *(BLOCK_MODULES[devices] if storage or image else ()),
            *(IMAGE_MODULES if image else ()),
            *(CARD_MODULES[devices] if network else ()),
        )

    def start(self, launch: Launch) -> GuestSession:
        if launch.disk is None or "storage" not in self.capabilities:
            return self._start(replace(launch, disk=None))
        try:
            lay_out(str(launch.disk.file))
            return self._start(launch)
        finally:
            # QEMU holds it open: the disk goes with QEMU, however that ends.
            launch.disk.file.unlink(missing_ok=True)

    def _start(self, launch: Launch) -> GuestSession:
        # A guest's kernel places memory as it likes, and the guest is kept over several boots.
        launch = replace(launch, layout=None)
        kernel = self.kernel()
        image = guest_kernel.quick_image(kernel)
        run = Program(
            PORT, launch.argv, process.agent_variables(launch), str(launch.working_directory or launch.scratch)
        )
        modules = self.module_names(storage=launch.disk is not None, network=launch.network_namespace is not None)
        more = (*device_steps(self.machine, launch), *(image_steps(launch) if self.machine.disk else ()))
        built = initramfs.build(kernel.resolve(modules), root_steps(launch, more), run)
        (launch.session_dir / "initramfs").write_bytes(built)
        argv = arguments(self.machine, self.accelerator, image, launch)
        if launch.network_namespace:
            argv = (trial.find("nsenter") or "nsenter", f"--net={launch.network_namespace}", "--", *argv)
        instructions = process.Instructions(argv=argv, variables=process.engine_variables(launch))
        # The guest's memory is the limit; QEMU's own comes on top of it.
        limited = replace(launch, limits=Limits(cpus=launch.limits.cpus))
        session = process.start(instructions, limited, GuestSession)
        try:
            session.attach(launch.session_dir / "qmp", START_TIMEOUT_S * trial.slowness())
        except BaseException:
            session.stop()
            raise
        return session


def configured(
    one: Environment, *, kernel: Path | None = None, disk: Path | None = None, qemu: str | None = None
) -> Environment:
    """A guest with another kernel, disk or QEMU; any other environment as it is. UsageError for what cannot be used."""
    if not isinstance(one, LinuxGuest):
        return one
    machine = one.machine
    if kernel is not None:
        machine = replace(machine, kernel=guest_kernel.named(kernel.resolve()).image)
    if disk is not None:
        if not disk.is_file() or not os.access(disk, os.R_OK):
            raise UsageError(f"--disk {disk} is not a file that can be read", "a raw or qcow2 image is meant")
        machine = replace(machine, disk=disk.resolve())
    if qemu is not None:
        program = trial.find(qemu)
        if program is None:
            raise UsageError(f"qemu:{qemu} is not a program", "name a qemu-system-x86_64")
        machine = replace(machine, qemu=program)
    return replace(one, machine=machine)


def environment(name: str) -> LinuxGuest:
    """The environment of that name. UsageError for a word after the colon that means nothing."""
    kind, _, rest = name.partition(":")
    words = rest.split("+") if rest else []
    for word in words:
        if word not in WORDS:
            raise UsageError(f"{name}: no such variety of a guest: {word!r}", f"there are {', '.join(WORDS)}")
    machine = Machine(emulated="emulated" in words, hugepages="hugepages" in words)
    return LinuxGuest(name, kind.removeprefix("qemu-"), machine)
