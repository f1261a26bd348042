"""What the firmware's SMBIOS strings say: rows of data/dmi_rules.json, weighed against the hypervisor flag.

Strings are the machine's own words: they are shortened before anything is done with them.
"""

from __future__ import annotations

from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.probe.tables import is_platforms_asset_tag, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


DIRECTORY = "/sys/class/dmi/id"
ASKED_IN_ORDER = ("product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version")
LONGEST_STRING = 128
CONDITIONS = (*ASKED_IN_ORDER, "bios_version", "board_name", "chassis_asset_tag", "chassis_vendor", "product_family")
BIOS_ENTRY = "/sys/firmware/dmi/entries/0-0/raw"
TABLE = "/sys/firmware/dmi/tables/DMI"
VIRTUAL_MACHINE_BYTE, VIRTUAL_MACHINE_BIT = 0x13, 4
"""SMBIOS 3.7, 7.1.2.2: BIOS characteristics extension byte 2, bit 4: the table describes a virtual machine."""
STRINGS_OF_TYPE = {
    0: {"bios_vendor": 4, "bios_version": 5},
    1: {"sys_vendor": 4, "product_name": 5, "product_version": 6, "product_sku": 0x19, "product_family": 0x1A},
    2: {"board_vendor": 4, "board_name": 5},
    3: {"chassis_vendor": 4, "chassis_asset_tag": 8},
}
"""SMBIOS 3.7, 7.1 to 7.4: structure type -> our name -> offset of the string's number."""


class DmiEvidence(Record):
    """What the strings conclude. `kind` None: they name no hypervisor."""

    kind: str | None = None
    monitor: str | None = None
    platform: str | None = None
    bare_metal: bool = False
    virtual: bool = False  # SMBIOS itself says that this is a virtual machine, whoever made it
    evidence: tuple[str, ...] = ()


def dmi_strings(raw: Raw) -> dict[str, str]:
    """The strings by the names of /sys/class/dmi/id, from there or from the recorded table."""
    strings = {name: raw.text(f"{DIRECTORY}/{name}") for name in CONDITIONS}
    found = {name: text[:LONGEST_STRING] for name, text in strings.items() if text}
    content = raw.read(TABLE)
    if not found and not isinstance(content, Unread):
        found = {name: text[:LONGEST_STRING] for name, text in _table_strings(content).items() if name in CONDITIONS}
    if not is_platforms_asset_tag(found.get("chassis_asset_tag", "")):
        found.pop("chassis_asset_tag", None)
    return found


def files_of_table(content: bytes) -> dict[str, bytes]:
    """The SMBIOS table as the files of /sys that say the same, without serial numbers and UUIDs."""
    strings = _table_strings(content)
    if not is_platforms_asset_tag(strings.get("chassis_asset_tag", "")):
        strings.pop("chassis_asset_tag", None)
    files = {f"{DIRECTORY}/{name}": f"{text}\n".encode() for name, text in strings.items()}
    bios = next(_structures(content, wanted=0), None)
    return files | ({BIOS_ENTRY: bios[0] + b"\0\0"} if bios else {})


def dmi_evidence(raw: Raw, *, flagged: bool) -> DmiEvidence:
    """The first row that names a hypervisor and counts, and the first one that names a platform: a cloud writes its name into
    one string of a machine whose other strings are the hypervisor's. `flagged`: CPUID or the kernel says that this is a guest.
    """
    strings = dmi_strings(raw)
    if not strings:
        return DmiEvidence()
    virtual = virtual_machine_bit(raw)
    rows = [row for row in table("dmi_rules")["rules"] if _holds(row, strings)]
    counting = [row for row in rows if _counts(row, strings, flagged=flagged, virtual=virtual, raw=raw)]
    naming = next((row for row in counting if row["kind"]), None)
    if naming and naming.get("weak") and naming is not rows[0]:
        naming = None  # a cloud's row came first: it knows better than a maker's name
    return DmiEvidence(
        kind=naming["kind"] if naming else None,
        monitor=next((row["monitor"] for row in (naming, *counting) if row and row.get("monitor")), None),
        platform=next((row["platform"] for row in rows if row.get("platform")), None),
        bare_metal=not counting and not virtual,
        virtual=bool(virtual),
        evidence=_describe(strings, virtual),
    )


def _holds(row: dict[str, Any], strings: dict[str, str]) -> bool:
    for name in CONDITIONS:
        if name in row and not strings.get(name, "").startswith(row[name]):
            return False
    if "any" in row and not any(strings.get(name, "").startswith(row["any"]) for name in ASKED_IN_ORDER):
        return False
    return "contains" not in row or any(row["contains"] in text for text in strings.values())


def _counts(row: dict[str, Any], strings: dict[str, str], *, flagged: bool, virtual: bool | None, raw: Raw) -> bool:
    """A maker's name that real machines carry too needs another witness that this is a guest."""
    if flagged or virtual:
        return True
    if ".metal" in strings.get("product_name", ""):
        return False
    if row.get("weak"):
        return virtual is None and _flag_has_no_meaning(raw)
    return True


def _flag_has_no_meaning(raw: Raw) -> bool:
    """Only processors of the x86 kind have the flag that tells a guest."""
    return not raw.leaves and "flags" not in (raw.text("/proc/cpuinfo") or "flags")


def virtual_machine_bit(raw: Raw) -> bool | None:
    """SMBIOS says that this is a virtual machine; None where the BIOS structure was not read or is too short."""
    content = raw.read(BIOS_ENTRY)
    if isinstance(content, Unread):
        whole = raw.read(TABLE)
        content = b"" if isinstance(whole, Unread) else next(_structures(whole, wanted=0), (b"", []))[0]
    if len(content) <= VIRTUAL_MACHINE_BYTE or content[1] <= VIRTUAL_MACHINE_BYTE:
        return None
    return bool(content[VIRTUAL_MACHINE_BYTE] >> VIRTUAL_MACHINE_BIT & 1)


def _describe(strings: dict[str, str], virtual: bool | None) -> tuple[str, ...]:
    described = [f"DMI {name}: {strings[name]}" for name in CONDITIONS if name in strings and name not in QUIET]
    if virtual:
        described.append("SMBIOS: the system is a virtual machine")
    return tuple(described)


QUIET = {"board_name", "chassis_vendor", "product_family", "board_vendor"}
"""Strings that seldom add anything to the others."""


def _structures(content: bytes, wanted: int | None = None) -> Any:
    """(formatted part, strings) of each SMBIOS structure; stops at the first that does not fit."""
    position = 0
    while position + 4 <= len(content):
        length = content[position + 1]
        end = content.find(b"\0\0", position + length)
        if length < 4 or end < 0:
            return
        texts = content[position + length : end].split(b"\0")
        if wanted is None or content[position] == wanted:
            yield content[position : position + length], [text.decode("latin-1").strip() for text in texts]
        position = end + 2


def _table_strings(content: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for formatted, texts in _structures(content):
        for name, offset in STRINGS_OF_TYPE.get(formatted[0], {}).items():
            number = formatted[offset] if offset < len(formatted) else 0
            if 0 < number <= len(texts):
                found.setdefault(name, texts[number - 1])
    return found
