"""--pytest and the pytest front end, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vprobe.model import Run

TESTS = """
import pytest
from library import work

def test_one(benchmark):
    benchmark(work, 300)

@pytest.mark.parametrize("n", [50])
def test_other(benchmark, n):
    benchmark.pedantic(work, args=(n,), rounds=30, iterations=20)

def test_no_benchmark():
    raise AssertionError("is not run")
"""
ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}


def vprobe(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vprobe", "bench", "--boots", "1", *words],
        cwd=place,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def git(place: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=place, env=ENVIRONMENT, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of two commits: the second does ten times as much, in the layout with src/."""
    for name, factor in (("base", 2), ("head", 20)):
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        (tmp_path / "src" / "library.py").write_text(f"def work(n):\n    return sum(range({factor} * n))\n")
        (tmp_path / "benchmarks" / "test_speed.py").write_text(TESTS)
        if name == "base":
            git(tmp_path, "init", "-q")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", name)
    return tmp_path


def test_benchmarks_are_compared_by_full_name_in_work_trees(project: Path) -> None:
    """Each benchmark is a workload with samples in every arm, and the second commit is seen to do far more."""
    sides = ["--variant", "base=git:HEAD~1", "--variant", "head=git:HEAD"]
    done = vprobe(project, "--env", "bare", "--pytest", "benchmarks", *sides, "-o", "run.json")
    assert done.returncode == 0, done.stderr
    run = msgspec.json.decode((project / "run.json").read_bytes(), type=Run)
    names = {one.name for one in run.workloads}
    one = "pytest.benchmarks/test_speed.py::test_one"
    assert names == {"pytest.run", one, "pytest.benchmarks/test_speed.py::test_other[50]"}
    (visit,) = (visit for visit in run.visits if visit.workload == one)
    assert set(visit.samples) == {"bare/base", "bare/head", "bare-aa"}
    medians = {arm: sorted(samples.values)[len(samples.values) // 2] for arm, samples in visit.samples.items()}
    assert 4 < medians["bare/head"] / medians["bare/base"] < 25
    assert set(visit.samples["bare/base"].details) == {"min_ns", "mean_ns", "stddev_ns", "rounds"}
    assert sorted(path.name for path in project.iterdir()) == [".git", "benchmarks", "run.json", "src"]


def test_a_benchmark_that_fails_is_named(project: Path) -> None:
    """The run breaks (6) in one line with the test that failed; nothing to measure and no such path are told, too."""
    (project / "benchmarks" / "test_speed.py").write_text("def test_bad(benchmark):\n    benchmark(lambda: 1 / 0)\n")
    done = vprobe(project, "--env", "bare", "--pytest", "benchmarks", "-o", "run.json")
    assert done.returncode == 6
    assert "test_bad" in done.stderr and "ZeroDivisionError" in done.stderr and "Traceback" not in done.stderr
    (project / "benchmarks" / "test_speed.py").write_text("def test_good():\n    pass\n")
    done = vprobe(project, "--env", "bare", "--pytest", "benchmarks", "-o", "run.json")
    assert done.returncode == 6 and "no benchmark" in done.stderr
    done = vprobe(project, "--env", "bare", "--pytest", "nowhere", "-o", "run.json")
    assert done.returncode == 2 and "nowhere" in done.stderr


def front_end(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "vprobe.suites", *words],
        cwd=place,
        env={name: value for name, value in ENVIRONMENT.items() if name != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_front_end_gives_the_engines_samples_to_pytest_benchmark(tmp_path: Path) -> None:
    """Every workload in every arm is an entry with the very samples of the run file, its unit, arm and fingerprint."""
    out, kept = tmp_path / "out.json", tmp_path / "run.json"
    options = ["--vprobe-env", "bare", "--vprobe-select", "cpu.integer_chain", "--vprobe-select", "memory.triad"]
    done = front_end(tmp_path, *options, "--vprobe-boots", "1", f"--benchmark-json={out}", f"--vprobe-output={kept}")
    assert done.returncode == 0, done.stdout + done.stderr
    run = msgspec.json.decode(kept.read_bytes(), type=Run)
    entries: list[dict[str, Any]] = json.loads(out.read_text())["benchmarks"]
    assert len(entries) == 4
    for entry in entries:
        info = entry["extra_info"]
        assert entry["group"] == info["workload"]
        (visit,) = (one for one in run.visits if one.workload == info["workload"])
        values = visit.samples[info["arm"]].values
        expected = [1 / value for value in values] if info["unit"] == "B/s" else [value * 1e-9 for value in values]
        assert entry["stats"]["data"] == pytest.approx(expected, rel=1e-9)
        assert info["fingerprint"]["kernel"] == run.fingerprint.kernel


def test_the_front_end_refuses_what_the_command_line_refuses(tmp_path: Path) -> None:
    """An environment that does not exist is a usage error of pytest (4) in one line; collecting alone measures nothing."""
    done = front_end(tmp_path, "--vprobe-env", "nowhere")
    assert done.returncode != 0 and "no such environment" in done.stdout + done.stderr
    done = front_end(tmp_path, "--vprobe-env", "bare", "--collect-only", "-q", "-k", "getpid")
    assert "test_workload[system.getpid@bare]" in done.stdout and "measured in" not in done.stderr
