"""The figures of docs/statistics.md that come from sessions on a real machine."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def show(rows: dict[str, list[Row]], *, write: bool) -> int:
    """Print what there is."""
    del write
    for proof, found in rows.items():
        print(proof, len(found))
    return 0
