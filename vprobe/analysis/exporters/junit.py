"""A gate's rows as JUnit XML, which CI systems show as test results."""

from __future__ import annotations

from xml.etree import ElementTree

from vprobe.analysis.exporters.escape import printable
from vprobe.analysis.exporters.gate_text import judged_text
from vprobe.model import GateReport, GateVerdict, RuleResult

ELEMENTS = {GateVerdict.FAIL: "failure", GateVerdict.INCOMPARABLE: "error", GateVerdict.INCONCLUSIVE: "skipped"}
"""What each verdict but pass becomes. An inconclusive row is no failure, and no success either."""


def junit_xml(report: GateReport) -> bytes:
    """One test suite; a test case for each row, by rule. UTF-8 with an XML declaration."""
    suite = ElementTree.Element("testsuite", name="vprobe gate", tests=str(len(report.rules)))
    for verdict, element in ELEMENTS.items():
        plural = {"failure": "failures", "error": "errors", "skipped": "skipped"}[element]
        suite.set(plural, str(sum(row.verdict == verdict for row in report.rules)))
    for row in report.rules:
        _case(suite, row)
    if report.warnings:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(printable(one, 600) for one in report.warnings)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _case(suite: ElementTree.Element, row: RuleResult) -> None:
    name = printable(f"{row.workload} @ {row.arm}")
    case = ElementTree.SubElement(suite, "testcase", classname=printable(row.rule), name=name, time="0")
    if row.verdict in ELEMENTS:
        message = printable(judged_text(row), 600)
        ElementTree.SubElement(case, ELEMENTS[row.verdict], type=row.verdict.value, message=message)
