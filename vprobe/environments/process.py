"""A session that is a process tree under a supervisor: what nearly every environment starts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

from vprobe.environments import Launch, layout, limits, sessions, supervisor
from vprobe.errors import RunError

LAUNCH_TIMEOUT_S = 30.0
GRACE_S = 2.0
"""For an agent to leave at the end of its channel, then for its engine to end it when asked."""
STOP_TIMEOUT_S = 90.0
"""Longer than all that the supervisor may take: grace, kill and teardown each have their own bound."""
SHOWN_BYTES = 2000
CONTAINER_PREFIX = "vprobe-"
HELD_BACK = (signal.SIGINT, signal.SIGTERM)
FIFO_DIRECTORY, REQUESTS, ANSWERS = "channel", "requests", "answers"


@dataclass(frozen=True)
class Mount:
    """One mount(2) in the private mount namespace that the engine is started in; `directories` are made before it."""

    source: str
    target: str
    type: str = ""
    flags: int = 0
    data: str = ""
    directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Teardown:
    """A command that makes an engine forget the session, run if the path exists ("": always)."""

    argv: tuple[str, ...]
    when_exists: str = ""


class Channel(StrEnum):
    """How the engine gets the agent's channel."""

    STANDARD = "standard"  # as its standard input and output
    APART = "apart"  # as descriptors 3 and 4, see behind_a_proxy
    FIFOS = "fifos"  # not at all: the agent opens named pipes, see behind_fifos


@dataclass(frozen=True)
class Instructions:
    """What a supervisor is told: the file session.json. `argv[0]` is an absolute path; `variables` are all there are.

    `cgroups` are made for the engine and removed with all below. `mounts` are made in a mount namespace of the engine's
    own; for a normal user that takes a `user_namespace`. `setup` is run before the engine is started.
    `limited_by_engine`: the engine has been told the launch's limits; otherwise all of the session goes into a cgroup with them.
    """

    argv: tuple[str, ...]
    variables: Mapping[str, str]
    working_directory: str = "/"
    cgroups: tuple[str, ...] = ()
    user_namespace: bool = False
    mounts: tuple[Mount, ...] = ()
    setup: tuple[tuple[str, ...], ...] = ()
    teardown: tuple[Teardown, ...] = ()
    channel: Channel = Channel.STANDARD
    grace_s: float = field(default_factory=lambda: GRACE_S)
    terminate_s: float = field(default_factory=lambda: GRACE_S)
    run_directory: str = ""
    limited_by_engine: bool = False


def agent_variables(launch: Launch) -> dict[str, str]:
    """The variables that an agent gets, alike behind every boundary."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    mark = {supervisor.SESSION_VARIABLE: str(launch.session_dir)}
    found = {"PATH": os.defpath, "LANG": "C.UTF-8", **kept, **launch.host_variables, **launch.variables, **mark}
    drawn = {} if launch.layout is None else layout.variables(launch.layout, found)
    return {**drawn, **found}


def engine_variables(launch: Launch) -> dict[str, str]:
    """The variables that an engine gets: the user's own, since engines find their set-up there."""
    return {**os.environ, supervisor.SESSION_VARIABLE: str(launch.session_dir)}


def container_name(launch: Launch) -> str:
    """What to call a session's container and cgroup: the first part tells whose sessions, the second which of them.

    Letters, digits and hyphens only: engines take it as a host name, too.
    """
    whose = hashlib.sha256(os.fsencode(launch.session_dir.parent.parent)).hexdigest()[:8]
    which = "".join(c for c in launch.session_dir.name.removeprefix("s-") if c.isascii() and c.isalnum())
    return f"{CONTAINER_PREFIX}{whose}-{which}"


def escaped(raw: bytes, limit: int = SHOWN_BYTES) -> str:
    """The last lines of foreign output as text that is safe to print: control characters are escaped."""
    text = raw[-limit:].decode("utf-8", "replace").strip("\n")
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


P = TypeVar("P", bound="ProcessSession")


class ProcessSession:
    """A session led by a supervisor process (see supervisor.py). Made by `start`."""

    def __init__(self, directory: Path, to_agent: int, from_agent: int, control: int, status: int, tail: int) -> None:
        self.to_agent = to_agent
        self.from_agent = from_agent
        self.launched_ns = 0
        self._directory = directory
        self._control = control
        self._status = status
        self._tail = tail
        self._heard: dict[str, tuple[int, ...]] = {}
        self._pending = b""
        self._open = {to_agent, from_agent, control, status}
        self._stop_ns: int | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self._supervisor.pid if self._supervisor else 0

    @property
    def engine_pid(self) -> int:
        """The process that the supervisor started: the engine; 0 before that."""
        return self._heard["launched"][1] if "launched" in self._heard else 0

    def pin(self, cpus: Sequence[int], others: Sequence[int] = ()) -> tuple[int, ...]:
        """The agent pins itself, by the host's own numbers."""
        return (*cpus, *others)

    def condition(self) -> str:
        """Nothing: its processes are there for all to see."""
        return ""

    def waited_s(self) -> float:
        """Nobody counts it."""
        return 0.0

    def phases(self, answered_ns: int, agent_ns: int, clock: Mapping[str, int]) -> dict[str, int]:
        """The engine's share, with the interpreter's start, and the agent's."""
        del clock  # the host's own
        return {"engine_ns": answered_ns - self.launched_ns - agent_ns, "agent_ns": agent_ns}

    @property
    def directory(self) -> Path:
        """The session's own directory."""
        return self._directory

    @property
    def exit_status(self) -> int | None:
        """How the engine ended (negative: by that signal); None while it runs, and where nobody knows."""
        self._hear(("gone",), 0)
        return self._heard["gone"][1] if "gone" in self._heard else None

    def wait(self, timeout_s: float) -> int | None:
        """Wait until it has ended by itself: the engine's exit status, None at the end of the time."""
        self._hear(("gone",), timeout_s)
        return self.exit_status

    def _hear(self, words: tuple[str, ...], timeout_s: float) -> None:
        """Read the supervisor's reports until one of `words` was among them, or they end, or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not self._heard.keys() & set(words) and self._status in self._open:
            left_s = max(deadline - time.monotonic(), 0)
            if not select.select([self._status], [], [], left_s)[0]:
                return
            chunk = os.read(self._status, 4096)
            if not chunk:
                self._close(self._status)
                return
            *lines, self._pending = (self._pending + chunk).split(b"\n")
            for line in lines:
                name, *numbers = line.decode().split()
                self._heard[name] = tuple(map(int, numbers))

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            if descriptor in self._open:
                self._open.discard(descriptor)
                os.close(descriptor)

    def stderr_tail(self) -> str:
        """The last lines that engine and agent wrote to standard error, bounded and escaped."""
        self._hear(("gone",), 0.1)  # a session that is ending has said all of it by then
        return escaped(os.pread(self._tail, supervisor.TAIL_BYTES, 0))

    def freeze(self) -> None:
        """Nothing to do: an idle agent sleeps in read(2)."""

    def thaw(self) -> None:
        """Nothing to do, see freeze()."""

    def stop(self) -> int:
        """End it: close the channel, wait, force where needed; ns from the call until no process of it is left.

        Returns the same figure when called again. RunError if something cannot be ended. Another Ctrl-C meanwhile is passed on
        once all is gone.
        """
        if self._stop_ns is None:
            before_ns = time.monotonic_ns()
            try:
                self._end(before_ns)
            except BaseException as error:
                if not isinstance(error, Exception):  # interrupted, which is no failure of its own
                    self._end(before_ns)
                raise
        assert self._stop_ns is not None
        return self._stop_ns

    def _end(self, before_ns: int) -> None:
        """Have the supervisor end the session, and wait for that. Can be called again where it was interrupted."""
        self._close(self.to_agent)
        self._ask_to_end()
        self._hear(("clean",), STOP_TIMEOUT_S)
        self._wait_for_supervisor()
        gone_ns = self._heard["gone"][0] if "gone" in self._heard else time.monotonic_ns()
        self._stop_ns = max(gone_ns - before_ns, 0)
        self._close(*tuple(self._open))
        if self._directory.exists():
            raise RunError(f"{self._directory} could not be cleaned up: {self.stderr_tail()}", "remove it by hand")

    def _ask_to_end(self) -> None:
        """Tell the supervisor, once; a pipe without a reader means that it is dead, which is seen to later."""
        if self._control in self._open:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._control, b"stop\n")
            self._close(self._control)

    def _wait_for_supervisor(self) -> None:
        """Wait until it has cleaned up; where it was killed, or was never there, do its work."""
        if self._supervisor is None:
            supervisor.remove(str(self._directory))
            return
        try:
            status = self._supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            status = self._supervisor.wait()
        if status:
            sessions.sweep_session(self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __del__(self) -> None:
        for descriptor in (*self._open, self._tail):
            os.close(descriptor)

    def launch(self, child_ends: tuple[int, int, int, int]) -> None:
        """Start the supervisor with its ends of the pipes and wait until it has executed the engine."""
        stdin, stdout, control, status = child_ends
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(self._directory)]
        try:
            with signals_held_back():
                self._supervisor = subprocess.Popen(
                    [*command, str(control), str(status), str(self._tail)],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=self._tail,
                    pass_fds=(control, status, self._tail),
                    start_new_session=True,  # Ctrl-C reaches only the controller, which then unwinds
                    cwd="/",
                )
        except OSError as error:
            raise RunError(f"the session's supervisor cannot be started: {sys.executable}: {error.strerror}") from None
        finally:
            for descriptor in child_ends:
                os.close(descriptor)
        self._hear(("launched", "gone"), LAUNCH_TIMEOUT_S)
        if "launched" not in self._heard:
            alive = self._status in self._open
            silence = f"no engine ran within {LAUNCH_TIMEOUT_S:g} s" if alive else "its supervisor died"
            self.stop()
            raise RunError(f"the session could not be started: {self.stderr_tail() or silence}")
        self.launched_ns = self._heard["launched"][0]


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for a moment: between the start of a process and the note of its PID it would be lost.

    Handlers are Python's business: they run in the main thread, whichever thread the signal reached, and interrupt no other.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda which, _: came.append(which)) for number in HELD_BACK}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def start(instructions: Instructions, launch: Launch, kind: type[P] = ProcessSession) -> P:  # type: ignore[assignment]
    """Start a session as instructed. RunError, with what was said on standard error, where the engine is not reached."""
    session_dir = launch.session_dir
    run = sessions.run_of(session_dir)
    limited = {} if instructions.limited_by_engine else limits.cgroups_for(launch.limits, container_name(launch))
    fifos = instructions.channel is Channel.FIFOS
    document = asdict(instructions) | {
        "run_directory": str(run) if run else "",
        "cgroups": list(dict.fromkeys((*instructions.cgroups, *limited))),
        "limits": limited,
        "fixed_layout": launch.layout is not None,
        "requests": str(session_dir / FIFO_DIRECTORY / REQUESTS) if fifos else "",
    }
    (session_dir / supervisor.INSTRUCTIONS).write_text(json.dumps(document), encoding="utf-8")
    to_agent, from_agent, stdin, stdout = open_fifos(session_dir) if fifos else open_pipes()
    control, control_end = os.pipe()
    status_end, status = os.pipe()
    tail = os.memfd_create("vprobe-stderr")
    session = kind(session_dir, to_agent, from_agent, control_end, status_end, tail)
    try:
        session.launch((stdin, stdout, control, status))
    except BaseException:
        session.stop()
        raise
    return session


def behind_a_proxy(argv: tuple[str, ...]) -> tuple[str, ...]:
    """What an engine should run inside that copies the standard streams through itself, at 200 us a round trip (runc 1.1).

    Descriptors that such an engine is told to preserve reach the inside as they are; a shell puts them into place.
    """
    return ("/bin/sh", "-c", 'exec "$@" <&3 >&4 3<&- 4>&-', "sh", *argv)


def behind_fifos(launch: Launch) -> tuple[str, ...]:
    """What an engine should run inside that passes no descriptors on: a shell opens the channel by its names."""
    directory = str(launch.session_dir / FIFO_DIRECTORY)
    return ("/bin/sh", "-c", f'exec "$@" <"$0/{REQUESTS}" >"$0/{ANSWERS}"', directory, *launch.argv)


def open_pipes() -> tuple[int, int, int, int]:
    """A channel of two pipes: the controller's ends to write and to read, the supervisor's ends to read and to write."""
    requests, to_agent = os.pipe()
    from_agent, answers = os.pipe()
    return to_agent, from_agent, requests, answers


def open_fifos(session_dir: Path) -> tuple[int, int, int, int]:
    """A channel of two named pipes, in the order of open_pipes.

    No end waits for the agent to open its own: the supervisor keeps its two until the engine has ended, so that the
    controller can write at once, and sees the end of the channel when the engine has ended and not before.
    """
    directory = session_dir / FIFO_DIRECTORY
    directory.mkdir(mode=0o755)
    for name in (REQUESTS, ANSWERS):
        os.mkfifo(directory / name)
        (directory / name).chmod(0o666)  # of whoever is root inside; the session's directory keeps others out
    requests = os.open(directory / REQUESTS, os.O_RDONLY | os.O_NONBLOCK)
    to_agent = os.open(directory / REQUESTS, os.O_WRONLY)
    from_agent = os.open(directory / ANSWERS, os.O_RDONLY | os.O_NONBLOCK)
    answers = os.open(directory / ANSWERS, os.O_WRONLY)
    os.set_blocking(from_agent, True)
    return to_agent, from_agent, requests, answers


def plain(launch: Launch) -> Instructions:
    """Instructions to execute a launch as it is, without any boundary."""
    program = shutil.which(launch.argv[0]) or launch.argv[0]
    return Instructions(
        argv=(program, *launch.argv[1:]),
        variables=agent_variables(launch),
        working_directory=str(launch.working_directory or launch.scratch),
    )
