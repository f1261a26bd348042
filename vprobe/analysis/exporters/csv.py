"""A comparison as CSV (RFC 4180): one line a row, all fields of the JSON document, numbers in full."""

from __future__ import annotations

import csv
import io

import msgspec

from vprobe.analysis.exporters import escape
from vprobe.model import Comparison, Comparisons


def csv_text(comparisons: Comparisons) -> str:
    """A header line, then one line for each workload and arm."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(Comparison.__struct_fields__)
    for row in comparisons.comparisons:
        writer.writerow([_cell(value) for value in msgspec.structs.astuple(row)])
    return out.getvalue()


def _cell(value: object) -> object:
    return escape.csv(value) if isinstance(value, str) else value
