"""The frozen facts that decoders return. Every one has a state, the evidence that was read, and where it helps a remedy."""

from __future__ import annotations

from vprobe.probe.record import Record
from vprobe.states import State


class Fact(Record):
    """One thing that the probe knows, how it knows it, and what the user may do about it."""

    state: State
    reason: str = ""
    remedy: str = ""
    evidence: tuple[str, ...] = ()
