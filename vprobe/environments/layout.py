"""Where a session's processes find their memory: drawn anew for each boot, and alike in all sessions of one.

The addresses of a process decide which of its cache lines and branches get into each other's way. Drawn for each process by
itself, as the kernel does (address space layout randomization) and Python (the seed of its string hashes), they make two
processes of the same program differ by a few per cent for as long as they live (docs/statistics.md), which no number of
rounds averages out. Fixed once and for all, they would favour the same arm in every boot.

So all sessions of a boot share one draw. The supervisor turns the kernel's randomization off (personality(2)), which every
process below it inherits: engines' daemons and guests start processes of their own and keep theirs. What is drawn instead is
the size of the strings at the top of the stack, which also carry the draw inside, the seed of the hashes, and there (see
vprobe.measure.agent) the places of the heaps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "VPROBE_LAYOUT"
"""Holds the draw, and fills the stack up."""

VARIABLE_BYTES = 16 * 1024
"""What the variables are filled up to, so that stacks are alike however many others there are. Arguments are alike anyway."""
STACK_STEPS, STACK_STEP_BYTES = 256, 16
"""By how much more, in a boot: a page in steps of the stack's alignment (System V ABI, AMD64 supplement, 3.2.2)."""
POINTER_BYTES = 8


def string_bytes(variables: Mapping[str, str]) -> int:
    """What variables take on a new process's stack: as strings with their ends, and the pointers to them (execve(2))."""
    pairs = (os.fsencode(f"{name}={value}") for name, value in variables.items())
    return sum(len(pair) + 1 + POINTER_BYTES for pair in pairs)


def variables(draw: int, others: Mapping[str, str]) -> dict[str, str]:
    """The variables that give a process the layout of a draw (32 bits), beside its `others`, which come first."""
    found = {"PYTHONHASHSEED": f"{draw:010d}", VARIABLE: f"{draw:010d}:"}
    wanted = VARIABLE_BYTES + draw % STACK_STEPS * STACK_STEP_BYTES
    found[VARIABLE] += "-" * max(0, wanted - string_bytes({**found, **others}))
    return found
