"""An environment's start as vprobe reports it, against hyperfine timing the engine's own command on an equal bundle.

What hyperfine runs is the engine's command line as vprobe would have its supervisor execute it, with the same mounts, cgroups
and variables around it, up to the agent's first line; vprobe's supervisor, channel and clock have no part in it. Interleaved,
pair by pair, and neither side pinned or raised, so that the machine's mood is in both alike. An environment agrees where the
whole 90 % interval (signed ranks, over the pairs) of vprobe / hyperfine lies within 10 %: 1/1.1 to 1.1. Run by
`make validate-lifecycle`, alone on the machine.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import docker_server
import numpy as np
import pytest

from vprobe import environments
from vprobe.analysis.signed_rank import hodges_lehmann, interval
from vprobe.environments import Launch, Unavailable, process, sessions, supervisor
from vprobe.environments.process import Channel, Instructions
from vprobe.measure.plan import PlannedArm
from vprobe.measure.sessions import Site, make_launch, started
from vprobe.model import Arm

PAIRS, FEWER_PAIRS = 61, {"gvisor": 21, "podman": 21, "docker": 15}
"""Fewer of those that take long and vary little."""
REST_S = 0.3
"""Before each start. The kernel takes the last session's network namespace apart in the background, and hyperfine, which times
its shell first, would begin later after that than vprobe."""
CONFIDENCE = 0.9
BOUND = 0.10
PATIENCE_S = 20.0
NAMES = ("chroot", "namespaces", "bubblewrap", "nspawn", "lxc", "runc", "crun", "gvisor", "podman", "docker")

AROUND = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import supervisor
given = json.loads(sys.argv[2])
for directory in given["cgroups"]:
    supervisor.enter_cgroup(directory, [])
if given["mounts"]:
    supervisor.make_mounts(given["mounts"])
os.chdir(given["working_directory"])
os.execvpe(sys.argv[3], sys.argv[3:], given["variables"])
"""
"""What the supervisor sets up around an engine, around hyperfine."""


@pytest.fixture(scope="module", autouse=True)
def private_docker() -> Iterator[None]:
    """A daemon of the test's own."""
    with docker_server.preferred():
        yield


def instructions_for(environment: environments.Environment, launch: Launch) -> Instructions:
    """What the environment would tell its supervisor."""
    told: list[Instructions] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "start", lambda instructions, *_: told.append(instructions))
        environment.start(launch)
    return told[0]


def until_first_line(told: Instructions, session_dir: Path) -> str:
    """The engine's command for a shell, which ends with the agent's first line; its input is at an end from the beginning."""
    engine = shlex.join(told.argv)
    if told.channel is Channel.FIFOS:
        directory = session_dir / process.FIFO_DIRECTORY
        directory.mkdir(mode=0o755)
        requests, answers = directory / process.REQUESTS, directory / process.ANSWERS
        for fifo in (requests, answers):
            os.mkfifo(fifo)
        return f"{engine} </dev/null & exec 3>{requests}; read -r line <{answers}"
    answers = session_dir / "answers"
    os.mkfifo(answers)
    streams = f"</dev/null 3</dev/null 4>{answers}" if told.channel is Channel.APART else f"</dev/null >{answers}"
    return f"{engine} {streams} & read -r line <{answers}"


def by_hyperfine(arm: PlannedArm, site: Site) -> float:
    """ns of one start by hyperfine, its shell's own time taken off."""
    launch, _ = make_launch(arm, site)
    told = instructions_for(arm.environment, launch)
    export = site.run.path / "hyperfine.json"
    timed = ["hyperfine", "--runs", "1", "--shell", "sh", "--style", "none", "--export-json", str(export)]
    timed.append(until_first_line(told, launch.session_dir))
    around = [sys.executable, "-I", "-S", "-c", AROUND, str(Path(supervisor.__file__).parent), json.dumps(asdict(told))]
    try:
        for argv in told.setup:
            assert supervisor.run_bounded(list(argv), dict(told.variables)) == ""
        subprocess.run([*around, *timed], check=True, capture_output=True, text=True)
        wait_until_gone(launch.session_dir)
    finally:
        assert supervisor.forget(asdict(told), str(launch.session_dir)) == []
        supervisor.remove(str(launch.session_dir))
    seconds: float = json.loads(export.read_text())["results"][0]["times"][0]
    return seconds * 1e9


def wait_until_gone(session_dir: Path) -> None:
    """The agent has seen the end of its input, and all that was started for it ends."""
    deadline = time.monotonic() + PATIENCE_S
    while left := supervisor.bearers(str(session_dir)):
        assert time.monotonic() < deadline, left
        time.sleep(0.005)


def by_vprobe(arm: PlannedArm, site: Site) -> float:
    """ns of one start by vprobe."""
    with started(arm, site) as agent:
        return agent.start_ns


@pytest.mark.validation
@pytest.mark.root
@pytest.mark.engine("hyperfine")
@pytest.mark.parametrize("name", NAMES)
def test_start_agrees_with_hyperfine(name: str) -> None:
    """The whole interval of the ratio over the interleaved pairs lies within 10 %."""
    environment = environments.get(name)
    found = environment.availability()
    if isinstance(found, Unavailable):
        pytest.skip(f"{name}: {found.reason}")
    arm = PlannedArm(Arm(name, name), environment)
    ours, theirs = [], []
    with sessions.open_run() as run:
        site = Site(run, Path.cwd(), 1.0)
        for number in range(FEWER_PAIRS.get(name, PAIRS) + 1):
            both = (by_vprobe, by_hyperfine)[:: 1 if number % 2 else -1]
            pair = {}
            for who in both:
                time.sleep(REST_S)
                pair[who] = who(arm, site)
            if number:  # the first warms the page cache
                ours.append(pair[by_vprobe])
                theirs.append(pair[by_hyperfine])
    logs = np.log(ours) - np.log(theirs)
    ratio, (low, high) = math.exp(hodges_lehmann(logs)), map(math.exp, interval(logs, CONFIDENCE))
    medians = [f"{statistics.median(values) / 1e6:.1f}" for values in (ours, theirs)]
    print(f"\n| {name} | {medians[0]} ms | {medians[1]} ms | {ratio:.3f} [{low:.3f}, {high:.3f}] | {len(ours)} |")
    assert low >= 1 / (1 + BOUND)
    assert high <= 1 + BOUND
