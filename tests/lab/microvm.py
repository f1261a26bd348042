"""What lab/guest/microvm.py has to report of a micro-VM."""

from __future__ import annotations

import json

from .bench import Problems
from .guest import Answer


def microvm(answer: Answer) -> Problems:
    """Every workload of the micro-VM ran, guest code was where it should be, and gave the host's results."""
    try:
        document = json.loads(answer.text("microvm.json"))
    except ValueError:
        return [f"the micro-VM did not run: {answer.text('errors').strip()[-500:]}"]
    evidence = document["evidence"]
    problems = [f"{name}: {why}" for name, (how, why) in document["workloads"].items() if how == "failed"]
    problems += [
        f"micro-VM: {name} is false"
        for name in ("nonce_arrived", "same_result", "hypercall_refused")
        if not evidence[name]
    ]
    skipped = [
        name for name, (how, why) in document["workloads"].items() if how == "skipped" and not why.startswith("needs")
    ]
    problems += [
        f"{name} was skipped: {document['workloads'][name][1]}" for name in skipped if name.startswith("exits.")
    ]
    ran = sum(how == "ran" for how, _ in document["workloads"].values())
    return problems + ([f"ring {evidence['ring']}, {ran} workloads ran"] if evidence["ring"] != 3 or ran < 15 else [])
