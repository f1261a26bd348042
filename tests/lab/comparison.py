"""Two benches measured the same suites on the same emulated machine: what does the layer between them cost?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bench import INDEX, Problems
from .guest import Answer
from .packages import LabError

NOTE = "Emulated times are not hardware's: they show which operations a mechanism makes dear, not by how much."


@dataclass(frozen=True)
class Comparison:
    """`layered` against `plain`, two benches that send run.json.gz back.

    `dear`: workload -> the least ratio by which the mechanism must show; `same`: workloads that it must leave nearly alone.
    """

    name: str
    about: str
    plain: str
    layered: str
    dear: Mapping[str, float]
    same: tuple[str, ...]

    def write(self, answers: Mapping[str, Answer], directory: Path) -> tuple[Problems, list[dict[str, Any]]]:
        """Write both runs and the report into the directory; what is wrong, and the rows of the comparison."""
        directory.mkdir(parents=True, exist_ok=True)
        runs = []
        for label, bench in (("layered", self.layered), ("plain", self.plain)):
            content = answers[bench].files.get("run.json.gz")
            if not content:
                raise LabError(f"{bench} sent no run: {answers[bench].text('errors').strip()[-400:]}")
            runs.append(directory / f"{self.name}-{label}.json.gz")
            runs[-1].write_bytes(content)
        rows = json.loads(vprobe("compare", str(runs[0]), str(runs[1]), "--json"))["comparisons"]
        vprobe("report", *map(str, runs), "-o", str(directory / f"{self.name}.html"))
        return self.judge(rows), rows

    def judge(self, rows: list[dict[str, Any]]) -> Problems:
        """What the mechanism should have made dear and did not, and what it should have left alone and did not."""
        ratios = {row["workload"]: row["ratio"] for row in rows if row["ratio"] is not None}
        problems = [
            f"{name}: ratio {ratios.get(name)}, should be above {least}"
            for name, least in self.dear.items()
            if (ratios.get(name) or 0) < least
        ]
        return problems + [
            f"{name}: ratio {ratios.get(name)}, should be about 1"
            for name in self.same
            if not 0.5 < (ratios.get(name) or 0) < 2
        ]

    def record(self, rows: list[dict[str, Any]]) -> None:
        """Keep the rows for docs/labs.md."""
        index = json.loads(INDEX.read_text())
        kept = ("workload", "ratio", "low", "high")
        comparisons = index.setdefault("comparisons", {})
        comparisons[self.name] = [
            {name: row[name] if name == "workload" else round(row[name], 2) for name in kept}
            for row in rows
            if row["ratio"] is not None
        ]
        INDEX.write_text(json.dumps(index, indent=1) + "\n")


def vprobe(*words: str) -> str:
    """Standard output of this checkout's command."""
    done = subprocess.run([sys.executable, "-m", "vprobe", *words], capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1, 3, 4}:
        raise LabError(f"vprobe {words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
