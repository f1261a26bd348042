"""May two runs be compared? The facts that must agree, and in plain words those that do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from vprobe.errors import UsageError
from vprobe.model import Fingerprint, WorkloadRecord

LABELS = {
    "cpu": "CPU",
    "microcode": "microcode",
    "kernel": "kernel",
    "mitigations": "mitigations",
    "kvm_backend": "KVM backend",
    "governor": "frequency governor",
    "smt": "SMT",
    "thp": "transparent huge pages",
    "clocksource": "clock source",
    "python": "Python",
    "suite_version": "version of the suites",
    "kernel_code_hash": "code of the kernels",
    "engines": "version of",
    "limits": "limits",
    "image": "image",
}
"""Fields of the fingerprint, which are also what --across names, in words."""

SHOWN_CHARACTERS = 100


def parse_across(text: str) -> frozenset[str]:
    """Facts that may differ, separated by commas. UsageError for a name that is none."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    check_across(names)
    return names


def check_across(names: Iterable[str]) -> None:
    """UsageError for a name that is no fact of a fingerprint."""
    for name in sorted(set(names) - LABELS.keys()):
        raise UsageError(f"{name!r} is not a fact that may differ", f"--across takes {', '.join(LABELS)}")


def differences(here: Fingerprint, there: Fingerprint, across: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """One sentence for each fact that differs and is not in `across`.

    A fact that could be read in only one of the runs differs: it is not known to be the same. Of the engines only those
    that both runs used are compared; where one run lacks an environment there is nothing to compare anyway.
    """
    return tuple(sentence for name in LABELS if name not in across for sentence in _field(name, here, there))


def _field(name: str, here: Fingerprint, there: Fingerprint) -> Iterator[str]:
    mine, theirs = getattr(here, name), getattr(there, name)
    label = LABELS[name]
    if name == "engines":
        both = [engine for engine in mine if engine in theirs]
        yield from (_sentence(f"{label} {one}", mine[one], theirs[one]) for one in both if mine[one] != theirs[one])
    elif name == "mitigations" and mine is not None and theirs is not None:
        names = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        yield from (_sentence(f"mitigation of {key}", mine.get(key), theirs.get(key)) for key in names)
    elif mine != theirs:
        yield _sentence(label, mine, theirs)


def _sentence(label: str, here: object, there: object) -> str:
    return f"{label}: {_shown(here)} here, {_shown(there)} there"


def _shown(value: object) -> str:
    if value is None:
        return "not known"
    text = f"{len(value)} known" if isinstance(value, dict) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def workload_differences(here: WorkloadRecord, there: WorkloadRecord) -> str:
    """In what two workloads of the same name differ, "" for nothing."""
    fields = [name for name in ("unit", "better", "kind") if getattr(here, name) != getattr(there, name)]
    sentences = [_sentence(name, str(getattr(here, name)), str(getattr(there, name))) for name in fields]
    if here.parameters != there.parameters:
        mine, theirs = (msgspec.json.encode(one.parameters, order="sorted").decode() for one in (here, there))
        sentences.append(_sentence("parameters", mine, theirs))
    return "; ".join(sentences)
