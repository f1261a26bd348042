"""What an environment costs before and after the work: measured by the engine itself, around a whole session."""

from __future__ import annotations

from . import DEFAULT, FULL, QUICK, Block, native_extension, workload


@workload("lifecycle.start", kind="external", needs=(), level=QUICK)
def start() -> None:
    """From the engine's execution to the agent's first answer."""


@workload("lifecycle.stop", kind="external", needs=(), level=QUICK)
def stop() -> None:
    """From the request to end a session until nothing of it is left."""


@workload("lifecycle.memory", kind="external", unit="bytes", needs=(), level=QUICK)
def memory() -> None:
    """Memory of all processes of an idle session, its share of shared pages included; against bare's own.

    The details hold what that is more than bare's in the same round, and what the session's own cgroup holds, if it has one.
    """


@workload(
    "lifecycle.start_rate",
    kind="external",
    unit="1/s",
    better="higher",
    needs=(),
    parameters={"1": {"parallel": False}, "parallel": {"parallel": True}},
    level=FULL,
)
def start_rate() -> None:
    """Sessions that start in a second, until each has answered: one after the other, or as many at once as there are CPUs."""


@workload("lifecycle.density", kind="external", unit="sessions", better="higher", needs=(), level=FULL)
def density() -> None:
    """Sessions that would fit into the memory that is available, by what several of them at once take each."""


@workload("lifecycle.microvm", kind="python", needs=("microvm",), level=DEFAULT)
def microvm() -> Block:
    """A whole life of a micro-VM: create it, run its first instructions, destroy it."""
    native = native_extension()

    def run(iterations: int) -> None:
        for _ in range(iterations):
            with native.MicroVM(0, 4096, 1) as machine:
                machine.evidence()

    return run
