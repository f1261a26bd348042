"""The frozen types that flow between the layers, and nothing else.

Only the controlling side imports this module (msgspec is not there inside environments). The types of a run file are the
file: `msgspec.json` writes them as shared schema `vprobe.run/1`. Lists in the file are tuples here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from vprobe.states import State as State
from vprobe.states import VirtClass as VirtClass


class Kind(StrEnum):
    """Who runs a workload: native machine code, Python in the agent, or a command of its own."""

    KERNEL = "kernel"
    PYTHON = "python"
    EXTERNAL = "external"


class Verdict(StrEnum):
    """What a comparison says."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"


class GateVerdict(StrEnum):
    """What a rule, or a whole gate, says."""

    PASS = "pass"  # noqa: S105 - the word of the contract, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """Base of everything that is written to a file. Unknown fields of a newer minor version are passed over."""


class Fact(Record, frozen=True):
    """One thing that the probe knows, how it knows it, and what the user may do about it."""

    state: State
    reason: str = ""
    remedy: str = ""
    evidence: tuple[str, ...] = ()


class Arm(Record, frozen=True):
    """What is measured side by side: an environment, or an environment with one variant of the user's own."""

    name: str
    environment: str
    variant: str | None = None


class EnvironmentRecord(Record, frozen=True):
    """An environment as it took part in a run. `evidence` is what its first session saw from inside.

    `virt_class` is None, and `probe` the document of its own probe, where only a look from inside tells what it is.
    """

    name: str
    virt_class: VirtClass | None = msgspec.field(name="class")
    version: str
    python_hash: str
    vprobe_hash: str
    evidence: dict[str, Any]
    probe: dict[str, Any] | None = None


class WorkloadRecord(Record, frozen=True):
    """A workload as it was measured; `name` has its parameters in brackets."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    kind: Kind
    parameters: dict[str, Any]


class Noise(Record, frozen=True):
    """What disturbed a visit. Counters are differences over the visit; `None`: this machine does not tell."""

    steal: float | None  # share of the visit's wall time, 0 to 1
    involuntary_switches: int | None
    psi_cpu: float | None  # share of the visit's wall time in which some task waited for a CPU, 0 to 1
    canary_before: float | None  # ns an iteration of a fixed integer chain on the measured CPU
    canary_after: float | None
    clocks: dict[str, float] = {}  # by arm, ns of its clock in one of the controller's, over the visit


class Samples(Record, frozen=True):
    """The blocks of one arm in one visit, in round order. Every list has one entry per round.

    `warmup_ns` is what a block takes beside its timed part: warm-up, set-up, what the workload does not time of itself; where
    operations are too long for that, it begins with one that was run before all rounds.
    """

    iterations: int
    values: tuple[float, ...]  # one operation, in the workload's unit
    inside_ns: tuple[float, ...] | None = None  # the block by the arm's own clock
    outside_ns: tuple[float, ...] | None = None  # the block by the controller's clock
    warmup_ns: tuple[float, ...] = ()
    details: dict[str, tuple[float, ...]] = {}


class Visit(Record, frozen=True):
    """One workload in one boot. `rows[i]` is the row of the run's `square` that gave round i its order."""

    boot: int
    guest_boot: int
    workload: str
    cpu: int
    rows: tuple[int, ...]
    noise: Noise
    samples: dict[str, Samples]
    excluded: str | None = None


class Skipped(Record, frozen=True):
    """An arm that could not run a workload, and why."""

    arm: str
    workload: str
    reason: str


class Fingerprint(Record, frozen=True):
    """The facts that must agree before two runs may be compared. `None`: could not be read."""

    cpu: str | None = None
    microcode: str | None = None
    kernel: str | None = None
    mitigations: dict[str, str] | None = None
    kvm_backend: str | None = None
    governor: str | None = None
    smt: str | None = None
    thp: str | None = None
    clocksource: str | None = None
    python: str | None = None
    suite_version: str | None = None
    kernel_code_hash: str | None = None
    engines: dict[str, str] = {}
    limits: dict[str, float] = {}  # of every session: "cpus", "memory_bytes"
    image: str = ""  # of the user's own, in the environments that run one


class Run(Record, frozen=True):
    """A whole run: schema vprobe.run/1."""

    created: str  # RFC 3339, UTC
    vprobe_version: str
    seed: int
    command: tuple[str, ...]
    probe: dict[str, Any]
    fingerprint: Fingerprint
    environments: tuple[EnvironmentRecord, ...]
    arms: tuple[Arm, ...]
    workloads: tuple[WorkloadRecord, ...]
    square: tuple[tuple[str, ...], ...]
    visits: tuple[Visit, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    looks: tuple[
        int, ...
    ] = ()  # boots after which an adaptive run asked whether to go on; none: their number was fixed
    pin: tuple[int, ...] = ()  # the CPUs that all arms are pinned to
    schema: Literal["vprobe.run/1"] = "vprobe.run/1"


class NoiseFloor(Record, frozen=True):
    """bare-aa against bare: what the machine alone can pretend."""

    ratio: float
    low: float
    high: float


class Comparison(Record, frozen=True):
    """One workload in one arm against its base. A ratio above 1 is slower than the base, whichever way the unit points.

    Without an arm on the base (`exits.*`) `ratio` is None, `base` is None, and `estimate` with `low` and `high` is in `unit`.
    """

    workload: str
    environment: str
    arm: str
    base: str | None
    ratio: float | None
    low: float | None
    high: float | None
    estimate: float | None
    unit: str
    confidence: float
    p: float | None
    boots: int
    rounds: int
    minimum_detectable: float | None
    verdict: Verdict | None
    reason: str = ""


class SuiteMean(Record, frozen=True):
    """Geometric mean of a suite's ratios in one arm. Whole boots are what is resampled, as in a single workload."""

    suite: str
    environment: str
    arm: str
    base: str
    ratio: float
    low: float | None
    high: float | None
    boots: int
    workloads: int


class Comparisons(Record, frozen=True):
    """What `vprobe compare --json` prints: schema vprobe.comparison/1."""

    noise_floor: dict[str, NoiseFloor]
    comparisons: tuple[Comparison, ...]
    differences: tuple[str, ...] = ()  # of the fingerprints, where two runs are compared
    suites: tuple[SuiteMean, ...] = ()
    warnings: tuple[str, ...] = ()  # what the reader must know before believing the rows
    schema: Literal["vprobe.comparison/1"] = "vprobe.comparison/1"


class RuleResult(Record, frozen=True):
    """One rule on one workload and arm."""

    rule: str
    workload: str
    environment: str
    arm: str
    ratio: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    verdict: GateVerdict
    confirmed: bool | None = None
    reason: str = ""
    base: str | None = None  # the arm; "baseline" for the stored run; None for an absolute limit
    limit: float | None = None  # as judged, the noise floor included: a ratio, or for an absolute limit in `unit`
    estimate: float | None = None  # of the arm alone, in `unit`; low and high are its interval where ratio is None
    unit: str = ""
    boots: int = 0


class GateReport(Record, frozen=True):
    """What `vprobe gate --json` prints: schema vprobe.gate/1."""

    verdict: GateVerdict
    rules: tuple[RuleResult, ...]
    reason: str = ""
    warnings: tuple[str, ...] = ()  # what the reader must know before believing the verdict
    schema: Literal["vprobe.gate/1"] = "vprobe.gate/1"
