"""The probe inside Linux guests of QEMU's software emulation, with the firmware strings of products.

    .venv/bin/python tests/lab/linux_guest.py [--kernel VMLINUZ --modules DIRECTORY] [PRODUCT…]

The kernel is the distribution's: fetched with its package tool into a temporary directory and unpacked there, never
installed. The guest mounts the host's root read-only over 9p and runs the same interpreter and the same vprobe. A guest takes
about half a minute. Needs qemu-system-x86, busybox-static, cpio and, without --kernel, apt-get. Exit code 1 where a guest is
not named rightly.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

MODULES = (
    "virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci netfs fscache 9pnet 9pnet_virtio 9p"
)
COMMAND = 'import sys; sys.path.insert(0, "{package}"); from vprobe.cli import main; main(["probe", "--json"])'
INIT = """#!/busybox sh
/busybox mkdir -p /proc /sys /dev /host
/busybox mount -t proc proc /proc; /busybox mount -t sysfs sysfs /sys; /busybox mount -t devtmpfs dev /dev
for module in {modules}; do /busybox insmod /modules/$module.ko; done
/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144 host /host || echo "no 9p"
for place in proc sys dev; do /busybox mount --bind /$place /host/$place; done
/busybox stty -F /dev/ttyS1 raw -echo
/busybox chroot /host {python} -B -c '{command}' > /dev/ttyS1
/busybox poweroff -f
"""


class Product(NamedTuple):
    """SMBIOS strings of a product, extra words for QEMU, and what the probe has to say of its guest."""

    smbios: tuple[str, ...]
    cpu: str
    kind: str
    platform: str | None


PRODUCTS = {
    "qemu": Product((), "max", "qemu", None),
    "openstack": Product(("manufacturer=OpenStack Foundation,product=OpenStack Nova",), "max", "qemu", "openstack"),
    "cloudstack": Product(
        ("manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor",), "max", "qemu", "cloudstack"
    ),
    "vmware": Product(("manufacturer=VMware,, Inc.,product=VMware7,,1",), "max", "vmware", None),
    "virtualbox": Product(("manufacturer=innotek GmbH,product=VirtualBox",), "max", "oracle", None),
    "hidden": Product((), "max,-hypervisor", "qemu", None),
}


def main() -> int:
    """Run the products' guests one after the other and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--modules", type=Path, help="directory of its modules")
    parser.add_argument("products", nargs="*", default=list(PRODUCTS), metavar="PRODUCT")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="vplab") as directory:
        place = Path(directory)
        kernel, modules = (options.kernel, options.modules) if options.kernel else fetch(place)
        initramfs = pack(place, modules)
        for name in options.products:
            found = probe(place, kernel, initramfs, PRODUCTS[name])
            hypervisor, expected = found["hypervisor"], PRODUCTS[name]
            right = (hypervisor["kind"], hypervisor["platform"]) == (expected.kind, expected.platform)
            right = right and found["container"]["kind"] in {"chroot", "none"}
            wrong += not right
            seen = {key: hypervisor[key] for key in ("kind", "monitor", "platform", "role", "evidence")}
            print(
                f"{'right' if right else 'WRONG'} {name}: {json.dumps(seen)} container {found['container']['kind']}",
                flush=True,
            )
    return 1 if wrong else 0


def fetch(place: Path) -> tuple[Path, Path]:
    """The distribution's newest kernel, unpacked."""
    depends = subprocess.run(
        ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"linux-image-\S*amd64", depends.partition("Depends:")[2])
    assert match, depends
    downloads = place / "downloads"
    downloads.mkdir()
    subprocess.run(["apt-get", "download", "-q", match[0]], cwd=downloads, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["dpkg-deb", "-x", *map(str, downloads.glob("*.deb")), str(place / "kernel")], check=True)
    return next((place / "kernel" / "boot").glob("vmlinuz-*")), next((place / "kernel").glob("**/lib/modules/*"))


def pack(place: Path, modules: Path) -> Path:
    """An initramfs with busybox, the modules for 9p, and the script that runs the probe."""
    root = place / "initramfs"
    (root / "modules").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "busybox")
    for name in MODULES.split():
        for path in modules.rglob(f"{name}.ko*"):
            (root / "modules" / f"{name}.ko").write_bytes(uncompressed(path))
    package = Path(__file__).resolve().parents[2]
    (root / "init").write_text(
        INIT.format(modules=MODULES, python=sys.executable, command=COMMAND.format(package=package))
    )
    (root / "init").chmod(0o755)
    archive = place / "initramfs.cpio"
    with archive.open("wb") as stream:
        names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, stdout=stream, check=True)
    return archive


def uncompressed(path: Path) -> bytes:
    """A module as the kernel's loader of busybox wants it."""
    if path.suffix == ".ko":
        return path.read_bytes()
    return subprocess.run(
        [{".xz": "xz", ".zst": "zstd"}[path.suffix], "-dc", str(path)], capture_output=True, check=True
    ).stdout


def probe(place: Path, kernel: Path, initramfs: Path, product: Product) -> dict[str, Any]:
    """Boot one guest and read the document from its second serial port."""
    answer, console = place / "answer", place / "console"
    answer.unlink(missing_ok=True)
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-M",
        "q35",
        "-cpu",
        product.cpu,
        "-m",
        "512",
        "-nodefaults",
        "-no-reboot",
    ]
    command += [
        "-display",
        "none",
        "-kernel",
        str(kernel),
        "-initrd",
        str(initramfs),
        "-append",
        "console=ttyS0 quiet panic=-1",
    ]
    command += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
    command += ["-serial", f"file:{console}", "-serial", f"file:{answer}"]
    command += [word for text in product.smbios for word in ("-smbios", f"type=1,{text}")]
    subprocess.run(command, check=True, timeout=600)
    text = answer.read_text() if answer.exists() else ""
    if not text.strip():
        raise SystemExit(f"the guest said nothing:\n{console.read_text()[-2000:]}")
    document: dict[str, Any] = json.loads(text)
    return document


if __name__ == "__main__":
    sys.exit(main())
