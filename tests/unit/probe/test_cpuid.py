"""CPUID leaves behind their gates, flags by their kernel names, caches and topology."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprobe.probe.decode.cpuid import Cpuid, Vendor, decode_signature
from vprobe.probe.decode.flags import cpuid_flags
from vprobe.probe.decode.leaves import decode_leaves
from vprobe.probe.tables import table

from .machines import (
    AMD,
    CENTAUR,
    CORE2,
    EDX1,
    HYPERVISOR,
    INTEL,
    ZEN3,
    leaves,
    report,
    signature_leaf,
    vendor_leaf,
    word,
)

REGISTER = st.integers(0, 0xFFFFFFFF)
LEAF = st.sampled_from(
    [*range(0x26), *range(0x80000000, 0x80000028), 0x40000000, 0x40000001, 0x40000100, 0xC0000001, 0x8FFFFFFF]
)
LEAVES = st.dictionaries(
    st.tuples(LEAF, st.integers(0, 5)), st.tuples(REGISTER, REGISTER, REGISTER, REGISTER), max_size=40
)


@pytest.mark.parametrize(
    ("eax", "expected"),
    [
        (0x000006F6, (6, 15, 6)),
        (0x000306C3, (6, 60, 3)),
        (0x000906ED, (6, 158, 13)),
        (0x00000F4A, (15, 4, 10)),
        (0x00A10F11, (25, 17, 1)),
        (0x00060FB1, (15, 107, 1)),
        (0x000307B0, (7, 59, 0)),
        (0x00000534, (5, 3, 4)),
    ],
)
def test_signature_of_known_processors(eax: int, expected: tuple[int, int, int]) -> None:
    """Family, model and stepping as /proc/cpuinfo gives them for these processors."""
    assert decode_signature(eax) == expected


def test_a_leaf_above_the_maximum_is_never_decoded() -> None:
    """Intel answers such a leaf with the highest basic leaf's data: its bits are no flags."""
    noise = (0xFFFFFFFF,) * 4
    more = {(7, 0): noise, (0x80000007, 0): noise, (0x8000000A, 0): noise}
    cpuid = leaves(INTEL, CORE2, more=more, maximum=4, extended=0x80000004)
    flags = cpuid_flags(Cpuid(cpuid))
    assert not {"avx512f", "smep", "npt", "nonstop_tsc"} & set(flags)
    assert [leaf.decoded for leaf in decode_leaves(Cpuid(cpuid)) if leaf.leaf == 7] == [False]


def test_subleaves_of_leaf_7_above_its_maximum_are_not_decoded() -> None:
    """7.0 EAX is the highest subleaf."""
    more = {(7, 0): (0, 0, 0, 0), (7, 1): (1 << 5, 0, 0, 0)}
    assert "avx512_bf16" not in cpuid_flags(Cpuid(leaves(more=more)))
    assert "avx512_bf16" in cpuid_flags(Cpuid(leaves(more={**more, (7, 0): (1, 0, 0, 0)})))


def test_hypervisor_leaves_need_the_hypervisor_bit() -> None:
    """Without CPUID.1:ECX[31] leaf 0x40000000 is noise, whatever it spells."""
    more = {(0x40000000, 0): signature_leaf("KVMKVMKVM", 0x40000001)}
    assert report(leaves(more=more)).hypervisor.kind is None
    assert report(leaves(ecx=HYPERVISOR, more=more)).hypervisor.kind == "kvm"


def test_old_via_processors_noise_is_no_feature() -> None:
    """The C3 and the WinChip leave kernel addresses in ECX of leaf 1: neither VT-x nor a hypervisor."""
    cpuid = {(0, 0): vendor_leaf(CENTAUR, 1), (1, 0): (0x660, 0xC1704000, 0xC1705FBC, 0x008031B5)}
    found = report(cpuid)
    assert found.hypervisor.fact.state == "absent"
    assert found.vtx.fact.state == "absent"
    assert "ssse3" not in found.cpu.flags
    assert "tsc" in found.cpu.flags


def test_flags_have_the_kernels_names() -> None:
    """The names that scripts grep for in /proc/cpuinfo."""
    more = {(7, 0): (0, 1 << 5 | 1 << 16, 1 << 2, 1 << 26), (0x80000007, 0): (0, 0, 0, 1 << 8)}
    flags = cpuid_flags(Cpuid(leaves(ecx=1 | 1 << 13 | 1 << 20, extended_ecx=1, more=more)))
    for name in (
        "pni",
        "cx16",
        "sse4_2",
        "avx2",
        "avx512f",
        "umip",
        "lahf_lm",
        "nx",
        "lm",
        "pdpe1gb",
        "rdtscp",
        "nonstop_tsc",
    ):
        assert name in flags
    assert {"spec_ctrl", "ibrs", "ibpb", "constant_tsc"} <= set(flags)


def test_rows_of_one_maker_are_not_read_on_another() -> None:
    """0xC0000001 is VIA's, the SVM and SEV leaves are AMD's."""
    more = {
        (0xC0000000, 0): (0xC0000001, 0, 0, 0),
        (0xC0000001, 0): (0, 0, 0, 1 << 6),
        (0x8000001F, 0): (2, 0, 0, 0),
    }
    assert "ace" not in cpuid_flags(Cpuid(leaves(more=more, extended=0x8000001F)))
    assert "sev" not in cpuid_flags(Cpuid(leaves(more=more, extended=0x8000001F)))
    assert "ace" in cpuid_flags(Cpuid(leaves(CENTAUR, 0x6FE, more=more)))
    assert "sev" in cpuid_flags(Cpuid(leaves(AMD, ZEN3, more=more, extended=0x8000001F)))


def test_brand_is_trimmed_and_unpadded() -> None:
    """Right-justified brand strings of old Intel processors, and NULs."""
    text = "              Intel(R) Xeon(R) CPU  E5-2680\0".ljust(48, "\0")
    more = {(0x80000002 + at, 0): tuple(word(text[16 * at + 4 * place :][:4]) for place in range(4)) for at in range(3)}
    assert report(leaves(more=more)).cpu.brand == "Intel(R) Xeon(R) CPU E5-2680"


def test_address_bits_with_and_without_their_leaf() -> None:
    """0x80000008 says it; before that leaf PAE gives 36 bits."""
    assert report(leaves(more={(0x80000008, 0): (0x3027, 0, 0, 0)})).document()["cpu"]["address_bits"] == {
        "physical": 39,
        "virtual": 48,
    }
    old = {(0, 0): vendor_leaf(INTEL, 2), (1, 0): (0x6B1, 0, 0, EDX1)}
    assert report(old).document()["cpu"]["address_bits"] == {"physical": 36, "virtual": 32}


def test_caches_of_intel_by_leaf_4() -> None:
    """Ways, partitions, line and sets multiply; the sharing is the hardware's."""
    more = {
        (4, 0): (0x1C004121, 0x01C0003F, 0x3F, 0),
        (4, 1): (0x1C004122, 0x01C0003F, 0x3F, 0),
        (4, 2): (0x1C004143, 0x00C0003F, 0x3FF, 0),
        (4, 3): (0x1C03C163, 0x03C0003F, 0x2FFF, 6),
        (4, 4): (0, 0, 0, 0),
    }
    found = report(leaves(more=more))
    assert found.cache_bytes(1, "data") == 32 << 10
    assert found.cache_bytes(2) == 256 << 10
    assert found.cache_bytes(3) == 12 << 20
    assert found.cpu.caches[-1].shared_by == 16


def test_caches_of_amd_before_and_after_topology_extensions() -> None:
    """0x80000005 and 0x80000006 on old processors, 0x8000001D where the flag says that it is there."""
    old = {(0x80000005, 0): (0, 0, 0x40020140, 0x40020140), (0x80000006, 0): (0, 0, 0x02008140, 0x0030B140)}
    found = report(leaves(AMD, 0x100F42, more=old))
    assert (found.cache_bytes(1, "data"), found.cache_bytes(2), found.cache_bytes(3)) == (64 << 10, 512 << 10, 6 << 20)
    new = old | {(0x8000001D, 0): (0x4121, 0x01C0003F, 0x3F, 0), (0x8000001D, 1): (0x143, 0x01C0003F, 0x7FF, 2)}
    found = report(leaves(AMD, ZEN3, extended_ecx=1 << 22, more=new, extended=0x80000021))
    assert (found.cache_bytes(1, "data"), found.cache_bytes(2), found.cache_bytes(3)) == (32 << 10, 1 << 20, None)


def test_caches_by_descriptors_before_leaf_4() -> None:
    """Leaf 2 of a Pentium III: 16 KiB of data, 512 KiB of second level."""
    old = {(0, 0): vendor_leaf(INTEL, 2), (1, 0): (0x6B1, 0, 0, EDX1), (2, 0): (0x03020101, 0, 0, 0x0C040883)}
    found = report(old)
    assert found.cache_bytes(1, "data") == 16 << 10
    assert found.cache_bytes(2) == 512 << 10


def test_topology_counts_by_apic_ids() -> None:
    """Two packages of two cores with two threads each: eight APIC ids."""
    cpus = {}
    for cpu in range(8):
        apic = (cpu >> 2) << 4 | (cpu & 3)
        more = {(0xB, 0): (1, 2, 0x100, apic), (0xB, 1): (4, 4, 0x201, apic)}
        cpus[cpu] = leaves(more=more)
    from vprobe.probe.decode.topology import decode_topology
    from vprobe.probe.raw import Origin, Raw

    found = decode_topology(Raw(Origin.LIVE, cpuid=cpus), Cpuid(cpus[0]))
    assert (found["packages"], found["cores"], found["threads"], found["threads_per_core"]) == (2, 4, 8, 2)


def test_amd_processors_count_their_kinds_of_core() -> None:
    """Leaf 0x80000026 tells Zen from its dense variant, only where it says that the cores are unlike."""
    from vprobe.probe.decode.topology import decode_topology
    from vprobe.probe.raw import Origin, Raw

    for unlike, kinds in ((1 << 30, {"performance": 2, "efficiency": 1}), (0, None)):
        cpus = {
            cpu: leaves(
                AMD,
                more={(0x80000026, 0): (unlike | 1, kind << 28 | 2, 0x100, cpu)},
                extended=0x80000028,
            )
            for cpu, kind in enumerate((0, 0, 1))
        }
        found = decode_topology(Raw(Origin.LIVE, cpuid=cpus), Cpuid(cpus[0]))
        assert found.get("core_kinds") == kinds


def test_hybrid_processors_count_their_kinds_of_core() -> None:
    """Leaf 0x1A tells performance from efficiency cores."""
    from vprobe.probe.decode.topology import decode_topology
    from vprobe.probe.raw import Origin, Raw

    cpus = {
        cpu: leaves(more={(0x1A, 0): (0x40000001 if cpu < 2 else 0x20000001, 0, 0, 0)}, maximum=0x20)
        for cpu in range(6)
    }
    found = decode_topology(Raw(Origin.LIVE, cpuid=cpus), Cpuid(cpus[0]))
    assert found["core_kinds"] == {"performance": 2, "efficiency": 4}


@given(LEAVES, st.sampled_from([INTEL, AMD, CENTAUR, "VIA VIA VIA ", "Foreign CPU!"]))
def test_no_leaves_break_the_decoders_and_none_is_dropped(random: dict, vendor: str) -> None:
    """Whatever the registers hold, every recorded leaf comes out of decode_leaves, and the report is made."""
    cpuid = dict(sorted({**random, (0, 0): vendor_leaf(vendor, 0x24)}.items()))
    assert [(leaf.leaf, leaf.subleaf) for leaf in decode_leaves(Cpuid(cpuid))] == list(cpuid)
    report(cpuid).document()


@given(LEAVES)
def test_every_set_bit_of_a_decoded_leaf_is_named_or_unknown(random: dict) -> None:
    """No bit disappears: a set bit belongs to a field, a flag, a text, or the unknown bits."""
    cpuid = dict(sorted({**random, (0, 0): vendor_leaf(INTEL, 0x24)}.items()))
    for leaf in decode_leaves(Cpuid(cpuid)):
        if leaf.decoded and not leaf.text and any(leaf.registers):
            assert leaf.fields or leaf.flags or leaf.unknown_bits


def test_every_vendor_with_leaves_of_its_own_is_known() -> None:
    """The rows of the flag table name only vendors that exist."""
    named = {vendor for word_row in table("cpuid_flags")["words"] for vendor in word_row.get("vendors", ())}
    assert named <= set(Vendor)
