"""The run inside the page."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from synthetic import synthetic_run
from vprobe.reports import embedded

from vprobe import reports, runfile
from vprobe.errors import InvalidFileError
from vprobe.model import Run

from .examples import report_of, rich_run


def test_a_small_run_comes_out_of_the_page_whole() -> None:
    """What --extract writes is the run that the report was made from, to the last sample."""
    run = rich_run(rounds=5)
    (data,) = reports.extract(reports.html(report_of(run)))
    assert msgspec.json.decode(data, type=Run) == run


def test_several_runs_come_out_in_order() -> None:
    """A report of two runs carries both."""
    runs = [rich_run(1, rounds=4), rich_run(2, rounds=4)]
    found = [msgspec.json.decode(data, type=Run) for data in reports.extract(reports.html(report_of(*runs)))]
    assert [run.created for run in found] == [run.created for run in runs]


def test_a_large_run_is_thinned_within_its_budget_and_stays_a_run_file(tmp_path: Path) -> None:
    """Over the budget, times of blocks go first, then rounds; the rest is still a valid run with the same medians."""
    run = synthetic_run(1, boots=12, rounds=80)
    found = embedded.embed(run, 60_000)
    assert found.compressed_bytes <= 60_000
    assert not found.whole
    assert found.rounds_kept > 1
    page = f'<script type="application/gzip" id="run-0">{found.base64}</script>'
    (tmp_path / "run.json").write_bytes(reports.extract(page)[0])
    kept = runfile.load(tmp_path / "run.json")
    whole = np.median(run.visits[0].samples["bare"].values)
    assert len(kept.visits) == len(run.visits)
    assert np.median(kept.visits[0].samples["bare"].values) == pytest.approx(whole, rel=0.05)


def test_times_of_blocks_go_before_any_sample_does() -> None:
    """In between, every value is kept."""
    run = synthetic_run(1, boots=9, rounds=40)
    found = embedded.embed(run, 150_000)
    kept = json.loads(reports.extract(f'<script type="application/gzip" id="run-0">{found.base64}</script>')[0])
    assert (found.rounds_kept, found.timings) == (1, False)
    assert len(kept["visits"][0]["samples"]["bare"]["values"]) == 40
    assert kept["visits"][0]["samples"]["bare"]["inside_ns"] is None


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>no run</html>",
        '<script type="application/gzip" id="run-0">AAAA</script>',
        '<script type="application/gzip" id="run-0">AAA</script>',
        f'<script type="application/gzip" id="run-0">{base64.b64encode(embedded.gzip.compress(b"{}")[:-9]).decode()}</script>',
    ],
)
def test_a_file_without_a_sound_run_is_an_error_in_one_line(page: str) -> None:
    """Nothing embedded, not gzip, not base64, cut short."""
    with pytest.raises(InvalidFileError) as caught:
        reports.extract(page)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
