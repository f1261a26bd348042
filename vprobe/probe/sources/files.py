"""Reads a file that the user named: a capture or a dump, recognised by what it holds."""

from __future__ import annotations

import sys
from pathlib import Path

from vprobe.errors import InvalidFileError
from vprobe.probe.raw import Raw
from vprobe.probe.sources.text import parse_text, to_text

MAXIMUM_BYTES = 64 * 1024 * 1024


def read_file(path: str) -> tuple[Raw, tuple[str, ...]]:
    """What the file recorded, and notes on what was left out. InvalidFileError, one line, for anything else."""
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as stream:
            content = stream.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise InvalidFileError(f"{path}: {error.strerror}", "name a file that can be read") from None
    if len(content) > MAXIMUM_BYTES:
        raise InvalidFileError(f"{path}: larger than {MAXIMUM_BYTES >> 20} MiB", "this is no dump of one machine")
    try:
        return _parse(content)
    except InvalidFileError as error:
        raise InvalidFileError(f"{path}: {error.message}", error.hint) from None


def _parse(content: bytes) -> tuple[Raw, tuple[str, ...]]:
    if not content.strip(b"\0 \t\r\n"):
        raise InvalidFileError("the file is empty", "capture the machine again")
    text = to_text(content)
    if text.lstrip().startswith("{"):
        from vprobe.probe.sources.capture import decode_capture  # noqa: PLC0415 - msgspec only for captures

        plain = content.removeprefix(b"\xef\xbb\xbf").strip()
        return decode_capture(plain if plain.startswith(b"{") else text.strip().encode("utf-8", "surrogatepass")), ()
    return parse_text(text)
