"""Captures: the same facts from the file as from the machine, nothing that identifies it, and clear refusals."""

from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprobe.errors import InvalidFileError
from vprobe.probe.raw import FileStatus, KvmRaw, Origin, Raw, Unread
from vprobe.probe.report import decode
from vprobe.probe.sources.capture import decode_capture, encode_capture

from .machines import HYPERVISOR, INITIAL_NAMESPACES, VMX, leaves, machine

REGISTER = st.integers(0, 0xFFFFFFFF)
UNREAD = st.sampled_from([Unread(errno.EACCES), Unread(errno.ENOENT), Unread(errno.EIO), Unread(0)])
PATH = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).map(
    lambda text: "/" + text
)
LEAVES = st.dictionaries(st.tuples(REGISTER, st.integers(0, 255)), st.tuples(*[REGISTER] * 4), max_size=5)
KVM = st.builds(
    KvmRaw,
    opened=st.one_of(st.just(0), UNREAD),
    api_version=st.one_of(st.none(), st.just(12), UNREAD),
    create_vm=st.one_of(st.none(), st.just(0), UNREAD),
    extensions=st.dictionaries(st.text(max_size=5), st.integers(-(2**31), 2**31 - 1), max_size=2),
    feature_msrs=st.dictionaries(REGISTER, st.one_of(st.integers(0, 2**64 - 1), UNREAD), max_size=3),
    supported_cpuid=LEAVES,
)
RAW = st.builds(
    Raw,
    origin=st.just(Origin.CAPTURE),
    machine=st.sampled_from(["", "x86_64", "aarch64"]),
    cpuid=st.dictionaries(st.integers(0, 99), LEAVES, max_size=3),
    msrs=st.dictionaries(
        st.integers(0, 99),
        st.dictionaries(REGISTER, st.one_of(st.integers(0, 2**64 - 1), UNREAD), max_size=3),
        max_size=2,
    ),
    files=st.dictionaries(PATH, st.one_of(st.binary(max_size=40), UNREAD), max_size=4),
    links=st.dictionaries(PATH, st.one_of(st.text(st.characters(codec="utf-8"), max_size=9), UNREAD), max_size=3),
    directories=st.dictionaries(
        PATH, st.one_of(st.lists(st.text(max_size=5), max_size=3).map(tuple), UNREAD), max_size=3
    ),
    status=st.dictionaries(
        PATH,
        st.one_of(
            st.builds(FileStatus, REGISTER, REGISTER, st.integers(0, 0o177777), st.sampled_from(["root", "kvm", "7"])),
            UNREAD,
        ),
        max_size=3,
    ),
    kvm=st.one_of(st.none(), KVM),
    effective_uid=st.one_of(st.none(), st.integers(0, 65535)),
    cpu_count=st.one_of(st.none(), st.integers(1, 512)),
)


def sorted_leaves(raw: Raw) -> Raw:
    """The order of leaves is the file's, not the dictionary's."""
    return raw.replace(cpuid={cpu: dict(sorted(own.items())) for cpu, own in raw.cpuid.items()})


@given(RAW)
def test_a_capture_holds_everything(raw: Raw) -> None:
    """With identifiers, what is read back is what was written, whatever it was."""
    assert decode_capture(encode_capture(raw, with_identifiers=True)) == sorted_leaves(raw)


@given(RAW)
def test_the_document_of_a_capture_is_the_machines(raw: Raw) -> None:
    """Leaving identifiers out changes no conclusion."""
    assert decode(decode_capture(encode_capture(raw))).document() == decode(sorted_leaves(raw)).document()


SECRETS = {
    "/proc/cmdline": "root=UUID=11111111-2222-3333-4444-555555555555 ip=10.0.0.7::secret-host:eth0 intel_iommu=on quiet\n",
    "/proc/version": "Linux version 6.1.0 (builder@secret-host) (gcc)\n",
    "/proc/self/mountinfo": "30 1 8:1 / / rw - ext4 /dev/sda rw\n31 30 0:5 / /home/alice rw - nfs secret-host:/export rw\n",
    "/sys/class/dmi/id/product_serial": "SERIAL-0815\n",
    "/sys/class/dmi/id/product_uuid": "11111111-2222-3333-4444-555555555555\n",
    "/sys/hypervisor/uuid": "ec211111-2222-3333-4444-555555555555\n",
    "/sys/firmware/dmi/tables/DMI": "SERIAL-0815",
    "/run/.containerenv": 'engine="podman"\nid="x"\nmac=52:54:00:12:34:56\n',
}


def test_identifiers_are_left_out() -> None:
    """Serial numbers, UUIDs, MAC addresses and host names are not in the file; what the decoders need is."""
    cpuid = leaves(more={(3, 0): (0, 0, 0xDEADBEEF, 0xCAFEF00D)})
    text = encode_capture(machine(cpuid, files=SECRETS)).decode()
    for secret in (
        "11111111-2222",
        "secret-host",
        "alice",
        "SERIAL-0815",
        "52:54:00",
        "10.0.0.7",
        "deadbeef",
        "cafef00d",
    ):
        assert secret not in text
    kept = decode_capture(text.encode())
    assert kept.text("/proc/cmdline") == "intel_iommu=on quiet"
    assert kept.text("/sys/hypervisor/uuid") == "ec2"
    assert "ext4" in (kept.text("/proc/self/mountinfo") or "")


def test_identifiers_are_kept_when_asked_for() -> None:
    """--with-identifiers writes what was read."""
    text = encode_capture(machine(leaves(), files=SECRETS), with_identifiers=True).decode()
    assert "SERIAL-0815" in text
    assert json.loads(text)["identifiers"] is True


def test_a_live_like_record_survives() -> None:
    """A record with everything that a real one has decodes to the same document, evidence and all."""
    raw = machine(
        leaves(ecx=VMX | HYPERVISOR),
        {0x3A: Unread(errno.EACCES), 0x480: 4},
        {
            "/proc/version": "Linux version 6.1.0 (a@b)",
            "/.dockerenv": "",
            "/sys/devices/system/cpu/vulnerabilities/mds": "Not affected\n",
        },
        links=INITIAL_NAMESPACES,
        directories={"/sys/module": ("kvm", "kvm_intel"), "/sys/devices/system/cpu/vulnerabilities": ("mds",)},
        status={"/": FileStatus(1, 2, 0o40755, "root"), "/dev/kvm": FileStatus(5, 6, 0o20660, "kvm")},
        kvm=KvmRaw(opened=Unread(errno.EACCES)),
        effective_uid=1000,
        machine="x86_64",
        cpu_count=4,
    )
    assert decode(decode_capture(encode_capture(raw))).document() == decode(raw).document()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "whole JSON"),
        (b'{"schema": "vprobe.run/1"}', "no capture"),
        (b'{"schema": "vprobe.capture/1", "cpuid": 5}', "no capture"),
        (b'{"schema": "vprobe.capture/1", "cpuid": {"x": {}}}', "no machine answers"),
        (b'{"schema": "vprobe.capture/1", "cpuid": {"0": {"1.0": "1 2 3"}}}', "no machine answers"),
        (b'{"schema": "vprobe.capture/1", "cpuid": {"0": {"1.0": "1 2 3 1ffffffff"}}}', "no machine answers"),
        (b'{"schema": "vprobe.capture/1", "cpuid": {"0": {"1.0": "1 2 3 -4"}}}', "no machine answers"),
        (b'{"schema": "vprobe.capture/1", "msrs": {"0": {"0x3a": "0x1ffffffffffffffff"}}}', "no machine answers"),
        (b'{"schema": "vprobe.capture/1", "files": {"/x": {"base64": "***"}}}', "no machine answers"),
        (b'{"schema": "vprobe.capture/1", "cpuid": ' + b"[" * 100_000, "JSON|no capture"),
        (b'{"schema": "vprobe.capture/1", "machine": "\xff"}', "JSON|no capture"),
        (b'{"schema": "vprobe.capture/1", "msrs": {"0": {"0x3a": {"e\\n\\u001b[31m": 1}}}}', "no capture"),
    ],
)
def test_what_is_no_capture_is_refused_in_one_line(content: bytes, words: str) -> None:
    """Truncated, of another schema, with values that no register holds, or made to exhaust the stack."""
    with pytest.raises(InvalidFileError, match=words) as caught:
        decode_capture(content)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@given(RAW, st.data())
def test_a_cut_capture_is_refused(raw: Raw, data: st.DataObject) -> None:
    """However it is truncated, nothing but InvalidFileError comes out."""
    content = encode_capture(raw)
    end = data.draw(st.integers(0, len(content.rstrip()) - 1))
    with pytest.raises(InvalidFileError):
        decode_capture(content[:end])


def test_identifiers_of_other_machines_are_left_out() -> None:
    """Serial numbers of Arm and s390, names of partitions and of containers, and a company's asset tag."""
    files = {
        "/proc/cpuinfo": "processor\t: 0\nModel Name\t: Loongson-3A5000\nSerial\t\t: 00000000cafe0815\n"
        "processor 0: identification = 15C5C2, machine = 1\n",
        "/proc/sysinfo": "Sequence Code:        00000000000FACADE\nLPAR Name:            PAYROLL\n"
        "VM00 Name:            LEDGER\nVM00 Control Program: z/VM    5.3.0\n",
        "/proc/ppc64/lparcfg": "serial_number=IBM,0210FACE\nshared_processor_mode=1\n",
        "/proc/device-tree/ibm,partition-name": "ledger-7",
        "/proc/1/cgroup": "0::/lxc.payload.ledger-7/init.scope\n",
        "/sys/class/dmi/id/chassis_asset_tag": "INV-4711\n",
    }
    text = encode_capture(machine(files=files)).decode()
    for secret in ("cafe0815", "15C5C2", "FACADE", "PAYROLL", "LEDGER", "0210FACE", "ledger-7", "INV-4711"):
        assert secret not in text
    kept = decode_capture(text.encode())
    assert decode(kept).document() == decode(machine(files=files)).document()
    cloud = machine(files={"/sys/class/dmi/id/chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n"})
    assert b"7783-7084" in encode_capture(cloud)


def test_an_smbios_table_is_kept_without_its_serial_numbers() -> None:
    """Where /sys/class/dmi/id is missing, the table alone names the maker: that much is written as the files would be."""
    bios = bytes([0, 24, 0, 0, 1, 2]) + bytes(13) + bytes([0x10]) + bytes(4) + b"SeaBIOS\0rel-1.16\0\0"
    system = bytes([1, 27, 1, 0, 1, 2, 3, 4]) + bytes(19) + b"QEMU\0Standard PC\0pc-q35\0SERIAL-0815\0\0"
    raw = machine(files={"/sys/firmware/dmi/tables/DMI": bios + system})
    text = encode_capture(raw).decode()
    assert "SERIAL-0815" not in text
    assert decode(decode_capture(text.encode())).document() == decode(raw).document()
    assert decode(raw).hypervisor.monitor == "qemu"
