"""Fuzz the readers of text dumps: any bytes are decoded to a document, or refused in one line.

.venv/bin/python tests/fuzz/probe_text.py -max_total_time=120 -timeout=10 -rss_limit_mb=1024 tests/fuzz/seeds/probe_text
"""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["vprobe.probe"]):
    from vprobe.errors import InvalidFileError
    from vprobe.probe.decode.cpuid import Cpuid
    from vprobe.probe.decode.leaves import decode_leaves
    from vprobe.probe.report import decode
    from vprobe.probe.sources.text import format_cpuid, parse_text, to_text


def one_input(content: bytes) -> None:
    """Parse, decode, and print; what was parsed is the same when it is printed and parsed again."""
    try:
        raw, _ = parse_text(to_text(content))
    except InvalidFileError as error:
        assert "\n" not in str(error)
        return
    report = decode(raw)
    json.dumps(report.document())
    assert sum(1 for _ in decode_leaves(Cpuid(raw.leaves))) == len(raw.leaves)
    assert parse_text(format_cpuid(raw))[0].cpuid == raw.cpuid


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
