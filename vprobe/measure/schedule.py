"""Who is measured when: balanced orders of arms, drawn with the recorded seed."""

from __future__ import annotations

import random
from collections.abc import Sequence


def williams_square(arms: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Orders of the arms in which each arm stands at each place equally often and follows each other arm equally often.

    n rows for an even number of arms, 2n for an odd one (Williams 1949: the odd square and its mirror image).
    """
    count = len(arms)
    if count < 2:
        return (tuple(arms),)
    zigzag = [step // 2 + 1 if step % 2 else (count - step // 2) % count for step in range(count)]
    rows = [[(place + row) % count for place in zigzag] for row in range(count)]
    if count % 2:
        rows += [row[::-1] for row in rows]
    return tuple(tuple(arms[index] for index in row) for row in rows)


def draw_rows(square_rows: int, rounds: int, source: random.Random) -> tuple[int, ...]:
    """Row of the square for each round: every row once before any row comes again, shuffled anew each time."""
    drawn: list[int] = []
    while len(drawn) < rounds:
        block = list(range(square_rows))
        source.shuffle(block)
        drawn += block
    return tuple(drawn[:rounds])


def visit_source(seed: int, boot: int, workload: str) -> random.Random:
    """The random source of one visit: the same whether or not the run was interrupted before it."""
    return random.Random(f"{seed}/{boot}/{workload}")
