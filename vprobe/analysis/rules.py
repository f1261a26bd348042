"""The rules of the gate: `GLOB@ENV[:pNN]<=LIMIT[ vs BASE]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vprobe.errors import UsageError
from vprobe.measure.plan import BASE, matches
from vprobe.model import Arm

FORM = "GLOB@ENV[:pNN]<=LIMIT[ vs BASE], for example 'memory.*@kvm<=15%' or 'lifecycle.start@runc:p95<=80ms'"

_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
UNITS = {**{name: ("ns", factor) for name, factor in _NS.items()}, **{n: ("bytes", f) for n, f in _BYTES.items()}}
"""Units of absolute limits: the workload's unit that they apply to, and how many of it they are."""

_PERCENTILE = re.compile(r"(?P<environment>.+):p(?P<percentile>\d{1,2}(\.\d+)?)")
_LIMIT = re.compile(r"(?P<number>\d+(\.\d+)?|\.\d+)\s*(?P<unit>%|[A-Za-zµμ]+)")
_BASE = re.compile(r"(?P<limit>.*?)\s+vs\s+(?P<base>\S(.*\S)?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """One rule. Exactly one of `share` (of the base, 0.15 for 15 %) and `absolute` (in `unit`) is there."""

    text: str
    workloads: str
    environment: str
    percentile: float | None = None
    share: float | None = None
    absolute: float | None = None
    unit: str = ""
    base: str = BASE

    def takes_workload(self, name: str) -> bool:
        """Whether the rule's glob names a workload."""
        return matches(name, self.workloads)

    def takes_arm(self, arm: Arm) -> bool:
        """Whether the rule's environment, a glob, names an arm's environment or the arm itself."""
        return matches(arm.environment, self.environment) or matches(arm.name, self.environment)

    def names(self, arm: Arm) -> bool:
        """Whether the rule names an arm outright, without a wild character."""
        return self.environment in (arm.environment, arm.name)


def parse_rule(text: str) -> Rule:
    """A rule from its text, split at the first @ and the last <=. UsageError says what is wrong with it."""
    subject, separator, rest = text.rpartition("<=")
    workloads, at, place = subject.partition("@")
    workloads, place = workloads.strip(), place.strip()
    if not separator or not at or not workloads or not place:
        raise UsageError(f"{text!r} is not a rule", f"a rule is {FORM}")
    found = _PERCENTILE.fullmatch(place)
    environment, percentile = (found["environment"], float(found["percentile"])) if found else (place, None)
    with_base = _BASE.fullmatch(rest)
    limit, base = (with_base["limit"], with_base["base"]) if with_base else (rest, None)
    share, absolute, unit = _parse_limit(text, limit.strip())
    if base is not None and share is None:
        raise UsageError(f"{text!r}: a limit of {limit.strip()} has no base", "leave ' vs …' out, or give a percentage")
    return Rule(text, workloads, environment, percentile, share, absolute, unit, base or BASE)


def _parse_limit(text: str, limit: str) -> tuple[float | None, float | None, str]:
    """Share, absolute limit, and the unit of the latter."""
    found = _LIMIT.fullmatch(limit)
    if not found:
        raise UsageError(f"{text!r}: {limit!r} is not a limit", "a limit is a percentage such as 15%, or 80ms, 10MiB")
    number, unit = float(found["number"]), found["unit"]
    if unit == "%":
        return number / 100, None, ""
    if unit not in UNITS:
        raise UsageError(f"{text!r}: unknown unit {unit!r}", f"the units are % {' '.join(UNITS)}")
    name, factor = UNITS[unit]
    return None, number * factor, name
