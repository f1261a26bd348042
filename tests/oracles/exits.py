"""Exits against a minimal virtual machine in C (exits.c)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from oracles.bench import Bench
from oracles.pairs import Pair, Row, alternate
from oracles.programs import Blocks, compiled


def against_c(name: str, iterations: int) -> Callable[[Bench, int], Iterator[Pair]]:
    """Blocks of equally many exits, each pair with fresh machines on both sides."""

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
    for name, iterations in (("out", 40), ("cpuid", 200), ("hypercall", 200))
)
