"""The GitHub action and GitLab's job of docs/ci.md: their shell steps, run as the CI systems run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from synthetic import synthetic_run

from vprobe.runfile import save

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
COMMAND = "sh work.sh"
SLOWER = ("2000", "8000")
"""Iterations of the loop on the two sides: milliseconds, so that a visit is over soon."""
EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository in which HEAD does twice the work of the commit before."""
    place = tmp_path / "repository"
    place.mkdir()
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]

    def git(*words: str) -> None:
        subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    for work in SLOWER:
        (place / "work.sh").write_text(f"i=0; while [ $i -lt {work} ]; do i=$((i + 1)); done\n")
        (place / "bench.sh").write_text(f"#!/bin/sh\nexec {COMMAND}\n")
        (place / "bench.sh").chmod(0o755)
        git("add", ".")
        git("commit", "--quiet", "-m", work)
    return place


class Runner:
    """As much of a GitHub runner as a composite action sees: expressions in env, files for outputs, path and summary."""

    def __init__(self, directory: Path, inputs: Mapping[str, str]) -> None:
        defaults = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
        self.temp = directory / "runner"
        self.temp.mkdir()
        self.values = {f"inputs.{name}": value for name, value in {**defaults, **inputs}.items()}
        self.values |= {"github.action_path": str(ROOT), "runner.temp": str(self.temp)}
        self.files = {name: self.temp / name for name in ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
        for path in self.files.values():
            path.touch()

    def step(self, name: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the step of that name, by bash as GitHub calls it."""
        step: dict[str, Any] = next(one for one in ACTION["runs"]["steps"] if one["name"] == name)
        own = {key: EXPRESSION.sub(lambda m: self.values.get(m[1], ""), text) for key, text in step["env"].items()}
        assert "${{" not in step["run"], "inputs reach a script as variables only, or they could be code"
        added = self.files["GITHUB_PATH"].read_text().split()
        path = os.pathsep.join([*added, str(Path(sys.executable).parent), os.environ["PATH"]])
        variables = {**os.environ, **own, **{key: str(value) for key, value in self.files.items()}, "PATH": path}
        words = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
        return subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, check=False)

    def output(self, name: str) -> str:
        """What a step has said by GITHUB_OUTPUT."""
        lines = dict(line.split("=", 1) for line in self.files["GITHUB_OUTPUT"].read_text().splitlines())
        return lines[name]


@pytest.mark.engine("git")
@pytest.mark.slow
def test_the_action_fails_a_change_that_is_slower(repository: Path, tmp_path: Path) -> None:
    """Measured and judged by the action's own scripts: a failed step, an annotation, a summary, a JUnit file, a report."""
    runner = Runner(
        tmp_path, {"command": COMMAND, "time-budget": "120", "confirm": "false", "rules": "\n*@bare<=5% vs base\n"}
    )
    measured = runner.step("Measure both sides", repository)
    assert measured.returncode == 0, measured.stderr
    assert "<html" in Path(runner.output("report")).read_text()
    judged = runner.step("Judge", repository)
    assert judged.returncode == 1, judged.stdout + judged.stderr
    assert runner.output("verdict") == "fail"
    assert "::error title=command.run" in judged.stdout
    assert "vprobe gate: fail" in runner.files["GITHUB_STEP_SUMMARY"].read_text()
    assert ElementTree.parse(runner.output("junit")).getroot().find("testsuite/testcase/failure") is not None


def test_a_step_that_breaks_says_so_and_no_verdict(tmp_path: Path, repository: Path) -> None:
    """Without a run file the judging step fails with vprobe's own exit code, and makes up no verdict."""
    runner = Runner(tmp_path, {})
    judged = runner.step("Judge", repository)
    assert judged.returncode == 2 and "cannot be read" in judged.stderr
    assert "verdict" not in runner.files["GITHUB_OUTPUT"].read_text()


@pytest.mark.validation
def test_the_action_installs_what_it_calls(tmp_path: Path) -> None:
    """The installing step makes an environment whose vprobe runs, and puts it on the path."""
    runner = Runner(tmp_path, {})
    done = runner.step("Install vprobe", tmp_path)
    assert done.returncode == 0, done.stderr
    (place,) = runner.files["GITHUB_PATH"].read_text().split()
    said = subprocess.run([f"{place}/vprobe", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "vprobe" in said.stdout


def gitlab_script() -> list[str]:
    """The script of the job in docs/ci.md, without the installation."""
    (block,) = re.findall(r"## GitLab\n\n```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)
    script: list[str] = yaml.safe_load(block)["speed"]["script"]
    assert script[0].startswith("pip install")
    return script[1:]


@pytest.mark.engine("git")
def test_the_job_for_gitlab_fails_a_change_that_is_slower(repository: Path) -> None:
    """The documented script, line by line as GitLab joins it: what it measures is planned as written, and of a run in which
    head is slower the script ends with the gate's exit code and leaves its JUnit file. (The action's test measures.)"""
    run = synthetic_run(
        boots=9, arms=["bare/base", "bare/head", "bare-aa"], workloads=["command.run"], effects={"bare/head": 1.2}
    )
    save(run, repository / "run.json")
    base = subprocess.run(["git", "rev-parse", "HEAD~1"], cwd=repository, check=True, capture_output=True, text=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "CI_MERGE_REQUEST_DIFF_BASE_SHA": base.stdout.strip()}
    measuring, judging = gitlab_script()
    script = "\n".join([f"{measuring} --dry-run", judging.replace("--confirm", "")])
    words = ["bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(words, cwd=repository, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "bare/base, bare/head, bare-aa" in done.stdout and "9, 18 or 36 boots" in done.stdout
    assert ElementTree.parse(repository / "junit.xml").getroot().find("testsuite/testcase/failure") is not None
