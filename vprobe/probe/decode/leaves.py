"""Every recorded CPUID leaf in words: fields, flags, and the set bits that no row names. Nothing is dropped."""

from __future__ import annotations

from collections.abc import Iterator

from vprobe.probe.decode.cpuid import REGISTER_NUMBERS, Cpuid, Vendor, register_text
from vprobe.probe.decode.flags import applies
from vprobe.probe.decode.signatures import find_signatures
from vprobe.probe.raw import Registers
from vprobe.probe.record import Record
from vprobe.probe.tables import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


REGISTER_NAMES = tuple(REGISTER_NUMBERS)
TEXT_LEAVES = {0x80000002, 0x80000003, 0x80000004}
HYPERVISOR_PREFIX = 0x4


class DecodedLeaf(Record):
    """One leaf and subleaf. `decoded` False: it is out of its range, so that its registers mean nothing."""

    leaf: int
    subleaf: int
    name: str
    registers: Registers
    decoded: bool
    fields: dict[str, int]
    flags: tuple[str, ...]
    text: str
    unknown_bits: dict[str, tuple[int, ...]]  # register -> bits

    def document(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "leaf": f"{self.leaf:#010x}",
            "subleaf": self.subleaf,
            "name": self.name or None,
            "registers": dict(zip(REGISTER_NAMES, map("{:#010x}".format, self.registers))),
            "decoded": self.decoded,
            "fields": dict(self.fields),
            "flags": list(self.flags),
            "text": self.text or None,
            "unknown_bits": {name: list(bits) for name, bits in self.unknown_bits.items()},
        }


def decode_leaves(cpuid: Cpuid) -> Iterator[DecodedLeaf]:
    """Every leaf that was recorded for one CPU, in order."""
    names = table("cpuid_fields")["leaves"]
    for (leaf, subleaf), registers in cpuid.leaves.items():
        name = names.get(f"{leaf:#010x}", "hypervisor" if leaf >> 28 == HYPERVISOR_PREFIX else "")
        if not cpuid.in_range(leaf):
            yield DecodedLeaf(leaf, subleaf, name, registers, False, {}, (), "", {})
            continue
        yield _decode(cpuid, leaf, subleaf, name, registers)


def _decode(cpuid: Cpuid, leaf: int, subleaf: int, name: str, registers: Registers) -> DecodedLeaf:
    fields: dict[str, int] = {}
    flags: list[str] = []
    unknown: dict[str, tuple[int, ...]] = {}
    for number, register in enumerate(REGISTER_NAMES):
        field_rows, flag_rows = _field_rows(cpuid, leaf, subleaf, register), _flag_rows(cpuid, leaf, subleaf, register)
        value = registers[number]
        named = 0
        for high, low, field in field_rows:
            mask = (1 << high - low + 1) - 1
            named |= mask << low
            fields[field if field not in fields else f"{field} ({register})"] = value >> low & mask
        for bit, flag in flag_rows.items():
            named |= 1 << bit
            flags += [flag] if value >> bit & 1 else []
        bits = tuple(bit for bit in range(32) if (value & ~named) >> bit & 1)
        if bits and not _is_text(leaf, number):
            unknown[register] = bits
    return DecodedLeaf(leaf, subleaf, name, registers, True, fields, tuple(flags), _text(leaf, registers), unknown)


def _field_rows(cpuid: Cpuid, leaf: int, subleaf: int, register: str) -> list[tuple[int, int, str]]:
    """Rows of this very subleaf, else those of every subleaf."""
    if leaf >> 28 == HYPERVISOR_PREFIX:
        return _hypervisor_rows(cpuid, leaf, subleaf, register)
    key = f"{leaf:#010x}"
    rows = [row for row in table("cpuid_fields")["words"] if row["leaf"] == key and row["register"] == register]
    own = next((row for row in rows if row["subleaf"] == subleaf), None)
    shared = next((row for row in rows if row["subleaf"] is None), None)
    return [(high, low, name) for high, low, name in (own or shared or {"fields": []})["fields"]]


def _flag_rows(cpuid: Cpuid, leaf: int, subleaf: int, register: str) -> dict[int, str]:
    """Flags by bit, from the tables of flags, of SVM and of SEV."""
    rows: dict[int, str] = {}
    key = f"{leaf:#010x}"
    if leaf >> 28 == HYPERVISOR_PREFIX:
        return _paravirtual_rows(cpuid, leaf, register) if subleaf == 0 else {}
    for word in table("cpuid_flags")["words"]:
        if (word["leaf"], word["subleaf"], word["register"]) == (key, subleaf, register) and applies(cpuid, word):
            rows |= {int(bit): name for bit, name in word["bits"].items()}
    if cpuid.vendor is Vendor.AMD:
        own = {0x8000000A: "svm_features", 0x8000001F: "sev_features"}.get(leaf)
        listed = table(own).get(register) if own else None
        for row in listed if isinstance(listed, list) else ():
            if "id" in row and not row["id"].startswith("reserved_"):
                rows.setdefault(row["bit"], row["id"])
    if leaf == 0x80000001 and register == "edx" and cpuid.vendor is Vendor.AMD:
        basic = _flag_rows(cpuid, 1, 0, "edx")
        rows |= {bit: name for bit, name in basic.items() if bit not in rows and bit in DOUBLED_BITS}
    return rows


def _hypervisor_rows(cpuid: Cpuid, leaf: int, subleaf: int, register: str) -> list[tuple[int, int, str]]:
    """Fields of the block of hypervisor leaves that this leaf belongs to."""
    if not leaf & 0xFF and register == "eax":
        return [(31, 0, "highest_hypervisor_leaf")]
    key = (_block_kind(cpuid, leaf), leaf & 0xFF, subleaf, register)
    rows = table("paravirtual_features")["fields"]
    found = (row["fields"] for row in rows if (row["kind"], row["offset"], row["subleaf"], row["register"]) == key)
    return [(high, low, name) for fields in found for high, low, name in fields]


def _paravirtual_rows(cpuid: Cpuid, leaf: int, register: str) -> dict[int, str]:
    """Features of the block of hypervisor leaves that this leaf belongs to."""
    key = (_block_kind(cpuid, leaf), leaf & 0xFF, register)
    words = (
        row for row in table("paravirtual_features")["words"] if (row["kind"], row["offset"], row["register"]) == key
    )
    return {int(bit): name for word in words for bit, name in word["bits"].items()}


def _block_kind(cpuid: Cpuid, leaf: int) -> str:
    """Whose block of 256 leaves it is; "" where its signature is not known."""
    return next((found.kind for found in find_signatures(cpuid) if found.base == leaf & ~0xFF), "")


DOUBLED_BITS = {*range(10), *range(12, 18), 23, 24}
"""Bits of 0x80000001 EDX that repeat those of leaf 1 on AMD's processors (APM vol. 3, appendix E.4.2)."""


def _is_text(leaf: int, register: int) -> bool:
    low = leaf & 0xFFFFFFF
    return leaf in TEXT_LEAVES or (register > 0 and (leaf in {0, 0x80000000} or (leaf >> 28 == 4 and not low & 0xFF)))


def _text(leaf: int, registers: Registers) -> str:
    a, b, c, d = registers
    if leaf in TEXT_LEAVES:
        return register_text(a, b, c, d).rstrip("\0")
    if leaf in {0, 0x80000000, 0x21} and any((b, c, d)):
        return register_text(b, d, c).rstrip("\0")
    if leaf >> 28 == HYPERVISOR_PREFIX and not leaf & 0xFF and any((b, c, d)):
        return register_text(b, c, d).rstrip("\0")
    return ""
