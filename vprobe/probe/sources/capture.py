"""A capture: everything that was read from a machine, as one JSON file (schema vprobe.capture/1), and back.

What identifies the machine is left out unless it is asked for: serial numbers, UUIDs, MAC addresses, host names.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, Literal

import msgspec

from vprobe.errors import InvalidFileError
from vprobe.probe.raw import FileStatus, KvmRaw, Leaves, Origin, Raw, Registers, Unread
from vprobe.probe.record import Record
from vprobe.probe.sources import paths
from vprobe.probe.tables import is_platforms_asset_tag

SCHEMA: Final = "vprobe.capture/1"


class FailedRead(msgspec.Struct, frozen=True, tag_field=None, forbid_unknown_fields=True):
    """Why something could not be read."""

    errno: int


class Content(msgspec.Struct, frozen=True):
    """A file: one of text (UTF-8), base64 (anything else) and errno (not read)."""

    text: str | None = None
    base64: str | None = None
    errno: int | None = None


class Status(msgspec.Struct, frozen=True):
    """What stat(2) said."""

    device: int = 0
    inode: int = 0
    mode: int = 0
    group: str = ""
    errno: int | None = None


class KvmAnswers(msgspec.Struct, frozen=True):
    """What /dev/kvm answered; keys of MSRs and leaves are written in hexadecimal."""

    opened: int | FailedRead
    api_version: int | FailedRead | None = None
    create_vm: int | FailedRead | None = None
    extensions: dict[str, int] = {}
    feature_msrs: dict[str, str | FailedRead] = {}
    supported_cpuid: dict[str, str] = {}


class Capture(msgspec.Struct, frozen=True):
    """The file. CPUID by CPU: "leaf.subleaf" -> "eax ebx ecx edx", all hexadecimal."""

    schema: Literal["vprobe.capture/1"]
    machine: str = ""
    cpu_count: int | None = None
    effective_uid: int | None = None
    identifiers: bool = False
    cpuid: dict[str, dict[str, str]] = {}
    msrs: dict[str, dict[str, str | FailedRead]] = {}
    files: dict[str, Content] = {}
    directories: dict[str, list[str] | FailedRead] = {}
    links: dict[str, str | FailedRead] = {}
    status: dict[str, Status] = {}
    kvm: KvmAnswers | None = None


def encode_capture(raw: Raw, *, with_identifiers: bool = False) -> bytes:
    """The capture file of what was read."""
    kept = raw if with_identifiers else without_identifiers(raw)
    capture = Capture(
        schema=SCHEMA,
        machine=kept.machine,
        cpu_count=kept.cpu_count,
        effective_uid=kept.effective_uid,
        identifiers=with_identifiers,
        cpuid={str(cpu): _leaves_out(leaves) for cpu, leaves in kept.cpuid.items()},
        msrs={
            str(cpu): {f"{index:#x}": _hex_out(value) for index, value in own.items()} for cpu, own in kept.msrs.items()
        },
        files={path: _content_out(content) for path, content in kept.files.items()},
        directories={
            path: list(names) if not isinstance(names, Unread) else FailedRead(names.errno)
            for path, names in kept.directories.items()
        },
        links={
            path: FailedRead(target.errno) if isinstance(target, Unread) else target
            for path, target in kept.links.items()
        },
        status={path: _status_out(found) for path, found in kept.status.items()},
        kvm=_kvm_out(kept.kvm) if kept.kvm else None,
    )
    return msgspec.json.format(msgspec.json.encode(capture), indent=1) + b"\n"


def decode_capture(content: bytes) -> Raw:
    """The Raw that the file holds. InvalidFileError says what is wrong with it."""
    try:
        capture = msgspec.json.decode(content, type=Capture)
        return _raw(capture)
    except msgspec.ValidationError as error:
        raise InvalidFileError(
            f"this is no capture: {_one_line(error)}", f"a capture has the schema {SCHEMA}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFileError(f"this is not whole JSON: {_one_line(error)}", "capture the machine again") from None
    except (ValueError, binascii.Error) as error:
        raise InvalidFileError(
            f"this capture holds what no machine answers: {_one_line(error)}", "capture the machine again"
        ) from None


def _one_line(error: Exception) -> str:
    """What went wrong, without what the file may have put into it to drive the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(error))[:240]


def _raw(capture: Capture) -> Raw:
    return Raw(
        origin=Origin.CAPTURE,
        machine=capture.machine[:64],
        cpuid={_cpu_number(cpu): _leaves_in(leaves) for cpu, leaves in capture.cpuid.items()},
        msrs={
            _cpu_number(cpu): {int(index, 16): _hex_in(value) for index, value in own.items()}
            for cpu, own in capture.msrs.items()
        },
        files={path: _content_in(content) for path, content in capture.files.items()},
        directories={
            path: Unread(names.errno) if isinstance(names, FailedRead) else tuple(names)
            for path, names in capture.directories.items()
        },
        links={
            path: Unread(target.errno) if isinstance(target, FailedRead) else target
            for path, target in capture.links.items()
        },
        status={path: _status_in(found) for path, found in capture.status.items()},
        kvm=_kvm_in(capture.kvm) if capture.kvm else None,
        effective_uid=capture.effective_uid,
        cpu_count=capture.cpu_count,
    )


def _cpu_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ValueError(f"{text[:20]}: not the number of a CPU")
    return int(text)


def _leaves_out(leaves: Leaves) -> dict[str, str]:
    return {
        f"{leaf:08x}.{subleaf:02x}": " ".join(f"{register:08x}" for register in own)
        for (leaf, subleaf), own in leaves.items()
    }


def _leaves_in(leaves: dict[str, str]) -> Leaves:
    found: dict[tuple[int, int], Registers] = {}
    for key, text in leaves.items():
        leaf, _, subleaf = key.partition(".")
        a, b, c, d = (int(word, 16) for word in text.split())
        if max(a, b, c, d, int(leaf, 16)) > 0xFFFFFFFF or min(a, b, c, d) < 0:
            raise ValueError(f"CPUID {key[:20]}: a register has 32 bits")
        found[int(leaf, 16), int(subleaf or "0", 16)] = (a, b, c, d)
    return dict(sorted(found.items()))


def _hex_out(value: int | Unread) -> str | FailedRead:
    return FailedRead(value.errno) if isinstance(value, Unread) else f"{value:#x}"


def _hex_in(value: str | FailedRead) -> int | Unread:
    if isinstance(value, FailedRead):
        return Unread(value.errno)
    number = int(value, 16)
    if not 0 <= number <= 0xFFFFFFFFFFFFFFFF:
        raise ValueError(f"{value[:20]}: an MSR has 64 bits")
    return number


def _content_out(content: bytes | Unread) -> Content:
    if isinstance(content, Unread):
        return Content(errno=content.errno)
    try:
        return Content(text=content.decode("utf-8"))
    except UnicodeDecodeError:
        return Content(base64=base64.b64encode(content).decode("ascii"))


def _content_in(content: Content) -> bytes | Unread:
    if content.text is not None:
        return content.text.encode("utf-8", "surrogatepass")
    if content.base64 is not None:
        return base64.b64decode(content.base64, validate=True)
    return Unread(content.errno or 0)


def _status_out(found: FileStatus | Unread) -> Status:
    return Status(errno=found.errno) if isinstance(found, Unread) else Status(**found.as_dict())


def _status_in(found: Status) -> FileStatus | Unread:
    if found.errno is not None:
        return Unread(found.errno)
    return FileStatus(found.device, found.inode, found.mode, found.group[:64])


def _kvm_out(kvm: KvmRaw) -> KvmAnswers:
    return KvmAnswers(
        opened=_answer_out(kvm.opened),
        api_version=None if kvm.api_version is None else _answer_out(kvm.api_version),
        create_vm=None if kvm.create_vm is None else _answer_out(kvm.create_vm),
        extensions=dict(kvm.extensions),
        feature_msrs={f"{index:#x}": _hex_out(value) for index, value in kvm.feature_msrs.items()},
        supported_cpuid=_leaves_out(kvm.supported_cpuid),
    )


def _kvm_in(kvm: KvmAnswers) -> KvmRaw:
    return KvmRaw(
        opened=_answer_in(kvm.opened),
        api_version=None if kvm.api_version is None else _answer_in(kvm.api_version),
        create_vm=None if kvm.create_vm is None else _answer_in(kvm.create_vm),
        extensions=kvm.extensions,
        feature_msrs={int(index, 16): _hex_in(value) for index, value in kvm.feature_msrs.items()},
        supported_cpuid=_leaves_in(kvm.supported_cpuid),
    )


def _answer_out(answer: int | Unread) -> int | FailedRead:
    return FailedRead(answer.errno) if isinstance(answer, Unread) else answer


def _answer_in(answer: int | FailedRead) -> int | Unread:
    return Unread(answer.errno) if isinstance(answer, FailedRead) else answer


class _Pattern(Record):
    pattern: re.Pattern[str]
    replacement: str


IDENTIFYING = (
    _Pattern(
        re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "00000000-0000-0000-0000-000000000000"
    ),
    _Pattern(re.compile(r"\b[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}\b"), "00:00:00:00:00:00"),
    _Pattern(re.compile(r"\([^\s()@]+@[^\s()]+\)"), "(builder)"),
    _Pattern(re.compile(r"(?m)^(Serial\s*:).*$"), r"\1 (left out)"),
    _Pattern(re.compile(r"(\bidentification = )[0-9A-Fa-f]+"), r"\g<1>000000"),
    _Pattern(re.compile(r"(?m)^((?:LPAR|VM\d\d) (?:Extended )?Name|Sequence Code|Plant)( *:).*$"), r"\1\2 (left out)"),
    _Pattern(re.compile(r"(?m)^(serial_number|system_id)=.*$"), r"\1=(left out)"),
    _Pattern(re.compile(r"(/lxc(?:/|\.payload\.|\.monitor\.)|/machines/|/systemd-nspawn@)[^/\s.]+"), r"\1name"),
)
"""UUIDs, MAC addresses, the builder's host in /proc/version, Arm's and IBM's serial numbers and names of machines in
/proc/cpuinfo, /proc/sysinfo and lparcfg, and containers that are named like hosts."""
NAMES = {"/proc/device-tree/ibm,partition-name"}
"""Files whose presence tells, and whose content names the machine."""
ASSET_TAG = "/sys/class/dmi/id/chassis_asset_tag"
"""Clouds write who they are into it, companies the number of the machine."""

KEPT_WORDS = re.compile(r"^(BOOT_IMAGE=\S*gvisor|[a-z_]*iommu=|mitigations=|nested|kvm|nosmt|nosmx|quiet$)")
"""Words of the kernel's command line that say something about virtualization; all others are dropped."""
NEVER_KEPT = {"/sys/firmware/dmi/tables/DMI", *(f"/sys/class/dmi/id/{name}" for name in paths.DMI_IDENTIFIERS)}
KEPT_MOUNTS = re.compile(r"^\S+ \S+ \S+ \S+ (/|/(proc|sys|dev|run|etc)\S*) ")
SERIAL_NUMBER_LEAF = 3


def without_identifiers(raw: Raw) -> Raw:
    """The same record without what names this one machine; the decoders conclude the same from it."""
    files = {path: _scrub(path, content) for path, content in raw.files.items() if path not in NEVER_KEPT}
    cpuid = {cpu: _without_serial_number(leaves) for cpu, leaves in raw.cpuid.items()}
    return raw.replace(files={**files, **_of_smbios_table(raw)}, cpuid=cpuid)


def _of_smbios_table(raw: Raw) -> dict[str, bytes]:
    """The table holds serial numbers among its strings: it is kept as the files that would tell the rest."""
    from vprobe.probe.decode.dmi import files_of_table  # noqa: PLC0415 - few machines have the table alone

    content = raw.read(paths.DMI_TABLE)
    return {} if isinstance(content, Unread) else files_of_table(content)


def _without_serial_number(leaves: Leaves) -> Leaves:
    if (SERIAL_NUMBER_LEAF, 0) not in leaves:
        return leaves
    return {key: (0, 0, 0, 0) if key[0] == SERIAL_NUMBER_LEAF else registers for key, registers in leaves.items()}


def _scrub(path: str, content: bytes | Unread) -> bytes | Unread:
    if isinstance(content, Unread):
        return content
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return content  # ACPI and SMBIOS structures, of which only headers are read
    if path in NAMES or (path == ASSET_TAG and not is_platforms_asset_tag(text.strip())):
        return b""
    if path == "/proc/cmdline":
        text = " ".join(word for word in text.split() if KEPT_WORDS.match(word))
    elif path.endswith("/mountinfo"):
        text = "\n".join(line for line in text.splitlines() if KEPT_MOUNTS.match(line))
    elif path == "/sys/hypervisor/uuid":
        text = text[:3]
    for row in IDENTIFYING:
        text = row.pattern.sub(row.replacement, text)
    return text.encode()
