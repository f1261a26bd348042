"""Progress of a run on standard error: a live table on a terminal, a line a boot elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vprobe.measure.plan import BASE, CONTROL, Plan
from vprobe.model import Visit

DRAWN_EVERY_S = 0.3
"""A table of many rows and arms takes as long to draw as a tenth of a visit."""


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    whole = max(round(seconds), 0)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Progress:
    """Follows a run: how far it is, the time left, and the ratios so far."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan = plan
        self.console = console
        self.total = self.done = self.done_before = self.spared = 0
        self.began_s = time.monotonic()
        self.number = 0
        self.waiting = ""
        self.drawn_s = 0.0
        self.all_answered = False
        self.effects: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.units = {task.name: task.record.better for task in plan.tasks}
        self.live: Live | None = None

    def begin(self, total_visits: int, done: Sequence[Visit]) -> None:
        """The run starts, or goes on."""
        self.total, self.done, self.done_before = total_visits, len(done), len(done)
        for visit in done:
            self._learn(visit)
        if self.console.is_terminal:
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        elif done:
            self.console.print(f"going on after {len(done)} of {total_visits} visits", highlight=False)

    def boot(self, number: int) -> None:
        """A boot starts."""
        self.number = number
        if self.live:
            self._draw()
        else:
            self.console.print(self._status(), highlight=False)

    def waits_for(self, what: str) -> None:
        """What is being waited for."""
        self.waiting = what
        if self.live and time.monotonic() - self.drawn_s >= DRAWN_EVERY_S:
            self._draw()

    def visit(self, visit: Visit) -> None:
        """A visit is done."""
        self.done += 1
        self._learn(visit)

    def look(self, boots: int, still_open: int, of: int) -> None:
        """An adaptive run was looked at."""
        said = f"{still_open} of {of} workloads go on" if still_open else "every workload has its answer"
        self.console.print(f"after {boots} boots: {said}", highlight=False)
        answered = of - still_open
        self.total -= (answered - self.spared) * (self.plan.boots - boots)
        self.spared = answered
        self.all_answered = not still_open

    @property
    def elapsed_s(self) -> float:
        """Since the run was planned."""
        return time.monotonic() - self.began_s

    def close(self) -> None:
        """Take the table off the terminal."""
        if self.live:
            self.live.stop()

    def _learn(self, visit: Visit) -> None:
        base = next((arm.name for arm in self.plan.arms if arm.environment.name == BASE), "")
        if base not in visit.samples:
            return
        bare = np.log(visit.samples[base].values)
        sign = -1 if self.units.get(visit.workload) == "higher" else 1
        for arm, samples in visit.samples.items():
            if arm != base:
                effect = np.median(np.log(samples.values) - bare)
                self.effects[visit.workload, arm].append(float(sign * effect))

    def _left_s(self) -> float | None:
        measured = self.done - self.done_before
        if measured < 3:
            return None
        return (time.monotonic() - self.began_s) / measured * (self.total - self.done)

    def _status(self) -> str:
        left = self._left_s()
        tail = f", about {duration(left)} left" if left is not None else ""
        boots = self.plan.boots
        waiting = f"; waiting for {self.waiting}" if self.live and self.waiting else ""
        return f"boot {self.number + 1} of {boots}, {self.done} of {self.total} visits{tail}{waiting}"

    def _draw(self) -> None:
        assert self.live is not None
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("ratio to bare so far")
        arms = [arm.name for arm in self.plan.arms if arm.environment.name not in (BASE, CONTROL)]
        for arm in arms:
            table.add_column(Text(arm), justify="right")
        for task in self.plan.tasks:
            cells = [self._cell(task.name, arm) for arm in arms]
            if any(cells):
                table.add_row(Text(task.name), *cells)
        self.live.update(Group(table, Text(self._status(), style="bold")), refresh=True)
        self.drawn_s = time.monotonic()

    def _cell(self, workload: str, arm: str) -> str:
        effects = self.effects.get((workload, arm))
        return f"{np.exp(np.median(effects)):.3g}" if effects else ""
