"""Guests without an operating system under QEMU's software emulation: what their processor and firmware say of them.

The guest is tests/lab/guest/probe.c, compiled here; one runs for a tenth of a second.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "lab" / "guest"
QEMU = "qemu-system-x86_64"
FLAGS = "-m32 -march=i486 -O1 -ffreestanding -fno-pic -fno-stack-protector -fno-builtin -mgeneral-regs-only -nostdlib -static"


class Answer(NamedTuple):
    """What a guest printed: its CPUID in the format of `cpuid -r`, and its firmware's tables."""

    cpuid: str
    tables: dict[str, bytes]

    def write_tree(self, root: Path) -> Path:
        """The tables where Linux shows them, for --sysroot."""
        for name, content in self.tables.items():
            kind, _, table = name.partition("/")
            path = root / ("sys/firmware/dmi/tables" if kind == "dmi" else "sys/firmware/acpi/tables") / table
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root


def build(directory: Path) -> Path:
    """The guest as a multiboot image."""
    image = directory / "probe.elf"
    command = [
        "gcc",
        *FLAGS.split(),
        "-Wl,-m,elf_i386,--build-id=none,--no-warn-rwx-segments",
        "-T",
        str(SOURCE / "probe.ld"),
    ]
    subprocess.run([*command, "-o", str(image), str(SOURCE / "probe.c")], check=True, capture_output=True)
    return image


def models() -> list[str]:
    """Every processor model that QEMU's software emulation has."""
    listed = subprocess.run([QEMU, "-cpu", "help"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[1] for line in listed.splitlines() if line.startswith("x86 ")]
    return [name for name in names if name not in {"host", "base"}]


def run(image: Path, cpu: str, smbios: tuple[str, ...] = ()) -> Answer:
    """Start the guest, and wait for what it says. A comma within an SMBIOS string is written twice."""
    strings = [word for text in smbios for word in ("-smbios", text)]
    command = [
        QEMU,
        "-accel",
        "tcg",
        "-cpu",
        cpu,
        "-M",
        "pc",
        "-m",
        "32",
        "-kernel",
        str(image),
        "-nodefaults",
        "-no-reboot",
    ]
    command += ["-display", "none", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *strings]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.stdout.rstrip().endswith("END"), said.stderr[-500:] + said.stdout[-200:]
    lines = said.stdout.splitlines()
    tables = {
        line.split()[1]: bytes.fromhex(line.split()[2])
        for line in lines
        if line.startswith("TABLE ") and len(line.split()) == 3
    }
    return Answer("\n".join(line for line in lines if not line.startswith(("TABLE ", "END"))) + "\n", tables)
