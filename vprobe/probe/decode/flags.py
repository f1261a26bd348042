"""Feature flags by the names that Linux gives them, from CPUID or from /proc/cpuinfo."""

from __future__ import annotations

from functools import lru_cache

from vprobe.probe.decode.cpuid import REGISTER_NUMBERS, Cpuid
from vprobe.probe.raw import Raw
from vprobe.probe.tables import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def cpuid_flags(cpuid: Cpuid) -> tuple[str, ...]:
    """Flags of one CPU, in the order of the table's words, then those that Linux derives from them."""
    found: dict[str, None] = {}
    for word in table("cpuid_flags")["words"]:
        value = word_value(cpuid, word, found)
        if value:
            found |= {name: None for bit, name in word["bits"].items() if value >> int(bit) & 1}
    for flag, implied in table("cpuid_flags")["implied"]:
        if flag in found:
            found[implied] = None
    return tuple(found)


def word_value(cpuid: Cpuid, word: dict[str, Any], flags: dict[str, None]) -> int:
    """The register that one row of the table names; 0 where the row does not apply to this CPU."""
    needs = word.get("needs")
    if not applies(cpuid, word) or (needs is not None and needs not in flags):
        return 0
    leaf, subleaf = int(word["leaf"], 16), word["subleaf"]
    if leaf == 7 and subleaf > cpuid.register(7, 0):
        return 0
    return cpuid.register(leaf, REGISTER_NUMBERS[word["register"]], subleaf)


def flag_leaves(name: str) -> list[tuple[int, int]]:
    """(leaf, subleaf) of every word that shows the flag."""
    words = (word for word in table("cpuid_flags")["words"] if name in word["bits"].values())
    return [(int(word["leaf"], 16), word["subleaf"]) for word in words]


def applies(cpuid: Cpuid, word: dict[str, Any]) -> bool:
    """The row is one for this CPU's maker and family."""
    if "vendors" in word and cpuid.vendor not in word["vendors"]:
        return False
    return "families" not in word or cpuid.signature[0] in word["families"]


def cpuinfo_fields(raw: Raw) -> dict[str, str]:
    """/proc/cpuinfo: the first processor's fields, and those of a last block that describes the whole machine."""
    return _parse_cpuinfo(raw.text("/proc/cpuinfo") or "")


@lru_cache(maxsize=4)
def _parse_cpuinfo(text: str) -> dict[str, str]:
    """Asked for by many decoders, and a large machine has megabytes of it."""
    second = text.find("\nprocessor", text.find("processor") + 1)
    first = text if second < 0 else text[:second]
    last = text.rpartition("\n\n")[2]
    fields: dict[str, str] = {}
    for line in (*first.splitlines(), *(() if "processor\t" in last else last.splitlines())):
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def cpuinfo_processors(raw: Raw) -> list[dict[str, str]]:
    """The fields of each processor of /proc/cpuinfo, whether blank lines stand between them or not."""
    processors: list[dict[str, str]] = []
    for line in (raw.text("/proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon and line.startswith("processor"):
            processors.append({})
        if colon and processors:
            processors[-1].setdefault(name.strip(), value.strip())
    return processors


def kernel_flags(raw: Raw) -> tuple[str, ...]:
    """The flags line of /proc/cpuinfo; empty where it was not read."""
    fields = cpuinfo_fields(raw)
    return tuple((fields.get("flags") or fields.get("Features") or fields.get("features") or "").split())
