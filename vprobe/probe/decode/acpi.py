"""Who wrote the ACPI tables: OEM ids in every header, and the FADT's hypervisor vendor identity.

ACPI 6.5, 5.2.6 (header: signature, length, OEM id at byte 10, OEM table id at 16, creator at 28) and 5.2.9 (FADT: bytes
268 to 275 name the hypervisor that the firmware runs under). The tables are readable by root only.
"""

from __future__ import annotations

from vprobe.probe.decode.guest_evidence import Finding, Strength
from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.probe.tables import table

DIRECTORY = "/sys/firmware/acpi/tables"
FADT = f"{DIRECTORY}/FACP"
HEADER_BYTES = 36
IDENTITY = slice(268, 276)


class AcpiEvidence(Record):
    """What the tables conclude."""

    monitor: str | None = None
    refused: str = ""  # errno's name, where this user may not read the tables
    findings: tuple[Finding, ...] = ()
    evidence: tuple[str, ...] = ()


def acpi_evidence(raw: Raw) -> AcpiEvidence:
    """The first table whose maker is known, the FADT before all others."""
    names = [FADT, *(f"{DIRECTORY}/{name}" for name in raw.listing(DIRECTORY))]
    monitor: str | None = None
    findings: list[Finding] = []
    evidence: list[str] = []
    fadt = raw.read(FADT)
    identity = _text(fadt[IDENTITY]) if isinstance(fadt, bytes) else ""
    if identity:
        evidence.append(f"ACPI FADT hypervisor vendor identity: {identity}")
    elif isinstance(fadt, Unread) and fadt.refused:
        evidence.append(f"{FADT}: {fadt.name}; only root may read who made the ACPI tables")
    rows = [
        row
        for row in table("hypervisor_evidence")["fadt_identity"]
        if identity and identity.startswith(row["identity"])
    ]
    makers: set[str] = set()
    for name in names:
        oem_id, table_id = _oem(raw.read(name))
        matched = [row for row in table("hypervisor_evidence")["acpi_oem"] if oem_id and oem_id == row["oem_id"]]
        if oem_id not in makers and (matched or (name == FADT and oem_id)):
            evidence.append(f"ACPI {name.rpartition('/')[2]} OEM ids: {oem_id} {table_id}")
            makers.add(oem_id)
        rows += matched
    for row in rows:
        monitor = monitor or row["monitor"]
        if row["kind"]:
            findings.append(Finding(row["kind"], Strength.GOOD, "ACPI tables"))
    refused = fadt.name if isinstance(fadt, Unread) and fadt.refused else ""
    return AcpiEvidence(monitor, refused, tuple(findings), tuple(dict.fromkeys(evidence)))


def _oem(content: bytes | Unread) -> tuple[str, str]:
    if isinstance(content, Unread) or len(content) < HEADER_BYTES:
        return "", ""
    return _text(content[10:16]), _text(content[16:24])


def _text(field: bytes) -> str:
    text = field.decode("latin-1").strip("\0 ")
    return text if text.isascii() and text.isprintable() else ""
