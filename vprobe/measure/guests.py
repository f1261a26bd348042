"""Guests that outlive a boot: starting one takes seconds, so its agent is executed anew, and the guest only every few boots.

The unit of analysis stays the boot, with fresh worker processes in every arm; visit.guest_boot tells which boots shared a guest.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from vprobe.environments import Environment
from vprobe.measure.links import Links, links
from vprobe.measure.plan import BOOTS, PlannedArm
from vprobe.measure.sessions import HELLO_TIMEOUT_S, Launched, Site, Started, launched


def is_guest(environment: Environment) -> bool:
    """Whether its sessions are kept over several boots."""
    return BOOTS in environment.capabilities


@dataclass(frozen=True)
class Renewed:
    """An agent that is being executed anew in a guest that was there before."""

    launched: Launched

    def greeted(self) -> Started:
        """Wait for its first message. The guest's own start is long past: what is told of it has no meaning here."""
        hello, _ = self.launched.channel.hello(HELLO_TIMEOUT_S)
        return Started(self.launched.session, self.launched.channel, hello, self.launched.nonce, 0, {})


@dataclass(frozen=True)
class Kept:
    """A guest with its link to the host side, which lives as long: QEMU was started in that one's network namespace."""

    stack: contextlib.ExitStack
    launched: Launched
    linked: Links

    @classmethod
    def start(cls, arm: PlannedArm, site: Site, place_in_order: int, cpus: tuple[int, ...]) -> Kept:
        """Make the link, and start the guest at one end of it."""
        with contextlib.ExitStack() as stack:
            linked = stack.enter_context(links(cpus, site.network))
            one = stack.enter_context(launched(arm, site, place_in_order, linked.before_start(arm)))
            return cls(stack.pop_all(), one, linked)


@dataclass
class Guests:
    """The guests of a run by arm. Leaving the context ends them."""

    boots_per_guest: int
    kept: dict[str, Kept] = field(default_factory=dict)

    def begin_boot(self, number: int) -> None:
        """Let the agents of guests that go on be executed anew, all at once; end the guests that have served their time."""
        if number % self.boots_per_guest == 0:
            self.end()
        for one in self.kept.values():
            one.launched.session.thaw()
            one.launched.channel.renew()

    def launched(self, arm: PlannedArm, site: Site, place_in_order: int, linked: Links) -> Launched | Renewed:
        """A fresh agent in the arm's guest, which is started where there is none. Its link joins those of the boot."""
        was_there = arm.name in self.kept
        if not was_there:
            self.kept[arm.name] = Kept.start(arm, site, place_in_order, linked.cpus)
        one = self.kept[arm.name]
        linked.take_over(one.linked)
        return Renewed(one.launched) if was_there else one.launched

    def end(self) -> None:
        """End all guests."""
        with contextlib.ExitStack() as all_of_them:
            for one in self.kept.values():
                all_of_them.push(one.stack)
            self.kept.clear()

    def __enter__(self) -> Guests:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
