"""The agent and its channel, over real pipes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vprobe.suites import KernelCall

from vprobe.environments import Launch
from vprobe.errors import RunError
from vprobe.measure.agent import BadRequestError, anywhere, cpus_of_node, decoded, encoded
from vprobe.measure.channel import Channel, UnsupportedHereError
from vprobe.measure.protocol import CommandReply, PrepareReply, Reply

from .stand_in import StandInSession


def launch(tmp_path: Path) -> Launch:
    """Where a session may write."""
    return Launch(argv=(), session_dir=tmp_path, scratch=tmp_path, working_directory=tmp_path)


AGENT = (sys.executable, "-m", "vprobe.measure.agent", '{"scratch": "/tmp"}')


def talk(tmp_path: Path, *argv: str) -> tuple[StandInSession, Channel]:
    """A session that runs argv, and the channel to it."""
    session = StandInSession(argv or AGENT, launch(tmp_path))
    return session, Channel(session, "here")


def test_hello_tells_where_it_is(tmp_path: Path) -> None:
    """The first message carries the namespaces of the process itself."""
    session, channel = talk(tmp_path)
    with session:
        hello, arrived_ns = channel.hello(20)
    assert 0 < hello.agent_ns < arrived_ns - session.launched_ns
    assert hello.evidence["namespaces"]["mnt"] == Path("/proc/self/ns/mnt").stat().st_ino


def test_a_python_workload_runs_and_its_prints_do_not_reach_the_channel(tmp_path: Path) -> None:
    """Blocks are answered in step with plausible times."""
    session, channel = talk(tmp_path)
    with session:
        channel.hello(20)
        request = {"op": "prepare", "handle": 7, "workload": "cpu.sha256", "parameters": {"length": 4096}}
        channel.request(request, PrepareReply, 20)
        reply, outside_ns = channel.block(7, 2, 50, 20)
        assert 0 < reply.ns < outside_ns
        with pytest.raises(RunError, match="KeyError"):
            channel.block(8, 0, 1, 20)


def test_unknown_workloads_are_unsupported_and_not_fatal(tmp_path: Path) -> None:
    """An agent of another version says what it lacks, and goes on."""
    session, channel = talk(tmp_path)
    with session:
        channel.hello(20)
        with pytest.raises(UnsupportedHereError, match="no such workload"):
            channel.request({"op": "prepare", "handle": 1, "workload": "cpu.no", "parameters": {}}, PrepareReply, 20)
        channel.request({"op": "pin", "cpus": [min(os.sched_getaffinity(0))]}, Reply, 20)


def test_commands_report_status_times_and_last_words(tmp_path: Path) -> None:
    """A failing command's status and output come back; a succeeding one's time is at least what it slept."""
    session, channel = talk(tmp_path)
    with session:
        channel.hello(20)
        failed = channel.request({"op": "command", "command": "echo oh no; exit 3"}, CommandReply, 20)
        slept = channel.request({"op": "command", "command": "sleep 0.05"}, CommandReply, 20)
    assert (failed.status, failed.output.strip()) == (3, "oh no")
    assert slept.ns >= 50_000_000 > slept.user_ns and slept.peak_bytes > 100_000


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("pass", "the agent ended"),
        ("import sys; sys.exit('bad luck')", "bad luck"),
        ("print('hello')", "not a greeting"),
        ("print('x' * 100000)", "longer than 64 KiB"),
        ("import time; time.sleep(30)", "no answer within"),
        ('print(\'{"hello":1,"pid":-5,"agent_ns":1,"native":true,"evidence":{}}\')', "not a greeting"),
    ],
)
def test_an_agent_that_misbehaves_ends_the_run_with_one_line(tmp_path: Path, program: str, words: str) -> None:
    """Death, silence, noise and lies each get their own sentence."""
    session, channel = talk(tmp_path, sys.executable, "-c", program)
    with session, pytest.raises(RunError, match=words):
        channel.hello(1.5)


GREETS_LATE = 'import time; time.sleep(1); print(\'{"hello":1,"pid":5,"agent_ns":1,"native":true,"evidence":{}}\')'


def test_time_in_which_others_had_the_cpus_does_not_count(tmp_path: Path) -> None:
    """A first message that comes late for that reason is waited for; one that never comes, no longer than that."""
    session, channel = talk(tmp_path, sys.executable, "-c", GREETS_LATE)
    with session:
        session.waits_s = (5.0,)
        assert channel.hello(0.2)[0].pid == 5
    session, channel = talk(tmp_path, sys.executable, "-c", "import time; time.sleep(30)")
    with session, pytest.raises(RunError, match=r"no answer within 0\.2 s and 0\.6 s in which others had the CPUs "):
        session.waits_s = (0.4, 0.6)
        channel.hello(0.2)


def test_a_request_that_is_no_json_is_answered_and_survived(tmp_path: Path) -> None:
    """The agent does not die of nonsense, and says that it was nonsense."""
    session, channel = talk(tmp_path)
    with session:
        channel.hello(20)
        os.write(session.to_agent, b"nonsense\n")
        assert b"not a request" in os.read(session.from_agent, 1000)
        with pytest.raises(RunError, match="iterations must be an integer"):
            channel.request(
                {"op": "prepare", "handle": 1, "workload": "cpu.zlib", "parameters": {"length": 64, "level": 1}},
                PrepareReply,
                20,
            )
            channel.block(1, 0, 0, 20)


CHASE = {"op": "prepare", "handle": 1, "call": asdict(KernelCall("chase", memory_bytes=1 << 22, setup="chase"))}
TOUCH = {
    "op": "prepare", "handle": 1,
    "call": asdict(KernelCall("touch", memory_bytes=1 << 21, refresh="discard", maximum_iterations=512)),
}  # fmt: skip


def resident_bytes(pid: int) -> int:
    """Memory of a process that is there (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_kernels_work_in_the_memory_of_the_last_one(tmp_path: Path) -> None:
    """A memory outlives its workload, serves smaller ones and larger ones in turn, and there is never more than one."""
    session, channel = talk(tmp_path)
    with session:
        assert channel.hello(20)[0].native
        held = []
        for request in (CHASE, TOUCH, CHASE):
            channel.request(request, PrepareReply, 20)
            assert channel.block(1, 1, 500, 20)[0].ns > 0
            channel.request({"op": "release", "handle": 1}, Reply, 20)
            held.append(resident_bytes(session.pid))
    assert abs(held[2] - held[0]) < 1 << 20


def test_memory_is_made_ready_on_cpus_that_are_near_it() -> None:
    """While it is, the thread may use its node's CPUs, and afterwards those that it is pinned to, whatever happens."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    node = cpus_of_node(cpu)
    assert not node or cpu in node
    assert cpus_of_node(1 << 20) == set()
    os.sched_setaffinity(0, {cpu})
    try:
        with pytest.raises(BadRequestError), anywhere(before):
            assert os.sched_getaffinity(0) == before
            raise BadRequestError("broken off")
        assert os.sched_getaffinity(0) == {cpu}
    finally:
        os.sched_setaffinity(0, before)


def test_what_a_block_does_beside_its_timed_part_is_told(tmp_path: Path) -> None:
    """Giving the memory back before a block is part of what it takes: inside and outside differ by the way there alone."""
    session, channel = talk(tmp_path)
    with session:
        channel.hello(20)
        request = {**TOUCH, "call": {**TOUCH["call"], "memory_bytes": 1 << 26}}  # type: ignore[dict-item]
        channel.request(request, PrepareReply, 60)
        channel.block(1, 0, 1 << 14, 20)  # all of it is there, and has to be given back
        reply, outside_ns = channel.block(1, 0, 1, 20)
    assert outside_ns >= reply.ns + reply.warm_ns > 10 * reply.ns


NAMES = st.sampled_from(["id", "ns", "warm_ns", "involuntary", "details", "error", "unsupported"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, JSON) | st.dictionaries(NAMES, st.integers()))
def test_messages_are_one_line_that_says_what_was_said(message: dict[str, object]) -> None:
    """Whatever an answer holds, JSON's own reader reads it back from one line, and so does the agent's."""
    line = encoded(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line) == decoded(line[:-1]) == message


@given(st.binary(max_size=40) | st.sampled_from([b"1 2", b"{}{}", b"", b"{}", b'{"id":1}x', b"[1,2]"]))
def test_a_line_is_refused_or_read_as_json_has_it(line: bytes) -> None:
    """The agent reads nothing into a line that JSON's own reader would not."""
    with contextlib.suppress(ValueError):
        value = decoded(line)
        assert repr(json.loads(line)) == repr(value)


def test_what_is_not_one_value_is_refused() -> None:
    """Two values, half of one, or none."""
    for line in (b"1 2", b"{}{}", b"", b'{"id":', b'{"id":1}x', b"\xff"):
        with pytest.raises(ValueError):
            decoded(line)
