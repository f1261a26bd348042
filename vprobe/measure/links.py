"""The arms' links with the host side in one boot, where a run has workloads that need them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vprobe.environments.network import Kind, Link, NoLinkError, kind_of, open_link
from vprobe.measure.plan import NETWORK, PlannedArm


@dataclass
class Links:
    """The links by arm, and of those arms that could have one and have none, why."""

    cpus: tuple[int, ...]
    stack: contextlib.ExitStack
    wanted: bool
    by_arm: dict[str, Link] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def before_start(self, arm: PlannedArm) -> Path | None:
        """The network namespace that an arm's environment is to be started in; None where it makes its own or has none."""
        kind = kind_of(arm.environment.name)
        if self._wants(arm) and kind in (Kind.NAMESPACE, Kind.TAP):
            self._open(arm, kind)
        link = self.by_arm.get(arm.name)
        return link.namespace if link else None

    def take_over(self, others: Links) -> None:
        """Count the links of guests among these, though they are not closed with them."""
        self.by_arm |= others.by_arm
        self.missing |= others.missing

    def after_start(self, arm: PlannedArm, evidence: Mapping[str, Any]) -> dict[str, str | int] | None:
        """What the arm's agent is to be told of its link; None for nothing. `evidence`: what it sees around itself."""
        kind = kind_of(arm.environment.name)
        if self._wants(arm) and kind in (Kind.LOOPBACK, Kind.VETH):
            self._open(arm, kind, evidence["namespaces"].get("net", 0))
        link = self.by_arm.get(arm.name)
        return link.place() if link else None

    def leaders(self) -> list[int]:
        """The processes of the host side, one a link, each with its servers as children."""
        return [link.process.pid for link in self.by_arm.values()]

    def _wants(self, arm: PlannedArm) -> bool:
        return self.wanted and NETWORK in arm.environment.capabilities

    def _open(self, arm: PlannedArm, kind: Kind, network_namespace: int = 0) -> None:
        try:
            link = open_link(kind, self.cpus, network_namespace)
        except NoLinkError as reason:
            self.missing[arm.name] = str(reason)
            return
        self.stack.callback(link.close)
        self.by_arm[arm.name] = link


@contextlib.contextmanager
def links(cpus: tuple[int, ...], wanted: bool) -> Iterator[Links]:
    """Links that end with the context. To be entered before the sessions: what is started in a namespace leaves it first."""
    with contextlib.ExitStack() as stack:
        yield Links(cpus, stack, wanted)
