"""A gate's rows as an OpenMetrics textfile, for the collector of Prometheus' node_exporter.

Only gauges, which OpenMetrics 1.0 and the older text format write alike, so that either parser reads the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from vprobe.analysis.exporters.escape import openmetrics_label
from vprobe.model import GateReport, GateVerdict, RuleResult

_GAUGES: tuple[tuple[str, str, Callable[[RuleResult], float | None]], ...] = (
    ("vprobe_gate_ratio", "Times slower than the base.", lambda row: row.ratio),
    ("vprobe_gate_estimate", "Estimate under an absolute limit, in the unit of the label.", lambda row: row.estimate),
    ("vprobe_gate_low", "Lower end of the 95 % interval.", lambda row: row.low),
    ("vprobe_gate_high", "Upper end of the 95 % interval.", lambda row: row.high),
    ("vprobe_gate_limit", "Limit as judged, the noise floor included.", lambda row: row.limit),
    ("vprobe_gate_p_adjusted", "p of 'at most the limit', adjusted over all rows.", lambda row: row.p_adjusted),
)


def openmetrics_text(report: GateReport, created: str) -> str:
    """The whole file. `created`: of the run, RFC 3339; left out where it is none."""
    return "\n".join(_lines(report, created)) + "\n"


def _lines(report: GateReport, created: str) -> Iterator[str]:
    yield from _family("vprobe_gate_verdict", "1 for the verdict of the whole gate, 0 for the others.")
    for verdict in GateVerdict:
        yield f'vprobe_gate_verdict{{verdict="{verdict.value}"}} {int(report.verdict == verdict)}'
    yield from _family("vprobe_gate_row_verdict", "1 for the verdict of the row, 0 for the others.")
    for row in report.rules:
        for verdict in GateVerdict:
            labels = f'{_labels(row)},verdict="{verdict.value}"'
            yield f"vprobe_gate_row_verdict{{{labels}}} {int(row.verdict == verdict)}"
    for name, explanation, value_of in _GAUGES:
        yield from _family(name, explanation)
        for row in report.rules:
            value = value_of(row)
            if value is not None:
                yield f"{name}{{{_labels(row)}}} {value!r}"
    timestamp = _timestamp(created)
    if timestamp is not None:
        yield from _family("vprobe_run_created_timestamp_seconds", "When the run was measured.")
        yield f"vprobe_run_created_timestamp_seconds {timestamp!r}"
    yield "# EOF"


def _family(name: str, explanation: str) -> Iterator[str]:
    yield f"# HELP {name} {explanation}"
    yield f"# TYPE {name} gauge"


def _labels(row: RuleResult) -> str:
    values = {
        "rule": row.rule,
        "workload": row.workload,
        "environment": row.environment,
        "arm": row.arm,
        "base": row.base or "",
        "unit": "ratio" if row.ratio is not None else row.unit,
    }
    return ",".join(f'{name}="{openmetrics_label(value)}"' for name, value in values.items())


def _timestamp(created: str) -> float | None:
    try:
        return datetime.fromisoformat(created).timestamp()
    except (ValueError, OverflowError):
        return None
