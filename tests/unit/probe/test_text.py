"""Dumps as text: every format and every way in which real files spell it."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprobe.errors import InvalidFileError
from vprobe.probe.raw import Origin, Raw, Unread
from vprobe.probe.report import decode
from vprobe.probe.sources.text import format_cpuid, parse_text, to_text

from .machines import HYPERVISOR, aida_text, leaves, vendor_leaf

REGISTER = st.integers(0, 0xFFFFFFFF)
KEYS = st.tuples(st.sampled_from([0, 1, 4, 7, 0xD, 0x40000000, 0x80000000, 0x80000001, 0x8FFFFFFF]), st.integers(0, 63))
CPU = st.dictionaries(KEYS, st.tuples(REGISTER, REGISTER, REGISTER, REGISTER), min_size=1, max_size=12)
CPUS = st.dictionaries(st.integers(0, 300), CPU, min_size=1, max_size=5)
MSRS = st.dictionaries(REGISTER, st.one_of(st.integers(0, 2**64 - 1), st.just(Unread(errno.EIO))), max_size=6)

VENDOR = "CPUID 00000000: 00000016-756E6547-6C65746E-49656E69"
VENDOR_REGISTERS = (0x16, 0x756E6547, 0x6C65746E, 0x49656E69)


def parsed(text: str) -> Raw:
    """The Raw, without the notes."""
    return parse_text(text)[0]


@given(CPUS)
def test_cpuid_text_round_trip(cpus: dict) -> None:
    """What --raw prints is read back to the last bit, CPU by CPU."""
    ordered = {cpu: dict(sorted(own.items())) for cpu, own in sorted(cpus.items())}
    found, notes = parse_text(format_cpuid(Raw(Origin.LIVE, cpuid=ordered)))
    assert (found.cpuid, found.origin, notes) == (ordered, Origin.CPUID_TEXT, ())


@given(CPUS, MSRS)
def test_aida_text_round_trip(cpus: dict, msrs: dict) -> None:
    """Leaves with and without subleaf marks, and MSRs with failures."""
    found, notes = parse_text(aida_text(cpus, msrs))
    assert found.cpuid == {cpu: dict(sorted(own.items())) for cpu, own in sorted(cpus.items())}
    assert found.msrs.get(0, {}) == dict(sorted(msrs.items()))
    assert (found.origin, notes) == (Origin.AIDA_TEXT, ())


@given(
    CPUS,
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_encodings_and_line_ends(cpus: dict, encoding: str, end: str) -> None:
    """Any encoding with or without a byte order mark, and the line ends of every system."""
    text = ("Kopf: Prozessor\n" + aida_text(cpus)).replace("\n", end)
    assert parsed(to_text(text.encode(encoding))).cpuid == parsed(aida_text(cpus)).cpuid


@pytest.mark.parametrize(
    "line",
    [
        VENDOR,
        VENDOR.lower(),
        VENDOR + " [GenuineIntel]",
        "CPUID 00000000 :00000016-756E6547-6C65746E-49656E69",
        "CPUID 00000000  \t00000016-756E6547-6C65746E-49656E69",
        "      CPUID 00000000                                    00000016-756E6547-6C65746E-49656E69 [GenuineIntel]",
        "CPUID 00000000: 00000016 756E6547 6C65746E 49656E69",
        '"CPUID 00000000","00000016-756E6547-6C65746E-49656E69"',
        "\ufeff" + VENDOR,
        "   0x00000000 0x00: eax=0x00000016 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69",
        "   0x00000000: eax=0x00000016 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69",
        "///    0x00000000 0x00: eax=0x00000016 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69",
        "0x00000000: EAX=0x00000016, EBX=0x756e6547, ECX=0x6c65746e, EDX=0x49656e69",
        "eax in: 0x00000000, eax = 00000016 ebx = 756e6547 ecx = 6c65746e edx = 49656e69",
    ],
)
def test_spellings_of_one_leaf(line: str) -> None:
    """The same leaf as AIDA64, EVEREST, cpuid, kcpuid and x86info print it."""
    assert parsed(f"some header\n{line}\nsome footer\n").cpuid == {0: {(0, 0): VENDOR_REGISTERS}}


@pytest.mark.parametrize(
    ("headers", "numbers"),
    [
        (("------[ Logical CPU #0 ]------", "------[ Logical CPU #1 ]------"), [0, 1]),
        (
            ("------[ CPUID Registers / Logical CPU #0 ]------", "------[ CPUID Registers / Logical CPU #1 ]------"),
            [0, 1],
        ),
        (("CPUID Registers (CPU #1):", "CPUID Registers (CPU #2 Virtual):"), [1, 2]),
        (("------[ Logical CPU ]------", "------[ Logical CPU ]------"), [0, 1]),
        (("", ""), [0, 1]),
    ],
)
def test_sections_of_cpus(headers: tuple[str, str], numbers: list[int]) -> None:
    """Numbered from 0 or from 1, with names in any wording, without numbers, and without headers at all."""
    text = "".join(f"{header}\n\nallcpu: Valid\n\n{VENDOR}\n\n" for header in headers)
    assert list(parsed(text).cpuid) == numbers
    assert parsed(text).cpu_count == 2


def test_virtual_cpus_with_the_number_of_their_core() -> None:
    """Four threads on two cores: none is lost, and the registers of a core are the first thread's."""
    block = f"{VENDOR}\nCPUID 00000001: 000306C3-{{:02X}}100800-7FFAFBBF-BFEBFBFF\n"
    headers = ("CPU #1", "CPU #1 Virtual", "CPU #2", "CPU #2 Virtual")
    text = "".join(f"CPUID Registers ({header}):\n{block.format(apic)}" for apic, header in enumerate(headers))
    found, notes = parse_text(text + "MSR Registers (CPU #2):\nMSR 0000003A: 0000-0000-0000-0005\n")
    apic_ids = [own[1, 0][1] >> 24 for own in found.cpuid.values()]
    assert (apic_ids, notes) == ([0, 1, 2, 3], ())
    assert [found.cpuid[cpu][1, 0][1] >> 24 for cpu, own in found.msrs.items() if own] == [2]


def test_other_headers_begin_no_cpu() -> None:
    """Lists of CPUs, affinity masks and MSR sections stand between the leaves."""
    text = (
        f"CPU#000 AffMask: 0x0001\nCPU#001 AffMask: 0x0002\n------[ All CPUs ]------\nCPU  0: APICID  0 / Package 0\n"
        f"------[ Logical CPU #0 ]------\n{VENDOR}\n------[ MSR Registers ]------\nMSR 0000003A: 0000-0000-0000-0005\n"
    )
    found = parsed(text)
    assert (list(found.cpuid), found.msrs) == ([0], {0: {0x3A: 5}})


def test_msrs_of_each_cpu_and_their_annotations() -> None:
    """Sections by CPU, annotations before and after the value, failures, and repeated samples of which the first stands."""
    text = (
        f"------[ Logical CPU #0 ]------\n{VENDOR}\n------[ Logical CPU #1 ]------\n{VENDOR}\n"
        "------[ MSR Registers / Logical CPU #0 ]------\n\n"
        "MSR 00000017: 0004-0000-0000-0000 [PlatID = 1]\nMSR 0000008B: 0000-00F8-0000-0000\nMSR 0000048B: < FAILED >\n"
        "MSR 000003F8: 0000-0000-0000-0001 [S200]\nMSR 000003F8: 0000-0000-0000-0002 [S200]\n"
        "------[ MSR Registers / Logical CPU #1 ]------\n\nMSR 0000008B: 0000-00F9-0000-0000\n"
    )
    found = parsed(text)
    assert found.msrs[0] == {0x17: 4 << 48, 0x8B: 0xF8 << 32, 0x3F8: 1, 0x48B: Unread(errno.EIO)}
    assert found.msrs[1] == {0x8B: 0xF9 << 32}
    assert [difference["what"] for difference in decode(found).inconsistent_cpus] == ["MSR 0x8b"]


def test_subleaves_without_marks_are_counted() -> None:
    """Old dumps repeat leaf 4 without saying which subleaf it is."""
    text = (
        f"CPUID Registers (CPU #1):\n{VENDOR}\nCPUID 00000004  \t3C004121-01C0003F-0000003F-00000000\n"
        "CPUID 00000004  \t3C004122-00C0003F-0000007F-00000000\nCPUID 00000004  \t3C004143-01C0003F-000001FF-00000000\n"
    )
    assert [key for key in parsed(text).cpuid[1] if key[0] == 4] == [(4, 0), (4, 1), (4, 2)]


def test_a_repeated_dump_changes_nothing() -> None:
    """The first value of a leaf stands; what only the repetition has is added."""
    first = aida_text({0: {(0, 0): VENDOR_REGISTERS}})
    second = aida_text({0: {(0, 0): (1, 2, 3, 4), (1, 0): (5, 6, 7, 8)}})
    found, notes = parse_text(first + second)
    assert found.cpuid == {0: {(0, 0): VENDOR_REGISTERS, (1, 0): (5, 6, 7, 8)}}
    assert len(notes) == 1
    assert "other registers" in notes[0]


def test_blocks_after_a_numbered_header_are_further_cpus() -> None:
    """One header, then leaf 0 again and again: nothing of the later CPUs is lost."""
    block = f"{VENDOR}\nCPUID 00000001: 000{{}}06F2-00020800-0000E3BD-BFEBFBFF\n"
    text = "------[ Logical CPU #0 ]------\n" + "".join(block.format(cpu) for cpu in range(3))
    assert list(parsed(text).cpuid) == [0, 1, 2]


def test_any_leaf_repeated_with_other_registers_is_kept() -> None:
    """Processors that are to be asked twice for leaf 2 answer differently each time."""
    text = f"{VENDOR}\nCPUID 00000002: 00000002-1-1-1\n".replace("-1", "-00000001")
    text += "CPUID 00000002: 00000002-00000003-00000004-00000005\n"
    assert [key for key in parsed(text).cpuid[0] if key[0] == 2] == [(2, 0), (2, 1)]


def test_lines_left_out_are_counted_beyond_the_first() -> None:
    """Five notes say which lines, a last one how many more there are."""
    found = parse_text(VENDOR + "\n" + "CPUID 00000001: 12\n" * 9)[1]
    assert len(found) == 6
    assert "4 more" in found[-1]


def test_one_unnumbered_cpu_is_not_the_whole_machine() -> None:
    """`cpuid -1 -r` of a processor with several threads leaves their number open."""
    line = "CPU:\n   0x00000001 0x00: eax=0x{:08x} ebx=0x00100800 ecx=0x00000000 edx=0x{:08x}\n"
    assert parsed(line.format(0x306C3, 0xBFEBFBFF)).cpu_count is None
    assert parsed(line.format(0x6B1, 0x0383FBFF)).cpu_count == 1


@pytest.mark.parametrize(
    "text", ["", "nothing here", "CPUID", "CPU 0:\n", "MSR 0000003A: 0000-0000-0000-0005\n", "\0\0\0"]
)
def test_a_text_without_leaves_is_refused(text: str) -> None:
    """One clear error that says what would be accepted."""
    with pytest.raises(InvalidFileError) as caught:
        parse_text(text)
    assert "no CPUID leaf" in caught.value.message
    assert "cpuid -r" in caught.value.hint


def test_a_truncated_line_is_left_out_and_noted() -> None:
    """A dump that ends in the middle of a record: what is whole is decoded, and the rest is said."""
    found, notes = parse_text(f"{VENDOR}\nCPUID 00000001: 000306C3-00100800-FFF")
    assert list(found.cpuid[0]) == [(0, 0)]
    assert len(notes) == 1
    assert "line 2" in notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"CPUID {leaf:08X}: 00000000-00000000-00000000-00000000\n" for leaf in range(1100)),
        "".join(f"CPU {cpu}:\n0x0 0x0: eax=0 ebx=0 ecx=0 edx=0\n" for cpu in range(8300)),
        "CPU 99999:\n0x0 0x0: eax=0 ebx=0 ecx=0 edx=0\n",
    ],
    ids=["leaves", "cpus", "number"],
)
def test_no_real_machine_is_that_large(text: str) -> None:
    """Memory is bounded: a dump of absurd size is refused."""
    with pytest.raises(InvalidFileError, match=r"real machine|more than"):
        parse_text(text)


@pytest.mark.parametrize("filler", [" ", "0x1 ", "CPUID 00000000 ", "-", "[", "eax=", "MSR 00000000 ["])
def test_long_lines_take_no_time(filler: str) -> None:
    """A megabyte in one line is cut before any pattern sees it."""
    with pytest.raises(InvalidFileError):
        parse_text("0x1" + filler * (1 << 20))


@given(st.text(max_size=400))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Nothing but InvalidFileError ever comes out."""
    try:
        parse_text(text)
    except InvalidFileError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=400))
def test_any_bytes_are_text(content: bytes) -> None:
    """No encoding breaks the reader."""
    assert isinstance(to_text(content), str)


def test_hypervisor_leaves_survive_the_text() -> None:
    """A guest's dump decodes to its hypervisor."""
    cpuid = leaves(ecx=HYPERVISOR, more={(0x40000000, 0): (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)})
    assert decode(parsed(aida_text({0: cpuid}))).hypervisor.kind == "kvm"
    assert vendor_leaf("GenuineIntel", 0x16) == cpuid[0, 0]
