"""The run inside the page: gzip in base64, so that the report carries what it was made from, and how it comes out again."""

from __future__ import annotations

import base64
import binascii
import gzip
import math
import re
import zlib
from dataclasses import dataclass

import msgspec

from vprobe.errors import InvalidFileError
from vprobe.model import Run, Samples, Visit

BYTES_A_VALUE, BYTES_A_TIMING, BYTES_AN_OBJECT = 4.3, 3.6, 7.0
"""What a sample of seven digits takes compressed, what any number of a whole run does, and the names around the samples."""
MOST_STEP = 1000
MAXIMUM_BYTES = 1 << 30
"""Of a run that is taken out of a page."""

_ORACLES = re.compile(r'<script type="application/gzip" id="oracles-data"[^>]*>([A-Za-z0-9+/=\s]*)</script>')
_ELEMENT = re.compile(r'<script type="application/gzip" id="run-\d+"[^>]*>([A-Za-z0-9+/=\s]*)</script>')


@dataclass(frozen=True)
class Embedded:
    """A run as it stands in the page. `rounds_kept`: one round in so many; `timings`: block times are there, too."""

    base64: str
    compressed_bytes: int
    rounds_kept: int
    timings: bool

    @property
    def whole(self) -> bool:
        """Whether this is the run file itself, nothing left out."""
        return self.timings and self.rounds_kept == 1


def embed(run: Run, budget_bytes: int) -> Embedded:
    """The run, compressed; where it does not fit, first without the times of blocks, then with fewer rounds."""
    values, timings, objects = _numbers(run)
    if (values + timings) * BYTES_A_TIMING <= budget_bytes * 1.1:
        found = _pack(run, 1, timings=True)
        if found.compressed_bytes <= budget_bytes:
            return found
    room = max(budget_bytes * 0.97 - objects * BYTES_AN_OBJECT, budget_bytes * 0.05)
    step = max(1, math.ceil(values * BYTES_A_VALUE / room))
    while True:
        found = _pack(thinned(run, step), step, timings=False)
        if found.compressed_bytes <= budget_bytes or step >= MOST_STEP:
            return found
        step = max(step + 1, round(step * found.compressed_bytes / budget_bytes))


def _numbers(run: Run) -> tuple[int, int, int]:
    """How many values a run has, how many other numbers, and how many lists of samples."""
    values = timings = objects = 0
    for visit in run.visits:
        for samples in visit.samples.values():
            objects += 1
            values += len(samples.values)
            timings += len(samples.inside_ns or ()) + len(samples.outside_ns or ()) + len(samples.warmup_ns)
            timings += sum(len(found) for found in samples.details.values())
    return values, timings, objects


def _pack(run: Run, step: int, *, timings: bool) -> Embedded:
    packed = gzip.compress(msgspec.json.encode(run), 6, mtime=0)
    return Embedded(base64.b64encode(packed).decode(), len(packed), step, timings)


def thinned(run: Run, step: int) -> Run:
    """The run without the times of blocks, and of every visit one round in `step` (at least one)."""
    return msgspec.structs.replace(run, visits=tuple(_thin_visit(visit, step) for visit in run.visits))


def _thin_visit(visit: Visit, step: int) -> Visit:
    samples = {arm: _thin_samples(one, step) for arm, one in visit.samples.items()}
    return msgspec.structs.replace(visit, rows=visit.rows[::step], samples=samples)


def _thin_samples(samples: Samples, step: int) -> Samples:
    return Samples(
        iterations=samples.iterations,
        values=samples.values[::step],
        details={name: found[::step] for name, found in samples.details.items()},
    )


def extract(page: str) -> list[bytes]:
    """The run files (JSON) that a page carries. InvalidFileError where there is none or it is damaged."""
    found = [_unpack(element) for element in _ELEMENT.findall(page)]
    if not found:
        raise InvalidFileError("no run is embedded in this file", "name an HTML file that vprobe report wrote")
    return found


def extract_oracles(page: str) -> bytes | None:
    """The table of oracles (JSON) that a page carries, if it does. InvalidFileError where it is damaged."""
    found = _ORACLES.search(page)
    return None if found is None else _unpack(found[1])


def packed(document: object) -> str:
    """A document as JSON, compressed, in base64; equal documents give equal texts."""
    return base64.b64encode(gzip.compress(msgspec.json.encode(document), 6, mtime=0)).decode()


def _unpack(text: str) -> bytes:
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        data = inflater.decompress(base64.b64decode(text, validate=True), MAXIMUM_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InvalidFileError(f"the run in this file is damaged: {error}", "ask for the run file itself") from None
    if not inflater.eof:
        raise InvalidFileError("the run in this file is damaged: it ends early", "ask for the run file itself")
    return data
