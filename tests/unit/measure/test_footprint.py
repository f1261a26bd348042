"""The memory of a session: of all its processes, those that a daemon started for it included, and of nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vprobe import environments
from vprobe.environments import Launch, sessions, supervisor
from vprobe.measure import footprint
from vprobe.measure.plan import PlannedArm
from vprobe.measure.sessions import Site, started
from vprobe.measure.whole_sessions import (
    DENSITY,
    MEMORY,
    RATE_ONE,
    RATE_PARALLEL,
    START,
    STOP,
    measure_density,
    measure_lifecycle,
)
from vprobe.model import Arm

MEBIBYTE = 1 << 20
TAKES_64_MIB = "import os; b = bytearray(64 << 20); b[::4096] = b'x' * len(b[::4096]); os.write(1, b'!'); os.read(0, 1)"


def weighed(program: str) -> int:
    """PSS of a bare session that runs a program until it has said something."""
    with sessions.open_run() as run:
        before = footprint.all_processes()
        launch = Launch((sys.executable, "-I", "-S", "-c", program), run.new_session(), run.scratch)
        with environments.get("bare").start(launch) as session:
            assert os.read(session.from_agent, 1) == b"!"
            return footprint.footprint(session, before).pss_bytes


def test_memory_of_a_session() -> None:
    """64 MiB more in the agent, or in a child of it, are 64 MiB more of the session."""
    small = weighed("import os; os.write(1, b'!'); os.read(0, 1)")
    large = weighed(TAKES_64_MIB)
    assert 0.98 < (large - small) / (64 * MEBIBYTE) < 1.05
    child = f"import os\nif os.fork(): os.wait()\nelse: exec({TAKES_64_MIB!r})"
    assert 1.0 < (weighed(child) - small) / (64 * MEBIBYTE) < 1.2


def test_processes_of_a_daemon(tmp_path: Path) -> None:
    """What carries the mark belongs to the session though it is not below the supervisor, and so do its new ancestors."""
    with sessions.open_run() as run:
        before = footprint.all_processes()
        launch = Launch(
            (sys.executable, "-c", "import os; os.write(1, b'!'); os.read(0, 1)"), run.new_session(), run.scratch
        )
        with environments.get("bare").start(launch) as session:
            os.read(session.from_agent, 1)
            mark = {**os.environ, supervisor.SESSION_VARIABLE: str(session.directory)}
            inner = "import time; print(1, flush=True); time.sleep(60)"
            # The shim itself does not carry the mark: its child gets it.
            shim = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], env={mark!r})"
            with subprocess.Popen([sys.executable, "-c", shim], stdout=subprocess.PIPE) as daemon:
                assert daemon.stdout
                daemon.stdout.readline()
                found = footprint.processes_of(session, before)
                assert daemon.pid in found
                assert session.pid not in found
                assert os.getpid() not in found
                assert len(found) == 3
                for pid in found:
                    if pid != daemon.pid and supervisor.parents().get(pid) == daemon.pid:
                        os.kill(pid, 9)


def test_a_process_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that cannot be read is no memory of 0 bytes."""
    monkeypatch.setattr(
        Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(footprint.UnreadableError, match="Permission denied"):
        footprint.pss_bytes(1)


def test_a_process_that_is_gone() -> None:
    """One that has ended takes nothing."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert footprint.pss_bytes(process.pid) == 0


@pytest.fixture
def arms() -> dict[str, PlannedArm]:
    """Two bare arms."""
    return {name: PlannedArm(Arm(name, name), environments.get(name)) for name in ("bare", "bare-aa")}


def test_lifecycle_columns(arms: dict[str, PlannedArm]) -> None:
    """Each round gives start, stop and memory of each arm; what is more than bare's is about nothing in another bare arm."""
    with sessions.open_run() as run:
        site = Site(run, Path.cwd(), 1.0)
        with started(arms["bare"], site) as agent:
            bare = agent.hello.evidence
        orders = [["bare", "bare-aa"], ["bare-aa", "bare"]]
        found, skipped = measure_lifecycle(arms, orders, site, bare, memory=True)
        assert skipped == ()
        assert set(found) == {START, STOP, MEMORY}
        assert all(len(samples.values) == 2 for columns in found.values() for samples in columns.values())
        weights = found[MEMORY]["bare-aa"]
        assert all(4 * MEBIBYTE < value < 200 * MEBIBYTE for value in weights.values)
        assert all(abs(more) < MEBIBYTE for more in weights.details["on_top_of_bare_bytes"])
        assert found[MEMORY]["bare"].details["on_top_of_bare_bytes"] == (0.0, 0.0)


def test_density_columns(arms: dict[str, PlannedArm]) -> None:
    """Rates of starts, and how many sessions fit: no more than the memory that is available holds of them."""
    with sessions.open_run() as run:
        site = Site(run, Path.cwd(), 1.0)
        with started(arms["bare"], site) as agent:
            bare = agent.hello.evidence
        found, skipped = measure_density(arms, ["bare", "bare-aa"], site, bare)
    assert skipped == ()
    assert set(found) == {RATE_ONE, RATE_PARALLEL, DENSITY}
    for samples in found[DENSITY].values():
        assert samples.values[0] == samples.details["available_bytes"][0] // samples.details["session_bytes"][0]
    assert all(0 < samples.values[0] < 10_000 for name in (RATE_ONE, RATE_PARALLEL) for samples in found[name].values())
