"""Fuzz the reader of captures: any bytes are decoded to a document, or refused in one line.

.venv/bin/python tests/fuzz/probe_capture.py -max_total_time=120 -timeout=10 -rss_limit_mb=1024 tests/fuzz/seeds/probe_capture
"""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["vprobe.probe"]):
    from vprobe.errors import InvalidFileError
    from vprobe.probe.report import decode
    from vprobe.probe.sources.capture import decode_capture, encode_capture


def one_input(content: bytes) -> None:
    """Decode; what was read is the same when it is written and read again."""
    try:
        raw = decode_capture(content)
    except InvalidFileError as error:
        assert "\n" not in str(error)
        return
    document = decode(raw).document()
    json.dumps(document)
    assert decode_capture(encode_capture(raw, with_identifiers=True)) == raw
    assert decode(decode_capture(encode_capture(raw))).document() == document


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
