"""What runs inside a bench: an init script that sets the guest up, runs the bench's script and sends its files back.

The script is one of busybox's shell, as root and process 1's child, with
    OUT      a directory; what is left there comes back
    LAB      the directory of the bench's own files: modules, busybox, the shell
    vprobe   this checkout's command; $PYTHON: its interpreter; as_user: a command as nobody
    probe    probe VIEW [as_user]: a capture becomes that view's
    load     insmod of a module that the bench named: load kvm_amd nested=1; unload NAME
    step     says on the console what comes next; probe, tools, vprobe and load do so by themselves
With the host's root below (read-only, under an overlay in memory) all of the host's programs are there, too, and the tools'.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vprobe.environments import guest_kernel, guest_package
from vprobe.environments.guest_kernel import Kernel
from vprobe.errors import VprobeError

from .initramfs import Archive, find_busybox
from .interpreter import CHECKOUT, VARIABLES, add_python
from .packages import LabError, cache, unpacked

HOST_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "msr", "cpuid")
OWN_MODULES = ("msr", "cpuid")
BEGIN, END = "VPROBE-LAB-BEGIN", "VPROBE-LAB-END"
STEP = "lab: step:"
"""Begins a line of the console that says what the script does next: a bench that hangs is reported with the last one."""

INIT = """#!/busybox sh
/busybox mkdir -p /proc /sys /dev /run /bin; /busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmpfs /run
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mkdir -p /dev/shm /dev/pts /run/lab/out; mount -t tmpfs tmpfs /dev/shm; mount -t devpts pts /dev/pts
cp -r /modules /busybox /lab /run/lab/
for module in $(cat /boot-modules); do insmod /modules/$module.ko || echo "lab: $module was not loaded"; done
[ -e /proc/xen ] && mount -t xenfs xenfs /proc/xen
{enter}
"""

ENTER_OWN = "exec /busybox sh /run/lab/lab/main"

ENTER_HOST = """
options=trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro
mkdir -p /layers/host /layers/tools /layers/new /root
mount -t 9p -o $options host /layers/host || echo "lab: the host's root was not mounted"
mount -t tmpfs tmpfs /layers/new; mkdir /layers/new/upper /layers/new/work
lower=/layers/host
mount -t 9p -o $options tools /layers/tools 2>/dev/null && lower=/layers/tools:/layers/host
mount -t overlay -o lowerdir=$lower,upperdir=/layers/new/upper,workdir=/layers/new/work overlay /root || echo "lab: no overlay"
rm -rf /root/.dockerenv /root/run/.containerenv
for place in proc sys dev run; do mkdir -p /root/$place; mount --move /$place /root/$place; done
for place in {open}; do chmod o+rx /root$place; done
mount -t tmpfs -o mode=1777 tmpfs /root/tmp  # the host's /tmp is its own running programs'
for place in {in_tmp}; do mkdir -p /root$place; mount --bind /layers/host$place /root$place; done
exec switch_root /root /run/lab/busybox sh /run/lab/lab/main
"""

MAIN = """
export LAB=/run/lab OUT=/run/lab/out HOME=/run/lab TMPDIR=/tmp
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export {variables} PYTHON={python}
step() {{ echo "{step} $*, begun after $($LAB/busybox cut -d' ' -f1 /proc/uptime) s" > /dev/console; }}
vprobe() {{ step vprobe $1; $PYTHON -m vprobe "$@"; }}
probe() {{ step probe $1; view=$1; shift; "$@" $PYTHON -m vprobe probe --capture - > $OUT/$view.json; }}
as_user() {{ /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }}
load() {{ step load $1; name=$1; shift; $LAB/busybox insmod $LAB/modules/$name.ko "$@"; }}
unload() {{ $LAB/busybox rmmod $1; }}
echo "lab: user space after $($LAB/busybox cut -d' ' -f1 /proc/uptime) s"
cd $OUT
. $LAB/lab/script > $OUT/output 2> $OUT/errors
echo "lab: script done after $($LAB/busybox cut -d' ' -f1 /proc/uptime) s"
$LAB/busybox dmesg > $OUT/dmesg
step send
{send}
step power off
{power_off}
$LAB/busybox poweroff -f
"""

SEND_SERIAL = """
$LAB/busybox stty -F {port} raw -echo
{{ echo {begin}; $LAB/busybox tar -C $OUT -cz . | $LAB/busybox base64; echo {end}; }} > {port}
"""

BOCHS_POWER_OFF = """
for letter in S h u t d o w n; do
    printf $letter | $LAB/busybox dd of=/dev/port bs=1 seek=35072 count=1 conv=notrunc 2>/dev/null
done
"""
"""Port 0x8900 of Bochs ends it when that word is written there (its BIOS' own way)."""


@dataclass(frozen=True)
class Setup:
    """What a bench's initramfs holds."""

    script: str
    modules: tuple[str, ...] = ()  # to be had by `load`
    boot_modules: tuple[str, ...] = ()  # loaded before anything else, beside those that the root needs
    host_root: bool = True
    port: str = "/dev/ttyS1"
    power_off: str = ""


def distribution_kernel() -> Kernel:
    """The distribution's generic kernel: fetched once, as `vprobe guest prepare` does it. LabError where it is not to be had."""
    try:
        offer = guest_package.offer()
        place = offer.place if offer.place.is_dir() else guest_package.prepare(offer)
    except VprobeError as error:
        kept = guest_kernel.prepared()
        if not kept:
            raise LabError(str(error)) from None
        place = kept[0]
    kernel = guest_kernel.find_in(place)
    if kernel is None or kernel.modules is None:
        raise LabError(f"{place} holds no kernel with modules: remove it, and it is fetched again")
    return kernel


def write_initramfs(setup: Setup, kernel: Kernel, target: Path, fill: Callable[[Archive], None]) -> Path:
    """The archive that the bench boots with; `fill` adds files of the bench's own."""
    archive = Archive()
    archive.copy(find_busybox(unpacked("busybox-static", ["busybox-static"])), "busybox")
    boot = (*(HOST_MODULES if setup.host_root else OWN_MODULES), *setup.boot_modules)
    archive.modules(kernel, setup.modules)
    archive.add("boot-modules", archive.modules(kernel, boot))
    if setup.host_root:
        used = (CHECKOUT, Path(sys.executable).resolve().parents[1], Path(sys.prefix))
        private = {str(parent) for path in used for parent in path.parents} - {"/"}
        in_tmp = [str(path) for path in used if path.is_relative_to("/tmp")]
        enter = ENTER_HOST.format(open=" ".join(sorted(private)), in_tmp=" ".join(in_tmp))
        # The host's cache has the kernel for a guest of the guest; what is written to it stays in the overlay.
        python, variables = sys.executable, f"PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME={cache().parents[1]}"
    else:
        enter = ENTER_OWN
        python, variables = "/python/bin/python3", VARIABLES
        add_python(archive)
    archive.add("init", INIT.format(enter=enter), 0o755)
    send = SEND_SERIAL.format(port=setup.port, begin=BEGIN, end=END)
    words = {"python": python, "variables": variables, "power_off": setup.power_off, "step": STEP}
    archive.add("lab/main", MAIN.format(send=send, **words))
    archive.add("lab/script", setup.script)
    fill(archive)
    return archive.write(target)


@dataclass(frozen=True)
class Answer:
    """What a bench sent back."""

    files: dict[str, bytes]
    console: str
    wall_s: float

    def text(self, name: str) -> str:
        """A file as text; "" where the guest did not write it."""
        return self.files.get(name, b"").decode("utf-8", "replace")


def unpack(said: bytes, console: str, wall_s: float) -> Answer:
    """The files in what a guest wrote to its second port. LabError, with the end of its console, where there are none."""
    found = re.search(rf"{BEGIN}\r?\n(.*?){END}".encode(), said, re.S)
    if not found:
        raise LabError("the guest sent nothing back; its console ends:\n" + "\n".join(console.splitlines()[-25:]))
    try:
        packed = base64.b64decode(re.sub(rb"\s", b"", found[1]), validate=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            members = [member for member in archive if member.isfile()]
            files = {member.name.removeprefix("./"): _content(archive, member) for member in members}
    except (binascii.Error, tarfile.TarError, EOFError) as error:
        raise LabError(f"the guest's answer is damaged: {error}") from None
    return Answer(files, console, wall_s)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""
