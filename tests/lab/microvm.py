"""What lab/guest/microvm.py has to report of a micro-VM."""

from __future__ import annotations

import json

from .bench import Problems
from .guest import Answer


def script(memory_mib: int, *left_out: str) -> str:
    """Shell that runs every workload of the micro-VM that needs no more memory, and leaves out the named ones."""
    words = " ".join([str(memory_mib), *left_out])
    return f"step micro-VM\n$PYTHON $LAB/lab/microvm.py {words} > $OUT/microvm.json\n"


def problems(answer: Answer) -> Problems:
    """Every workload of the micro-VM ran, guest code was where it should be, and gave the host's results."""
    try:
        document = json.loads(answer.text("microvm.json"))
    except ValueError:
        return [f"the micro-VM did not run: {answer.text('errors').strip()[-500:]}"]
    evidence = document["evidence"]
    found = [f"{name}: {why}" for name, (how, why) in document["workloads"].items() if how == "failed"]
    found += [
        f"micro-VM: {name} is false"
        for name in ("nonce_arrived", "same_result", "hypercall_refused")
        if not evidence[name]
    ]
    skipped = [
        name for name, (how, why) in document["workloads"].items() if how == "skipped" and not why.startswith("needs")
    ]
    found += [f"{name} was skipped: {document['workloads'][name][1]}" for name in skipped if name.startswith("exits.")]
    ran = sum(how == "ran" for how, _ in document["workloads"].values())
    return found + ([f"ring {evidence['ring']}, {ran} workloads ran"] if evidence["ring"] != 3 or ran < 15 else [])
