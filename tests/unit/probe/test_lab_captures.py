"""What virtual test benches (tests/lab) read of real AMD-V, VT-x and Xen is decoded again, without the machines."""

from __future__ import annotations

import gzip
import json

import pytest
from lab import document
from lab.bench import DATA, INDEX, Bench, disagreements, document_of
from lab.benches import load

BENCHES = [bench for benches in load().values() for bench in benches]
VIEWS = [pytest.param(bench, view, id=f"{bench.name}.{view}") for bench in BENCHES for view in bench.views]


@pytest.mark.parametrize(("bench", "view"), VIEWS)
def test_a_capture_answers_as_expected(bench: Bench, view: str) -> None:
    """Every question of the table in docs/labs.md, and the bench's further facts."""
    recorded = document_of(gzip.decompress(bench.fixture(view).read_bytes()))
    assert disagreements(bench, view, recorded) == []


def test_every_record_belongs_to_a_bench() -> None:
    """No capture lies about that no bench makes, and each has the command that made it."""
    wanted = {bench.fixture(view).name for bench in BENCHES for view in bench.views}
    assert {path.name for path in DATA.glob("*.json.gz")} == wanted
    assert set(json.loads(INDEX.read_text())) - {"comparisons"} == wanted


def test_the_page_shows_what_was_recorded() -> None:
    """docs/labs.md is what the records and the expectations give."""
    assert document.render(BENCHES) in document.PAGE.read_text()
