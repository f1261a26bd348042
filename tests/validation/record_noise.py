"""Turn a run of `vprobe bench --env bare` into the recorded noise that simulations draw from.

    python tests/validation/record_noise.py RUN.json tests/data/analysis/recorded_noise.json.gz

Only ln(bare-aa / bare) of each round is kept, which is what the machine pretends when nothing differs.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np

from vprobe.measure.plan import BASE, CONTROL
from vprobe.model import Run
from vprobe.runfile import load


def recorded(run: Run) -> dict[str, list[list[float]]]:
    """Workload -> boot -> round -> ln(bare-aa / bare), to four decimals."""
    found: dict[str, list[list[float]]] = {}
    for visit in sorted(run.visits, key=lambda visit: visit.boot):
        if visit.excluded is None and {BASE, CONTROL} <= set(visit.samples):
            control, base = (np.array(visit.samples[arm].values) for arm in (CONTROL, BASE))
            found.setdefault(visit.workload, []).append(np.round(np.log(control / base), 4).tolist())
    return found


def main(source: str, target: str) -> None:
    """Write the noise of a run file."""
    run = load(Path(source))
    document = {"cpu": run.fingerprint.cpu, "created": run.created, "workloads": recorded(run)}
    data = json.dumps(document, separators=(",", ":")).encode()
    Path(target).write_bytes(gzip.compress(data, mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
