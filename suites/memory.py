"""The memory hierarchy: latency by pointer chase, bandwidth by STREAM triad, the cost of fresh pages."""

from __future__ import annotations

from . import HostFacts, KernelCall, UnsupportedError, workload

KIB, MIB = 1 << 10, 1 << 20
PAGE, HUGE_PAGE = 4 * KIB, 2 * MIB
LINE = 64


def _cache_bytes(facts: HostFacts, level: int) -> int:
    """A working set that lies in the cache of that level and in no smaller one.

    Half of L1; a quarter of L2, since physical pages fall on its sets at random and half would already conflict; twice L2
    for L3: a cycle that is larger than a cache with least-recently-used replacement never hits in it.
    """
    size = facts.cache_bytes.get(level)
    if not size:
        raise UnsupportedError(f"this CPU does not tell the size of an L{level} cache")
    if level == 3:
        working_set = 2 * facts.cache_bytes.get(2, size)
        if working_set > size // 4:
            raise UnsupportedError("L3 is not large enough to be told from L2")
        return working_set
    return size // (2 * level) // PAGE * PAGE


@workload(
    "memory.chase",
    parameters={
        "l1": {"level": 1},
        "l2": {"level": 2},
        "l3": {"level": 3},
        "64MiB": {"memory_bytes": 64 * MIB},
        "64MiB,2MiB": {"memory_bytes": 64 * MIB, "page_bytes": HUGE_PAGE},
    },
)
def chase(facts: HostFacts, level: int = 0, memory_bytes: int = 0, page_bytes: int = PAGE) -> KernelCall:
    """One load after another along a random cycle, one node per 64-byte line: latency of a load."""
    size = memory_bytes or _cache_bytes(facts, level)
    return KernelCall(
        "chase",
        memory_bytes=size,
        page_bytes=page_bytes,
        setup="chase",
        stride=LINE,
        # One pass brings the set back into its cache; a set without a level is not meant to be cached, and a few thousand
        # loads bring back what translates its addresses, which in a guest the world switch costs.
        warm_iterations=size // LINE if level else 2048,
    )


STREAM_BYTES = 96 * MIB
"""Three arrays of 32 MiB. Arms alternate, so that what comes between two uses of a line is all arms' arrays together."""


@workload("memory.triad", unit="B/s", better="higher")
def triad(facts: HostFacts) -> KernelCall:
    """STREAM triad, a[i] = b[i] + s * c[i], over three arrays of 32 MiB.

    An iteration is a line of each array: 8 elements of 24 bytes, as STREAM counts.
    """
    del facts
    return KernelCall("triad", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 24)


@workload("memory.copy", unit="B/s", better="higher", core=False)
def copy(facts: HostFacts) -> KernelCall:
    """STREAM copy, c[i] = a[i]; 16 bytes an element."""
    del facts
    return KernelCall("copy", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 16)


@workload("memory.scale", unit="B/s", better="higher", core=False)
def scale(facts: HostFacts) -> KernelCall:
    """STREAM scale, b[i] = s * c[i]; 16 bytes an element."""
    del facts
    return KernelCall("scale", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 16)


@workload("memory.add", unit="B/s", better="higher", core=False)
def add(facts: HostFacts) -> KernelCall:
    """STREAM add, c[i] = a[i] + b[i]; 24 bytes an element."""
    del facts
    return KernelCall("add", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 24)


@workload("memory.random_access", core=False)
def random_access(facts: HostFacts) -> KernelCall:
    """One update of RandomAccess (HPC Challenge) in a table of 64 MiB: load, exclusive or, store at a random place."""
    del facts
    return KernelCall("random_access", memory_bytes=64 * MIB)


@workload("memory.first_touch")
def first_touch(facts: HostFacts) -> KernelCall:
    """One store to each fresh 4 KiB page: page fault, zeroing, and in a guest the second level of translation."""
    del facts
    size = 32 * MIB
    return KernelCall("touch", memory_bytes=size, refresh="discard", maximum_iterations=size // PAGE)
