"""The controller's end of an agent's channel: JSON lines, in lockstep, every answer bounded in size and time."""

from __future__ import annotations

import os
import select
import time
from typing import Any, TypeVar

import msgspec

from vprobe.environments import Session
from vprobe.environments.trial import slowness
from vprobe.errors import RunError
from vprobe.measure.protocol import BlockReply, Hello, Reply

MAX_ANSWER_BYTES = 64 * 1024
PING_TIMEOUT_S = 10
LAST_WORDS_S = 1.0
LEAST_S = 0.1
"""Of more time for a session that others have kept from the CPUs."""

R = TypeVar("R", bound=Reply)

_encode = msgspec.json.Encoder().encode
_decode_block = msgspec.json.Decoder(BlockReply).decode


class UnsupportedHereError(Exception):
    """The agent says that this workload does not fit its environment; the text is the reason of the skip."""


class Channel:
    """Requests to one agent. Raises RunError when the agent dies, is silent for too long, or says what it may not.

    Times are those of a usual machine; one that is slower, such as a nested guest in emulation, gets more. A first message is
    waited for longer by as much as others have kept the session from the CPUs.
    """

    def __init__(self, session: Session, name: str) -> None:
        self.name = name
        self._session = session
        self._to_agent = session.to_agent
        self._from_agent = session.from_agent
        self._poll = select.poll()
        self._poll.register(self._from_agent, select.POLLIN)
        self._pending = b""
        self._id = 0
        self._waited_s = 0.0

    def hello(self, timeout_s: float) -> tuple[Hello, int]:
        """The agent's first message, and the CLOCK_MONOTONIC ns at which it was here."""
        line = self._line(timeout_s, patient=True)
        arrived_ns = time.monotonic_ns()
        try:
            return msgspec.json.decode(line, type=Hello), arrived_ns
        except msgspec.MsgspecError as error:
            raise self._broken(f"the first message is not a greeting: {error}") from None

    def request(self, message: dict[str, Any], reply_type: type[R], timeout_s: float) -> R:
        """One request and its answer."""
        self.ask(message)
        return self.answer(str(message["op"]), reply_type, timeout_s)

    def ask(self, message: dict[str, Any]) -> None:
        """Send a request whose answer is waited for later: meanwhile other agents can be asked."""
        self._id += 1
        self._send(_encode({"id": self._id, **message}) + b"\n")

    def answer(self, operation: str, reply_type: type[R], timeout_s: float) -> R:
        """The answer to the request that was sent last."""
        line = self._line(timeout_s)
        try:
            reply = msgspec.json.decode(line, type=reply_type)
        except msgspec.MsgspecError as error:
            raise self._broken(f"an answer is not what was asked for: {error}") from None
        return self._checked(reply, operation)

    def renew(self) -> None:
        """Have the agent executed anew; its first message is the next that comes."""
        self._waited_s = self._session.waited_s()
        self._send(b'{"op":"renew"}\n')

    def block(self, handle: int, warm: int, iterations: int, timeout_s: float) -> tuple[BlockReply, int]:
        """One block, and its ns from outside. The shortest way there and back: this is called between all blocks."""
        self._id += 1
        line = b'{"op":"block","id":%d,"handle":%d,"warm":%d,"iterations":%d}\n' % (self._id, handle, warm, iterations)
        before = time.perf_counter_ns()
        self._send(line)
        answer = self._line(timeout_s)
        outside_ns = time.perf_counter_ns() - before
        try:
            reply = _decode_block(answer)
        except msgspec.MsgspecError as error:
            raise self._broken(f"an answer is not what was asked for: {error}") from None
        return self._checked(reply, "block"), outside_ns

    def round_trip_ns(self, trips: int = 5) -> int:
        """The shortest of a few ways to the agent and back."""
        fastest = PING_TIMEOUT_S * 1_000_000_000
        for _ in range(trips):
            before = time.perf_counter_ns()
            self.request({"op": "ping"}, Reply, PING_TIMEOUT_S)
            fastest = min(fastest, time.perf_counter_ns() - before)
        return fastest

    def _checked(self, reply: R, operation: str) -> R:
        if reply.unsupported:
            raise UnsupportedHereError(reply.error)
        if reply.error:
            raise self._broken(f"{operation} failed: {reply.error}")
        if reply.id != self._id:
            raise self._broken("answers are out of step")
        return reply

    def _send(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._to_agent, data) :]
        except BrokenPipeError:
            raise self._broken("the agent is gone") from None

    def _line(self, timeout_s: float, *, patient: bool = False) -> bytes:
        deadline, added_s = 0.0, 0.0
        while b"\n" not in self._pending:
            now = time.monotonic()
            deadline = deadline or now + timeout_s * slowness()
            if not self._poll.poll(max(0.0, deadline - now) * 1000):
                if patient and (more_s := self._waited_since_s()) > LEAST_S:
                    deadline, added_s = deadline + more_s, added_s + more_s
                    continue
                condition = self._session.condition()
                waited = f" and {added_s:.1f} s in which others had the CPUs" if added_s else ""
                raise self._broken(
                    f"no answer within {timeout_s:g} s{waited}" + (f" ({condition})" if condition else "")
                )
            chunk = os.read(self._from_agent, MAX_ANSWER_BYTES)
            if not chunk:
                raise self._broken("the agent ended")
            self._pending += chunk
            if len(self._pending) > MAX_ANSWER_BYTES:
                raise self._broken("an answer is longer than 64 KiB")
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _waited_since_s(self) -> float:
        """How long others have kept the session from the CPUs since this was asked last."""
        before_s, self._waited_s = self._waited_s, self._session.waited_s()
        return self._waited_s - before_s

    def _last_words(self) -> str:
        """What it wrote to standard error; on a busy machine that comes a little later than the end of its answers."""
        deadline = time.monotonic() + LAST_WORDS_S
        while not (tail := self._session.stderr_tail().strip()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return tail

    def _broken(self, what: str) -> RunError:
        tail = self._last_words()
        last = tail.splitlines()[-1] if tail else ""
        return RunError(
            f"{self.name}: {what}" + (f": {last}" if last else ""), "what was measured is kept: --resume goes on"
        )
