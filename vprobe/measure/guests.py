"""Guests that outlive a boot: starting one takes seconds, so its agent is executed anew, and the guest only every few boots.

The unit of analysis stays the boot, with fresh worker processes in every arm; visit.guest_boot tells which boots shared a guest.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from vprobe.environments import Environment
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


@dataclass
class Guests:
    """The guests of a run by arm. Leaving the context ends them."""

    boots_per_guest: int
    kept: dict[str, tuple[contextlib.ExitStack, Launched]] = field(default_factory=dict)

    def begin_boot(self, number: int) -> None:
        """Let the agents of guests that go on be executed anew, all at once; end the guests that have served their time."""
        if number % self.boots_per_guest == 0:
            self.end()
        for _, one in self.kept.values():
            one.session.thaw()
            one.channel.renew()

    def launched(self, arm: PlannedArm, site: Site, place_in_order: int) -> Launched | Renewed:
        """A fresh agent in the arm's guest, which is started where there is none."""
        if arm.name in self.kept:
            return Renewed(self.kept[arm.name][1])
        stack = contextlib.ExitStack()
        one = stack.enter_context(launched(arm, site, place_in_order))
        self.kept[arm.name] = (stack, one)
        return one

    def end(self) -> None:
        """End all guests."""
        with contextlib.ExitStack() as all_of_them:
            for stack, _ in self.kept.values():
                all_of_them.push(stack)
            self.kept.clear()

    def __enter__(self) -> Guests:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
