"""The table of oracles: what agrees, how it is read, and that the page carries it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from vprobe import oracles, reports
from vprobe.errors import InvalidFileError
from vprobe.oracles import Agreement

from .examples import oracle_report, report_of, rich_run


@pytest.mark.parametrize(
    ("low", "high", "bound", "agrees"),
    [
        (0.98, 1.02, 0.03, True),
        (1 / 1.03, 1.03, 0.03, True),
        (0.96, 1.02, 0.03, False),
        (1.0, 1.031, 0.03, False),
        (0.5, 2.0, 1.0, True),
        (None, None, 0.03, None),
        (0.0, 1.0, 0.03, None),
    ],
)
def test_a_row_agrees_where_its_whole_interval_lies_within_the_bound(
    low: float | None, high: float | None, bound: float, agrees: bool | None
) -> None:
    """The bound is a ratio, the same on both sides; what was not measured neither agrees nor disagrees."""
    assert Agreement("w", "o", bound, low, low, high).agrees is agrees


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Round trip; what is no such file is refused in one line."""
    path = tmp_path / "oracles.json"
    oracles.save(oracle_report(), path)
    assert oracles.load(path) == oracle_report()
    for data in (b"", b"{}", b"[1]", b'{"schema": "vprobe.run/1"}', b"\xff"):
        path.write_bytes(data)
        with pytest.raises(InvalidFileError, match="not a table of oracles"):
            oracles.load(path)
    with pytest.raises(InvalidFileError, match="cannot be read"):
        oracles.load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("language", "words"), [("en", "2 of 3 measured rows agree"), ("zh-CN", "已测 3 行，其中 2 行一致")]
)
def test_the_page_shows_every_row_and_carries_the_table(language: str, words: str) -> None:
    """What was measured is counted, what was not says why, and the table comes out again; without one there is no section."""
    page = reports.html(report_of(rich_run(rounds=4), oracles=oracle_report(), language=language))
    section = page.partition('<section id="oracles"')[2].partition("</section>")[0]
    assert words in section
    for text in ("hyperfine -N true", "two CPUs there", "1.310×", "±20", "2×", "redis-server"):
        assert text in section
    data = reports.extract_oracles(page)
    assert data is not None
    assert msgspec.json.decode(data, type=oracles.OracleReport) == oracle_report()
    without = reports.html(report_of(rich_run(rounds=4), language=language))
    assert 'id="oracles"' not in without
    assert reports.extract_oracles(without) is None
