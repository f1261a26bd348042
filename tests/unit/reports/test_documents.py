"""The tables that are put into docs/."""

from __future__ import annotations

from pathlib import Path

import pytest
from validation import documents

from .examples import oracle_report


def test_a_table_replaces_what_stands_between_its_markers(tmp_path: Path) -> None:
    """What is before and behind them stays, and the other markers' text does; a document without them is refused."""
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n")
    for _ in range(2):
        documents.put(page, "x", "new")
        assert page.read_text() == "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n"
    with pytest.raises(ValueError, match="not enough values"):
        documents.put(page, "y", "new")


def test_each_agreement_is_a_row() -> None:
    """Rows that were not measured are kept, and each reason is said."""
    report = oracle_report()
    text = "\n".join(documents.agreements(report))
    for row in report.rows:
        assert f"| {row.workload} | {row.oracle} |" in text
        assert row.reason in text


@pytest.mark.parametrize(("document", "name"), [("oracles.md", "oracles"), ("suites.md", "study")])
def test_documents_have_their_markers(document: str, name: str) -> None:
    """What `make study` and the table of oracles are put between."""
    text = (documents.DOCS / document).read_text()
    assert text.count(documents.BEGIN.format(name=name)) == text.count(documents.END.format(name=name)) == 1
