"""The renderer of reports, its sections and its templates.

Pure: the same runs and comparisons give the same bytes. No clock, no chance, no network.
"""

from __future__ import annotations

from collections.abc import Sequence

from vprobe.model import Comparisons, GateReport
from vprobe.oracles import OracleReport

from .chart import CHARTS as CHARTS
from .embedded import extract as extract
from .embedded import extract_oracles as extract_oracles
from .markdown import markdown as markdown
from .page import html as html
from .report import Measured as Measured
from .report import Report as Report
from .texts import LANGUAGES as LANGUAGES
from .texts import texts


def prepare(
    measured: Sequence[Measured],
    across: Sequence[Comparisons] = (),
    gate: GateReport | None = None,
    *,
    oracles: OracleReport | None = None,
    language: str = "en",
) -> Report:
    """What html(), markdown() and the charts make a report of.

    `across[i]` is the comparison of run i + 1 with the first run; `gate` judges the first; `oracles` is shown with the
    evidence. UsageError where there is no such
    language.
    """
    return Report(tuple(measured), texts(language), gate, tuple(across), oracles)
