"""What is shown while a run goes on."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from vprobe.suites import HostFacts

from vprobe.cli import progress
from vprobe.cli.progress import Progress
from vprobe.measure.plan import PRESETS, Plan, choose_environments, make_arms, make_tasks, select


def shown(terminal: bool) -> str:
    """What a run of one boot writes while its sessions start and a workload is measured."""
    arms = make_arms(choose_environments(["bare"])[0], [])
    tasks, skipped = make_tasks(select(["cpu.sha256"], False), HostFacts({}), arms)
    plan = Plan(arms, tasks, skipped, replace(PRESETS["quick"], boots=1), 1, (0,))
    written = io.StringIO()
    told = Progress(plan, Console(file=written, force_terminal=terminal, width=120, no_color=True))
    told.begin(1, ())
    told.boot(0)
    for what in ("bare", "cpu.sha256"):
        told.waits_for(what)
    told.close()
    return written.getvalue()


def test_a_terminal_says_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line below the table names the session or the workload; it is not drawn again for each of many short ones."""
    monkeypatch.setattr(progress, "DRAWN_EVERY_S", 0.0)
    assert "waiting for bare" in shown(terminal=True) and "waiting for cpu.sha256" in shown(terminal=True)
    monkeypatch.setattr(progress, "DRAWN_EVERY_S", 60.0)
    assert "waiting for" not in shown(terminal=True)


def test_a_log_has_one_line_a_boot() -> None:
    """Without a terminal what is waited for is not written at all."""
    assert shown(terminal=False).splitlines() == ["boot 1 of 1, 0 of 1 visits"]
