"""The memory layout of sessions: one draw for all of a boot, another for the next."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprobe import environments
from vprobe.environments import Launch, layout, process, sessions

DRAWS = st.integers(0, 2**32 - 1)
NAMES = st.from_regex(r"[A-Z_]{1,20}", fullmatch=True).filter(
    lambda name: name not in ("PYTHONHASHSEED", layout.VARIABLE)
)
WHERE = (
    "import json, os\n"
    "from vprobe.measure import agent\n"
    "draw = os.environ.get('VPROBE_LAYOUT', '').partition(':')[0]\n"
    "held = agent.take_draw(int(draw)) if draw else []\n"
    "stack = int(open('/proc/self/stat').read().rpartition(')')[2].split()[25])\n"  # startstack, proc_pid_stat(5)
    "placed = object(), bytes(5000), bytes(1 << 20)\n"
    "print(json.dumps([stack, hash('text'), *map(id, placed)]), flush=True)\n"
)
DIFFERENT = (0, 1 | 1 << 7 | 1 << 15)
"""Two draws that differ in all that is drawn."""


@given(
    DRAWS,
    st.dictionaries(NAMES, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200), max_size=20),
)
def test_stacks_are_filled_alike(draw: int, others: dict[str, str]) -> None:
    """Whatever other variables an arm has, its variables take as much of the stack as those of any other arm."""
    found = {**layout.variables(draw, others), **others}
    alone = layout.variables(draw, {})
    assert layout.string_bytes(found) == layout.string_bytes(alone)
    assert found[layout.VARIABLE].startswith(f"{draw:010d}:")


def test_a_variant_may_set_the_seed_of_the_hashes() -> None:
    """What the user compares is left as it is, and the stack is filled up all the same."""
    launch = Launch(("agent",), Path("/s"), Path("/t"), {"PYTHONHASHSEED": "1"}, layout=5)
    other = Launch(("agent",), Path("/s"), Path("/t"), layout=5)
    found = process.agent_variables(launch)
    assert found["PYTHONHASHSEED"] == "1"
    assert layout.string_bytes(found) == layout.string_bytes(process.agent_variables(other))


def where(name: str, draw: int | None) -> tuple[int, ...]:
    """Of a process of that draw: where its stack is, the hash of a string, where a small, a medium and a large object are."""
    with sessions.open_run() as run:
        launch = Launch((sys.executable, "-c", WHERE), run.new_session(), run.scratch, layout=draw)
        with environments.get(name).start(launch) as session, os.fdopen(os.dup(session.from_agent), "rb") as answer:
            return tuple(json.loads(answer.readline()))


def test_sessions_of_a_draw_are_alike_and_those_of_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of one draw have everything at the same addresses, and of another draw nothing; without a draw each
    process has its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert where("bare", None) != where("bare", None)  # first, so that all is compiled, which takes memory, too
    one, other = (where("bare", draw) for draw in DIFFERENT)
    assert where("bare-aa", DIFFERENT[0]) == one
    assert [a == b for a, b in zip(one, other, strict=True)] == [False] * 5
