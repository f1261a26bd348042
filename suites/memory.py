"""The memory hierarchy: latency by pointer chase, bandwidth by STREAM triad, the cost of fresh pages."""

from __future__ import annotations

from . import DEFAULT, FULL, QUICK, HostFacts, KernelCall, UnsupportedError, workload

KIB, MIB = 1 << 10, 1 << 20
PAGE, HUGE_PAGE = 4 * KIB, 2 * MIB
LINE = 64
DRAM = 4
"""The level below the last cache."""


def _cache_bytes(facts: HostFacts, level: int) -> int:
    """A working set that lies in the cache of that level and in no smaller one.

    Half of L1; a quarter of L2, since physical pages fall on its sets at random and half would already conflict; twice L2
    for L3: a cycle that is larger than a cache with least-recently-used replacement never hits in it. Four times the largest
    cache for DRAM.
    """
    if level == DRAM:
        return max(64 * MIB, 4 * max(facts.cache_bytes.values(), default=0))
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
        "l1,2MiB": {"level": 1, "page_bytes": HUGE_PAGE},
        "l2,2MiB": {"level": 2, "page_bytes": HUGE_PAGE},
        "l3,2MiB": {"level": 3, "page_bytes": HUGE_PAGE},
        "dram": {"level": DRAM},
        "dram,2MiB": {"level": DRAM, "page_bytes": HUGE_PAGE},
    },
    levels={"l1,2MiB": FULL, "l2,2MiB": FULL, "l3,2MiB": DEFAULT, "dram": FULL, "dram,2MiB": FULL},
    level=QUICK,
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
        warm_iterations=size // LINE if level and level != DRAM else 2048,
    )


STREAM_BYTES = 96 * MIB
"""Three arrays of 32 MiB. Arms alternate, so that what comes between two uses of a line is all arms' arrays together."""


@workload("memory.triad", unit="B/s", better="higher", level=QUICK)
def triad(facts: HostFacts) -> KernelCall:
    """STREAM triad, a[i] = b[i] + s * c[i], over three arrays of 32 MiB.

    An iteration is a line of each array: 8 elements of 24 bytes, as STREAM counts.
    """
    del facts
    return KernelCall("triad", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 24)


@workload("memory.copy", unit="B/s", better="higher")
def copy(facts: HostFacts) -> KernelCall:
    """STREAM copy, c[i] = a[i]; 16 bytes an element."""
    del facts
    return KernelCall("copy", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 16)


@workload("memory.scale", unit="B/s", better="higher", level=FULL)
def scale(facts: HostFacts) -> KernelCall:
    """STREAM scale, b[i] = s * c[i]; 16 bytes an element."""
    del facts
    return KernelCall("scale", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 16)


@workload("memory.add", unit="B/s", better="higher", level=FULL)
def add(facts: HostFacts) -> KernelCall:
    """STREAM add, c[i] = a[i] + b[i]; 24 bytes an element."""
    del facts
    return KernelCall("add", memory_bytes=STREAM_BYTES, bytes_per_iteration=8 * 24)


@workload("memory.random_access")
def random_access(facts: HostFacts) -> KernelCall:
    """One update of RandomAccess (HPC Challenge) in a table of 64 MiB: load, exclusive or, store at a random place."""
    del facts
    return KernelCall("random_access", memory_bytes=64 * MIB)


TLB_STRIDE = PAGE + LINE
"""A page further and a line further, so that the lines do not all fall into the same set of a cache."""


@workload(
    "memory.tlb_reach",
    parameters={
        **{str(pages): {"pages": pages} for pages in (16, 64, 256, 1024, 2048, 4096, 8192)},
        "8192,2MiB": {"pages": 8192, "page_bytes": HUGE_PAGE},
    },
    levels={"64": FULL, "256": FULL, "2048": FULL, "4096": FULL},
)
def tlb_reach(facts: HostFacts, pages: int, page_bytes: int = PAGE) -> KernelCall:
    """A chase that meets one line of each page: what translating addresses costs, by the number of pages."""
    del facts
    size = pages * TLB_STRIDE
    return KernelCall(
        "chase", memory_bytes=size, page_bytes=page_bytes, setup="chase", stride=TLB_STRIDE, warm_iterations=pages
    )


@workload(
    "memory.first_touch",
    level=QUICK,
    levels={"2MiB": DEFAULT},
    parameters={"": {}, "2MiB": {"memory_bytes": 64 * MIB, "page_bytes": HUGE_PAGE}},
)
def first_touch(facts: HostFacts, memory_bytes: int = 32 * MIB, page_bytes: int = PAGE) -> KernelCall:
    """One store to each fresh page: page fault, zeroing, and in a guest the second level of translation."""
    del facts
    pages = memory_bytes // page_bytes
    return KernelCall(
        "touch", memory_bytes=memory_bytes, page_bytes=page_bytes, refresh="discard", maximum_iterations=pages
    )


@workload("memory.mprotect", needs=("kernels", "os"))
def mprotect(facts: HostFacts) -> KernelCall:
    """A page made read-only, made writable again, and written to: two system calls and a translation."""
    del facts
    return KernelCall("protect", memory_bytes=PAGE)


@workload("memory.mprotect[shootdown]", needs=("kernels", "os", "two_cpus"))
def mprotect_shootdown(facts: HostFacts) -> KernelCall:
    """As memory.mprotect, while a second thread computes on a second CPU, whose translation must be shot down, too."""
    del facts
    return KernelCall("protect", memory_bytes=PAGE, partner="integer_chain")


@workload("memory.munmap", needs=("kernels", "os"))
def munmap(facts: HostFacts) -> KernelCall:
    """A page mapped, written to, and unmapped."""
    del facts
    return KernelCall("map_touch_unmap", arguments=(PAGE,))


@workload("memory.munmap[shootdown]", needs=("kernels", "os", "two_cpus"))
def munmap_shootdown(facts: HostFacts) -> KernelCall:
    """As memory.munmap, while a second thread computes on a second CPU, whose translation must be shot down, too."""
    del facts
    return KernelCall("map_touch_unmap", arguments=(PAGE,), partner="integer_chain")


@workload("memory.atomic")
def atomic(facts: HostFacts) -> KernelCall:
    """An atomic addition to a word that nobody else wants."""
    del facts
    return KernelCall("atomic", memory_bytes=PAGE)


@workload("memory.atomic[contended]", needs=("kernels", "os", "two_cpus"))
def atomic_contended(facts: HostFacts) -> KernelCall:
    """An atomic addition to a word to which a second CPU adds at the same time."""
    del facts
    return KernelCall("atomic", memory_bytes=PAGE, partner="atomic")
