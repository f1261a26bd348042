"""A container's start as vprobe reports it, against hyperfine timing the engine's own command on the same bundle.

Interleaved, pair by pair, so that the machine's mood is in both alike. Run by `make validate-lifecycle`, alone on the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vprobe import environments
from vprobe.environments import Launch, bundle, supervisor
from vprobe.environments.oci import RUNTIMES
from vprobe.environments.process import behind_a_proxy
from vprobe.environments.sessions import open_run
from vprobe.measure.plan import PlannedArm
from vprobe.measure.sessions import Site, code_paths, started
from vprobe.model import Arm

PAIRS = 21
AGREEMENT = 0.10


def own_command(name: str, launch: Launch, place: Path) -> tuple[list[str], str]:
    """What gives a private mount namespace; and the engine's own command on a bundle as vprobe writes it, until the agent's
    first line."""
    runtime = RUNTIMES[name]
    inside = behind_a_proxy(launch.argv) if runtime.proxies else launch.argv
    (place / "config.json").write_text(
        json.dumps(
            bundle.configuration(
                Launch(**{**vars(launch), "argv": inside}), supervisor.mount_points(), cgroup2=bundle.CGROUP2.exists()
            )
        )
    )
    (place / "root").mkdir()
    os.mkfifo(place / "answers")
    preserve = "--preserve-fds 2" if runtime.proxies else ""
    descriptors = "3</dev/null 4>answers" if runtime.proxies else "</dev/null >answers"
    first_answer = (
        f"{name} --root {place}/state run {preserve} --bundle {place} once {descriptors} & read -r line <answers"
    )
    hybrid = (
        ""
        if runtime.hybrid
        else "mountpoint -q /sys/fs/cgroup/unified && mount -t tmpfs tmpfs /sys/fs/cgroup/unified; "
    )
    setup = f'mount --bind / {place}/root && {hybrid}cd {place} && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", setup, "sh"], first_answer


def by_hyperfine(apart: list[str], command: str, place: Path) -> float:
    """ns of one run by hyperfine, its shell's own time taken off; the container ends by itself at the end of its input."""
    export = place / "hyperfine.json"
    timed = ["hyperfine", "--runs", "1", "--shell", "sh", "--style", "none", "--export-json", str(export), command]
    subprocess.run([*apart, *timed], check=True, capture_output=True, cwd=place)
    deadline = time.monotonic() + 10
    while any((place / "state").glob("*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    result: float = json.loads(export.read_text())["results"][0]["times"][0]
    return result * 1e9


@pytest.mark.validation
@pytest.mark.root
@pytest.mark.engine("hyperfine")
@pytest.mark.parametrize("name", ["runc", "crun"])
def test_start_agrees_with_hyperfine(name: str) -> None:
    """The medians of 21 interleaved pairs agree within 10 %."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    arm = PlannedArm(Arm(name, name), environments.get(name))
    with open_run() as run:
        site = Site(run, Path.cwd(), 1.0)
        place = run.path / "hyperfine"
        place.mkdir()
        argv = (sys.executable, "-m", "vprobe.measure.agent", json.dumps({"scratch": str(run.scratch)}))
        launch = Launch(
            argv, place, run.scratch, read_only_paths=(*code_paths(), Path.cwd()), working_directory=Path.cwd()
        )
        apart, command = own_command(name, launch, place)
        ours, theirs = [], []
        for number in range(PAIRS + 1):
            pair: dict[str, float] = {}
            for who in ("vprobe", "hyperfine")[:: 1 if number % 2 else -1]:
                if who == "hyperfine":
                    pair[who] = by_hyperfine(apart, command, place)
                else:
                    with started(arm, site) as agent:
                        pair[who] = agent.start_ns
            if number:  # the first warms the page cache
                ours.append(pair["vprobe"])
                theirs.append(pair["hyperfine"])
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(
        f"\n{name}: lifecycle.start {statistics.median(ours) / 1e6:.1f} ms, hyperfine {statistics.median(theirs) / 1e6:.1f} ms, "
        f"ratio {ratio:.3f} over {len(ours)} pairs"
    )
    assert abs(ratio - 1) < AGREEMENT
