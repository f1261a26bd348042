"""Writes the tables of docs/labs.md from what the benches recorded: nothing in them is by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .bench import INDEX, Bench, Row, document_of, observe
from .comparison import NOTE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "labs.md"
BEGIN, END = "<!-- written by make lab RECORD=1 -->", "<!-- end -->"
QUESTIONS = ("VT-x", "AMD-V", "reason", "controls", "KVM", "backend", "layers", "role", "container")


def write(benches: Sequence[Bench]) -> None:
    """Replace what stands between the marks of the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{render(benches)}{END}{after}")


def render(benches: Sequence[Bench]) -> str:
    """The tables, from the records and the expectations."""
    answers = [["bench", *QUESTIONS, "equal"]]
    others = [["bench", "vprobe", *_tool_names()]]
    index = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    for bench in benches:
        for view, expected in bench.views.items():
            path = bench.fixture(view)
            if path.name not in index:
                continue
            observed = observe(document_of(gzip.decompress(path.read_bytes())))
            name = f"{bench.name} {view}"
            cells = [_cell(wanted, seen) for wanted, seen in zip(expected, observed, strict=True)]
            answers.append([name, *cells, "yes" if expected == observed else "**no**"])
            said = index[path.name]["tools"]
            others.append([name, _in_short(observed), *(_plain(said.get(tool, "·")) for tool in _tool_names())])
    compared = "".join(_comparison(name, rows) for name, rows in index.get("comparisons", {}).items())
    expected = f"\n### Expected and observed\n\n{_table(answers)}\n"
    return f"{expected}### What other tools say in the same guest\n\n{_table(others)}\n{compared}"


def _comparison(name: str, rows: list[dict[str, Any]]) -> str:
    """Ratios above 1: slower with the layer."""
    table = [["workload", "ratio", "95 % interval"]]
    table += [[row["workload"], f"{row['ratio']:.2f}", f"[{row['low']:.2f}, {row['high']:.2f}]"] for row in rows]
    return f"### {name}: ratio to the same machine without it\n\n{NOTE}\n\n{_table(table)}\n"


def _tool_names() -> list[str]:
    from .tools import COMMANDS

    return list(COMMANDS)


def _cell(wanted: object, seen: object) -> str:
    return _plain(str(seen)) if wanted == seen else f"{_plain(str(wanted))}, observed {_plain(str(seen))}"


def _in_short(row: Row) -> str:
    own = next(
        (f"{name} {state}" for name, state in (("VT-x", row.vtx), ("AMD-V", row.amdv)) if state != "absent"), "neither"
    )
    return _plain(f"{own}; KVM {row.kvm}; {row.layers}")


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]) + "\n"
