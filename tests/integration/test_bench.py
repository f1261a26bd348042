"""`vprobe bench` from end to end, with the real engines, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vprobe import runfile
from vprobe.measure.plan import BASE, CONTROL
from vprobe.model import Run

VPROBE = [sys.executable, "-m", "vprobe"]
LOOP = "n=0; while [ $n -lt {} ]; do n=$((n + 1)); done"
"""A command of milliseconds, so that a visit is over soon."""


def vprobe(*words: str, cwd: Path, check: int | None = 0, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line; fail with what it said where its exit code is not the one expected."""
    done = subprocess.run([*VPROBE, *words], cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def leftovers(directory: Path) -> list[str]:
    """Processes that were started below a directory, by their variables, arguments or working directory."""
    found = []
    for one in psutil.process_iter():
        try:
            words = [*one.cmdline(), one.cwd(), *one.environ().values()]
        except psutil.Error:
            continue
        if one.pid != os.getpid() and any(str(directory) in word for word in words if "pytest" not in word):
            found.append(f"{one.pid} {' '.join(one.cmdline())[:100]}")
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose temporary directory is its own, so that leftovers can be told from others'."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


@pytest.mark.root
@pytest.mark.kvm
@pytest.mark.engine("runc")
@pytest.mark.slow
def test_the_main_line(place: Path) -> None:
    """Four environments, three boots: every arm has samples of all that it supports, the evidence shows each boundary,
    the numbers agree with one another, and nothing is left behind."""
    before = Path("/proc/self/mounts").read_text()
    chosen = ["cpu.*", "memory.chase[l1]", "system.getpid", "exits.out", "lifecycle.start", "lifecycle.stop"]
    words = ["bench", "--env", "bare,namespaces,runc,kvm", "--boots", "3"]
    words += [word for glob in chosen for word in ("--select", glob)]
    done = vprobe(*words, "-o", "run.json", "--report", "report.html", "--json", cwd=place)
    assert json.loads(done.stdout)["schema"] == "vprobe.comparison/1"
    run = runfile.load(place / "run.json")
    assert [arm.name for arm in run.arms] == [BASE, CONTROL, "namespaces", "runc", "kvm"]
    check_coverage(run)
    check_evidence(run)
    check_agreement(run)
    assert "<html" in (place / "report.html").read_text()
    assert Path("/proc/self/mounts").read_text() == before
    assert leftovers(place) == [] and list((place / "tmp").iterdir()) == []


def check_coverage(run: Run) -> None:
    """Every arm has samples, of one length, for every workload, or a skip with a reason."""
    skipped = {(skip.arm, skip.workload): skip.reason for skip in run.skipped}
    for workload in run.workloads:
        visits = [visit for visit in run.visits if visit.workload == workload.name]
        assert sorted(visit.boot for visit in visits) == [0, 1, 2]
        for visit in visits:
            for arm in run.arms:
                if (arm.name, workload.name) in skipped:
                    assert arm.name not in visit.samples and skipped[arm.name, workload.name]
                else:
                    fewest = 1 if workload.name.startswith("lifecycle.") else 3  # sessions start once a boot
                    assert len(visit.samples[arm.name].values) == len(visit.rows) >= fewest
    assert ("kvm", "cpu.sha256") in skipped and ("bare", "exits.out") in skipped


def check_evidence(run: Run) -> None:
    """Each session saw what only its own place shows."""
    seen = {one.name: one.evidence for one in run.environments}
    bare = seen[BASE]["namespaces"]
    assert seen[CONTROL]["namespaces"] == bare
    for name in ("namespaces", "runc"):
        differ = {key for key in bare if seen[name]["namespaces"].get(key) != bare[key]}
        assert {"mnt", "pid", "net", "ipc", "uts"} <= differ, name
    assert seen["runc"]["root_mount"] != seen[BASE]["root_mount"]
    assert seen["kvm"]["microvm"]["ring"] == 3 and "microvm" not in seen[BASE]
    assert len({one.python_hash for one in run.environments}) == 1


def check_agreement(run: Run) -> None:
    """The same integer chain takes the same time everywhere, and an exit takes far longer than a system call."""

    def median(workload: str, arm: str) -> float:
        values = [v for visit in run.visits if visit.workload == workload for v in visit.samples[arm].values]
        return sorted(values)[len(values) // 2]

    for arm in run.arms:  # round by round, since a shared machine's speed changes
        pairs = [
            pair
            for visit in run.visits
            if visit.workload == "cpu.integer_chain"
            for pair in zip(visit.samples[arm.name].values, visit.samples[BASE].values, strict=True)
        ]
        assert 0.9 < statistics.median(value / base for value, base in pairs) < 1.1
    assert median("exits.out", "kvm") > 5 * median("system.getpid", BASE)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_killed_in_the_middle_it_resumes_and_leaves_nothing(place: Path) -> None:
    """After SIGKILL nothing of the run is left, and --resume completes it without repeating a finished visit."""
    names = ["cpu.integer_chain", "cpu.float_chain", "cpu.sha256", "cpu.zlib"]
    selected = [word for name in names for word in ("--select", name)]
    words = ["bench", "--env", "bare,namespaces", "--boots", "3", *selected, "-o", "run.json"]
    part = place / "run.json.part"
    child = subprocess.Popen([*VPROBE, *words], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: part.exists() and part.read_bytes().count(b"\n") >= 4, 60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    finished = part.read_bytes().splitlines()[1:]
    wait_until(lambda: leftovers(place) == [], 10)
    vprobe(*words, "--resume", cwd=place)
    run = runfile.load(place / "run.json")
    keys = [(visit.boot, visit.workload) for visit in run.visits]
    assert len(keys) == len(set(keys)) == 3 * len(names)
    old = [json.loads(line) for line in finished if line.endswith(b"}")]
    for line, visit in zip(old, run.visits, strict=False):
        assert list(visit.samples["bare"].values) == line["samples"]["bare"]["values"]
    assert not part.exists() and list((place / "tmp").iterdir()) == []


def wait_until(condition: object, timeout_s: float) -> None:
    """Wait for something that must become true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_ends_with_the_right_code_and_keeps_its_journal(place: Path, number: int, code: int) -> None:
    """Ctrl-C and a polite kill unwind everything and lose no finished visit."""
    words = ["bench", "--env", "bare", "--boots", "50", "--select", "cpu.integer_chain", "-o", "run.json"]
    part = place / "run.json.part"
    child = subprocess.Popen([*VPROBE, *words], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: part.exists() and part.read_bytes().count(b"\n") >= 2, 60)
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert child.returncode == code and b"Traceback" not in said
    assert (b"--resume" in said) == (number == signal.SIGINT)
    assert part.read_bytes().count(b"\n") >= 2 and leftovers(place) == [] and list((place / "tmp").iterdir()) == []


@pytest.mark.slow
def test_a_command_that_does_more_work_is_caught(place: Path) -> None:
    """Of two variants beside base the one that does four times the work fails the gate, the one that does the same does not."""
    sides = {"base": 1_000, "same": 1_000, "head": 4_000}
    variants = [word for name, work in sides.items() for word in ("--variant", f"{name}={LOOP.format(work)}")]
    vprobe("bench", "--env", "bare", "--boots", "6", *variants, "-o", "run.json", cwd=place)
    done = vprobe("gate", "run.json", "--rule", "*@bare<=2% vs base", "--json", cwd=place, check=1)
    verdicts = {row["arm"]: row["verdict"] for row in json.loads(done.stdout)["rules"]}
    assert verdicts["bare/head"] == "fail" and verdicts["bare/same"] != "fail"


@pytest.mark.engine("git")
@pytest.mark.slow
def test_revisions_are_compared_without_touching_the_repository(place: Path) -> None:
    """git: variants run each revision's own files; the repository has no work tree more than before."""
    repository = place / "repository"
    repository.mkdir()

    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", *identity, *words], cwd=repository, check=True, capture_output=True, text=True
        ).stdout

    git("init", "--quiet", "--initial-branch=main")
    for revision, work in (("one", 600_000), ("two", 6_000_000)):
        (repository / "work.py").write_text(f"for i in range({work}): pass\n")
        git("add", ".")
        git("commit", "--quiet", "-m", revision)
    words = [
        "--command",
        f"{sys.executable} -I -S work.py",
        "--variant",
        "base=git:HEAD~1",
        "--variant",
        "head=git:HEAD",
    ]
    words += ["--boots", "2", "--time-budget", "4", "-o", str(place / "run.json")]
    vprobe("bench", "--env", "bare", *words, cwd=repository)
    run = runfile.load(place / "run.json")
    for visit in run.visits:
        assert min(visit.samples["bare/head"].values) > 1.2 * min(visit.samples["bare/base"].values)
    assert git("status", "--porcelain") == "" and git("worktree", "list").count("\n") == 1


def test_a_command_that_fails_breaks_the_run_with_its_last_words(place: Path) -> None:
    """Exit 6, one line, the command's own output in it."""
    done = vprobe("bench", "--env", "bare", "--command", "echo no such luck >&2; exit 4", cwd=place, check=6)
    assert "exited with 4" in done.stderr and "no such luck" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--env", "runk"], 2, "runc"),
        (["--env", ""], 2, "names no environment"),
        (["--select", "cpu.nope"], 2, "no workload matches"),
        (["--pin", "9999"], 2, "may not use that CPU"),
        (["--pin", "x"], 2, "not a list of CPU numbers"),
        (["-o", "/nonexistent/run.json"], 2, "not a directory"),
        (["--resume"], 2, "no unfinished run"),
        (["--preset", "slow"], 2, "'slow'"),
        (["--boots", "0"], 2, "0"),
    ],
)
def test_usage_errors_are_one_line(place: Path, words: list[str], code: int, said: str) -> None:
    """A mistake gets one line that names it and what to do, before anything is measured."""
    done = vprobe("bench", *words, cwd=place, check=code)
    assert said in done.stderr and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_errors_under_json_are_one_document(place: Path) -> None:
    """A script reads the reason from standard output."""
    done = vprobe("bench", "--env", "runk", "--json", cwd=place, check=2)
    document = json.loads(done.stdout)
    assert document["schema"] == "vprobe.error/1" and document["code"] == "usage" and document["hint"]


def test_a_dry_run_measures_nothing(place: Path) -> None:
    """--dry-run says the arms, the workloads and what ends an automatic run, and writes no file."""
    done = vprobe("bench", "--env", "bare", "--dry-run", cwd=place)
    assert "cpu.integer_chain" in done.stdout and "bare-aa" in done.stdout and "in any case" not in done.stdout
    assert "6 in any case" in vprobe("bench", "--env", "auto", "--dry-run", cwd=place).stdout
    assert [path.name for path in place.iterdir()] == ["tmp"]


@pytest.mark.root
@pytest.mark.engine("runc")
@pytest.mark.slow
def test_storage_in_a_directory_of_choice(place: Path) -> None:
    """The files lie where --scratch says, run file and run agree on what is below, and a killed run leaves none of them."""
    disk = place / "disk"
    disk.mkdir()
    chosen = [
        word for glob in ("*_read[*", "*_write[*", "fsync") for word in ("--select", f"storage.{glob}")
    ]  # not fio
    words = ("bench", "--env", "bare,runc", *chosen, "--scratch", str(disk), "--seed", "1")
    vprobe(*words, "--boots", "1", "-o", "run.json", cwd=place)
    run = runfile.load(place / "run.json")
    assert len(run.visits) == 5
    for record in run.workloads:
        assert record.parameters["backing"]["file_system"] in Path("/proc/filesystems").read_text()
        assert record.parameters["direct"] in ("none", "lenient", "strict")
    for visit in run.visits:
        assert set(visit.samples) == {"bare", "bare-aa", "runc"}
    assert not list(disk.iterdir())
    running = subprocess.Popen([*VPROBE, *words, "-o", "killed.json"], cwd=place, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(disk.glob("*/storage-*")), 20)
    running.kill()
    running.wait()
    wait_until(lambda: not list(disk.iterdir()), 20)
    wait_until(lambda: not leftovers(place), 20)
