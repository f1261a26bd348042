"""Exits against a minimal virtual machine in C (exits.c)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate
from oracles.programs import Blocks, compiled


def against_c(name: str, iterations: int) -> Callable[[Bench, int], Iterator[Pair]]:
    """Blocks of equally many exits, each pair with fresh machines on both sides.

    So many of those that stay within KVM that the way in and out again, which the C program's time holds once a block (as much
    as 15 of them) and ours does not, is small.
    """

    def pairs(bench: Bench, count: int) -> Iterator[Pair]:
        for number in range(count):
            with (
                bench.prepared(f"exits.{name}", seed=number + 1, iterations=iterations) as ours,
                Blocks(compiled("exits.c"), bench.cpu, name, iterations) as theirs,
            ):
                yield alternate(ours, theirs)

    return pairs


ROWS = tuple(
    Row(f"exits.{name}", "stand-alone C on /dev/kvm", 0.10, against_c(name, iterations), environments=("kvm",))
    for name, iterations in (("out", 40), ("cpuid", 5_000), ("hypercall", 5_000))
)
