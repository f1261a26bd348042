"""Two minutes of coverage-guided fuzzing for every parser of the probe: any input is decoded, or refused in one line.

`make fuzz` runs the same for an hour.
"""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.validation,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install .[fuzz]"
    ),
]

FUZZ = Path(__file__).parents[1] / "fuzz"
SECONDS = 120


@pytest.mark.parametrize("target", sorted(path.stem for path in FUZZ.glob("probe_*.py")))
def test_no_input_breaks_the_parser(target: str) -> None:
    """No crash, no hang, bounded memory; thousands of inputs reach hundreds of edges."""
    outcome = runpy.run_path(str(FUZZ / "run.py"))["run_target"](target, SECONDS)
    print(outcome)
    assert not outcome.failed
    assert outcome.executions > 5_000
    assert outcome.covered_edges > 300
