"""Fuzz the decoders with what a machine's files may say: /proc, /sys, ACPI and SMBIOS of any content.

.venv/bin/python tests/fuzz/probe_tree.py -max_total_time=120 -timeout=10 -rss_limit_mb=1024 tests/fuzz/seeds/probe_tree
"""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["vprobe.probe"]):
    from vprobe.probe.raw import Origin, Raw, Unread
    from vprobe.probe.report import decode
    from vprobe.probe.sources import paths
    from vprobe.probe.sources.capture import without_identifiers

ACPI = ("FACP", "DMAR", "APIC")
FILES = (
    *paths.FILES,
    *(f"/sys/class/dmi/id/{name}" for name in paths.DMI),
    *(f"/proc/device-tree/{name}" for name in paths.DEVICE_TREE),
    *(f"/sys/firmware/acpi/tables/{name}" for name in ACPI),
    *(f"/sys/devices/system/cpu/cpu0/cache/index{index}/{name}" for index in (0, 2) for name in paths.CACHE_FILES),
    paths.DMI_TABLE,
)
ERRNOS = (1, 2, 5, 13)


def one_input(content: bytes) -> None:
    """The input is cut into choices of files and their contents."""
    data = atheris.FuzzedDataProvider(content)
    files: dict[str, bytes | Unread] = {}
    for _ in range(data.ConsumeIntInRange(0, 6)):
        path = FILES[data.ConsumeIntInRange(0, len(FILES) - 1)]
        failed = data.ConsumeIntInRange(0, 7) == 0
        text = data.ConsumeBytes(data.ConsumeIntInRange(0, 400))
        files[path] = Unread(ERRNOS[data.ConsumeIntInRange(0, 3)]) if failed else text
    names = ("kvm", "kvm_intel", "DMAR", "FACP", "APIC", "dmar0", "fw-cfg@0", "devices")
    directories = {
        path: tuple(name for name in names if data.ConsumeBool())
        for path in (*paths.DIRECTORIES, *paths.ALL_FILES_OF)
        if data.ConsumeBool()
    }
    links = {path: data.ConsumeUnicodeNoSurrogates(24) for path in paths.LINKS if data.ConsumeBool()}
    raw = Raw(Origin.TREE, files=files, directories=directories, links=links, tree_complete=False)
    document = decode(raw).document()
    json.dumps(document)
    assert decode(without_identifiers(raw)).document().keys() == document.keys()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
