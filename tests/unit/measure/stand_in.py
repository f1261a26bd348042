"""A stand-in environment for the logic of the engine: the real agent as a plain child, without a supervisor."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence

from vprobe.environments import Available, Launch, Unavailable
from vprobe.model import VirtClass


class StandInSession:
    """The agent over two pipes. `waits_s`: what waited_s() says, one after the other, the last for ever."""

    waits_s: Sequence[float] = (0.0,)

    def __init__(self, argv: tuple[str, ...], launch: Launch) -> None:
        self.launched_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **launch.variables}, cwd=launch.working_directory,
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.to_agent, self.from_agent = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.pid = self.process.pid

    def stderr_tail(self) -> str:
        """What the agent said when it died."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # its channel closes a little before it has ended
            self.process.wait(0.5)
        if self.process.poll() is None or self.process.stderr is None:
            return ""
        return self.process.stderr.read().decode()

    def pin(self, cpus: Sequence[int], others: Sequence[int] = ()) -> tuple[int, ...]:
        """The agent does it itself."""
        return (*cpus, *others)

    def phases(self, answered_ns: int, agent_ns: int, clock: Mapping[str, int]) -> dict[str, int]:
        """One phase."""
        return {"engine_ns": answered_ns - self.launched_ns}

    def waited_s(self) -> float:
        """The next."""
        now_s, self.waits_s = self.waits_s[0], self.waits_s[1:] or self.waits_s
        return now_s

    def condition(self) -> str:
        """Nothing."""
        return ""

    def freeze(self) -> None:
        """Nothing."""

    def thaw(self) -> None:
        """Nothing."""

    def stop(self) -> int:
        """End the agent."""
        before = time.monotonic_ns()
        for stream in (self.process.stdin, self.process.stdout):
            if stream and not stream.closed:
                stream.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()
        return time.monotonic_ns() - before

    def __enter__(self) -> StandInSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class StandIn:
    """An environment that is only a name: `argv`, if given, is run instead of the agent."""

    virt_class = VirtClass.NONE
    boundary: frozenset[str] = frozenset()

    def __init__(
        self, name: str, capabilities: frozenset[str] = frozenset({"os", "python", "kernels", "commands"}),
        argv: tuple[str, ...] | None = None, boundary: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.name, self.capabilities, self.argv, self.boundary = name, capabilities, argv, boundary

    def availability(self) -> Available | Unavailable:
        """Always there."""
        return Available("stand-in 1")

    def agent_options(self) -> Mapping[str, str]:
        """None."""
        return {}

    def start(self, launch: Launch) -> StandInSession:
        """Run the agent."""
        return StandInSession(self.argv or launch.argv, launch)
