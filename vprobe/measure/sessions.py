"""A boot: one fresh agent in every arm, checked to be where it says, pinned to the measured CPU."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

import vprobe
from vprobe import suites
from vprobe.environments import Disk, Environment, Launch, Limits, Session
from vprobe.environments.sessions import RunDirectory
from vprobe.errors import RunError
from vprobe.measure.channel import Channel
from vprobe.measure.links import Links, links
from vprobe.measure.plan import BASE, PlannedArm
from vprobe.measure.priority import raise_priority, raised
from vprobe.measure.protocol import EvidenceReply, Hello, ProbeReply, Reply
from vprobe.suites.storage import NOT_DIRECT

HELLO_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 30.0
OPTIONS_BYTES = 1024


@dataclass(frozen=True)
class Started:
    """A session that has answered: how long that took, by phase."""

    session: Session
    channel: Channel
    hello: Hello
    nonce: int  # planted in its micro-VM, if it has one
    start_ns: int
    phases: Mapping[str, int]  # of it, see Session.phases


@dataclass(frozen=True)
class Site:
    """What sessions need to know of the controlling side."""

    run: RunDirectory
    working_directory: Path
    ns_per_tick: float
    variables: Mapping[str, str] = field(default_factory=dict)  # of the user's own, where a command may need them
    network: bool = False  # whether arms are to be linked with the host side
    cpus: int = 1  # how many a machine of its own gets
    limits: Limits = field(default_factory=Limits)
    direct: str = ""  # how the scratch directory takes O_DIRECT, where storage is measured; "" where it is not
    layout: int | None = None  # what all sessions of a boot share, see environments.layout


def code_paths() -> tuple[Path, ...]:
    """Where interpreter, standard library and vprobe lie: what must be visible inside."""
    purelib = sysconfig.get_paths()["purelib"]
    package, suite = Path(vprobe.__file__).parent, Path(suites.__file__).parent
    paths = {Path(path).resolve() for path in (sys.prefix, sys.base_prefix, purelib, package, suite)}
    paths.add(Path(os.path.realpath(sys.executable)).parent)
    return tuple(sorted(paths))


def make_launch(
    arm: PlannedArm, site: Site, place_in_order: int = 0, network_namespace: Path | None = None
) -> tuple[Launch, int]:
    """What to start for an arm, and the nonce that its micro-VM must show.

    `place_in_order`: the arm's among those that are started; it gives the arm its storage file, so that where a file lies on
    the disk is another arm's luck in each boot.
    """
    nonce = secrets.randbits(96)
    place = arm.variant.tree or site.working_directory
    session_dir = site.run.new_session()
    disk = Disk(site.run.scratch / f"disk-{session_dir.name}", site.direct != NOT_DIRECT) if site.direct else None
    words = json.dumps(
        {
            "storage": str(site.run.scratch / f"storage-{place_in_order}"),
            **arm.environment.agent_options(),
            "nonce": nonce,
            "ns_per_tick": site.ns_per_tick,
            "scratch": str(site.run.scratch),
        }
    )
    options = words.ljust(OPTIONS_BYTES)  # alike in all arms: what lies on a stack moves what lies below it
    launch = Launch(
        argv=(sys.executable, "-m", "vprobe.measure.agent", options),
        session_dir=session_dir,
        scratch=site.run.scratch,
        variables=arm.variant.variables,
        host_variables=site.variables,
        agent=options,
        limits=site.limits,
        read_only_paths=(*code_paths(), place),
        working_directory=place,
        network_namespace=network_namespace,
        cpus=site.cpus,
        disk=disk,
        layout=site.layout,
    )
    return launch, nonce


@dataclass(frozen=True)
class Launched:
    """A session that has been started and has not answered yet."""

    session: Session
    channel: Channel
    nonce: int

    def greeted(self) -> Started:
        """Wait for its first answer. RunError where there is none."""
        hello, arrived_ns = self.channel.hello(HELLO_TIMEOUT_S)
        total = arrived_ns - self.session.launched_ns
        clock = {} if hello.clock is None else msgspec.structs.asdict(hello.clock)
        phases = self.session.phases(arrived_ns, min(hello.agent_ns, total), clock)
        return Started(self.session, self.channel, hello, self.nonce, total, phases)


@contextlib.contextmanager
def launched(
    arm: PlannedArm, site: Site, place_in_order: int = 0, network_namespace: Path | None = None
) -> Iterator[Launched]:
    """Start an arm's agent; end it on leaving."""
    launch, nonce = make_launch(arm, site, place_in_order, network_namespace)
    with arm.environment.start(launch) as session:
        yield Launched(session, Channel(session, arm.name), nonce)


@contextlib.contextmanager
def started(arm: PlannedArm, site: Site) -> Iterator[Started]:
    """Start an arm's agent and wait for its first answer; end it on leaving. RunError where it does not answer."""
    with launched(arm, site) as one:
        yield one.greeted()


def check_place(environment: Environment, agent: Started, bare: Mapping[str, Any]) -> None:
    """RunError where a session is not where it says. `bare`: what bare saw."""
    refuse_impostor(environment, agent.hello.evidence, bare, agent.nonce)


def look_up(evidence: Mapping[str, Any], key: str) -> Any:
    """The value under a key of a boundary ("namespaces.pid"); None where it was not read."""
    value: Any = evidence
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def refuse_impostor(environment: Environment, seen: Mapping[str, Any], bare: Mapping[str, Any], nonce: int) -> None:
    """RunError unless everything that the boundary must change has changed, and the micro-VM shows the planted number."""
    for key in sorted(environment.boundary):
        value = look_up(seen, key)
        if value is None or value == look_up(bare, key):
            raise RunError(
                f"{environment.name}: the session is not where it says: its {key} is {'unread' if value is None else 'bare’s'}",
                "the environment is at fault; leave it out with --env",
            )
    if "microvm.nonce" in environment.boundary and int(look_up(seen, "microvm.nonce")) != nonce:
        raise RunError(f"{environment.name}: the micro-VM does not show the number that was planted in it")


def probed(channel: Channel) -> dict[str, Any]:
    """The document of the probe as it comes out inside. RunError where it is none."""
    text, total = "", 1
    while len(text) < total:
        reply = channel.request({"op": "probe", "offset": len(text)}, ProbeReply, HELLO_TIMEOUT_S)
        text, total = text + reply.text, reply.total
        if not reply.text:
            break
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise RunError(f"{channel.name}: what its probe says is not JSON: {error}") from None
    return document


@dataclass
class Boot:
    """The sessions of one boot by arm, and what they need to be told apart and compared."""

    agents: dict[str, Started]
    hashes: dict[str, EvidenceReply]
    cpu: int
    bare: str  # name of a bare arm
    frozen: set[str] = field(default_factory=set)
    unlinked: dict[str, str] = field(default_factory=dict)  # by arm: why it has no link with the host side
    inside: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by arm: the numbers of the CPUs there

    def channel(self, arm: str) -> Channel:
        """The channel to an arm's agent."""
        return self.agents[arm].channel

    @property
    def bare_evidence(self) -> Mapping[str, Any]:
        """What bare saw."""
        return self.agents[self.bare].hello.evidence

    def wake_only(self, arms: Collection[str]) -> None:
        """Make every other session quiet, where there is a means: an idle guest still has its timers. bare stays awake."""
        for name, agent in self.agents.items():
            asleep = name not in arms and name != self.bare
            if asleep and name not in self.frozen:
                agent.session.freeze()
                self.frozen.add(name)
            elif not asleep and name in self.frozen:
                agent.session.thaw()
                self.frozen.remove(name)


class Answering(Protocol):
    """An agent that will answer."""

    def greeted(self) -> Started:
        """Wait for its first answer. RunError where there is none."""


class Keeper(Protocol):
    """Who keeps guests over several boots: vprobe.measure.guests."""

    def launched(self, arm: PlannedArm, site: Site, place_in_order: int, linked: Links) -> Answering:
        """A fresh agent in the arm's guest, whose link with the host side joins those of the boot."""


@contextlib.contextmanager
def boot(
    arms: Sequence[PlannedArm],
    order: Sequence[str],
    site: Site,
    cpus: tuple[int, ...],
    kept: Collection[str] = (),
    keeper: Keeper | None = None,
    waits_for: Callable[[str], object] = str,
    other_cpus: tuple[int, ...] = (),
) -> Iterator[Boot]:
    """Start every arm's agent in the given order, and believe none before bare's evidence is there to judge by.

    Agents are kept on `cpus`; `other_cpus` are for workloads that work on more. The arms in `kept` belong to the keeper: they
    do not end with the boot, and are begun first, since guests take longest. `waits_for` is told whose first message is
    waited for.
    """
    by_name = {arm.name: arm for arm in arms}
    bare = next(arm.name for arm in arms if arm.environment.name == BASE)
    with contextlib.ExitStack() as stack:
        linked = stack.enter_context(links(cpus, site.network))
        this = Boot({}, {}, cpus[0], bare, unlinked=linked.missing)
        waiting: dict[str, Answering] = {}
        # Each starts while others do: that takes longer than measuring.
        for place_in_order, name in sorted(enumerate(order), key=lambda placed: placed[1] not in kept):
            if keeper is not None and name in kept:
                waiting[name] = keeper.launched(by_name[name], site, place_in_order, linked)
                continue
            namespace = linked.before_start(by_name[name])
            waiting[name] = stack.enter_context(launched(by_name[name], site, place_in_order, namespace))
        for name in sorted(waiting, key=lambda name: name in kept):
            waits_for(name)
            this.agents[name] = waiting[name].greeted()
            this.agents[name].channel.ask({"op": "evidence"})  # all at once, and before they share a CPU
        for name, agent in this.agents.items():
            this.hashes[name] = agent.channel.answer("evidence", EvidenceReply, REQUEST_TIMEOUT_S)
            check_place(by_name[name].environment, agent, this.bare_evidence)
            if place := linked.after_start(by_name[name], agent.hello.evidence):
                agent.channel.request({"op": "place", "place": place}, Reply, REQUEST_TIMEOUT_S)
            this.inside[name] = agent.session.pin(cpus, other_cpus)
            agent.channel.request({"op": "pin", "cpus": this.inside[name][: len(cpus)]}, Reply, REQUEST_TIMEOUT_S)
        raise_priority([*(agent.session.pid for agent in this.agents.values()), *linked.leaders()])
        try:
            yield this
        finally:
            with contextlib.suppress(RunError, OSError):  # it may be gone already
                this.wake_only(this.agents)  # what is frozen cannot end in good order
            end_all([agent.session for name, agent in this.agents.items() if name not in kept])


def end_all(sessions: Sequence[Session]) -> None:
    """End sessions at the same time: each waits for its processes, not for the other sessions'."""
    with ThreadPoolExecutor(len(sessions)) as pool:
        for _ in pool.map(lambda session: session.stop(), sessions):
            pass


@contextlib.contextmanager
def controller_beside(cpus: tuple[int, ...]) -> Iterator[None]:
    """Keep this process on the measured CPUs while a visit lasts.

    It sleeps through every block, so it takes nothing from one; and a message to a process on the same CPU costs a context
    switch, where one to another CPU costs an interrupt and, in a guest, the exits of an idle processor: 40-75 us a round
    trip against 130-370 us on a development machine. The measured CPU is never idle, either, so that its clock stays up.

    Under SCHED_BATCH waking up preempts nobody (sched(7)): an agent that has answered gets as far as waiting for its next
    request, which otherwise it would do within the next arm's block. On a development machine involuntary switches fell from
    130 to 25 in a visit of 150 blocks.
    """
    allowed, policy, parameters = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setaffinity(0, cpus)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with raised():
            yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
        os.sched_setaffinity(0, allowed)
