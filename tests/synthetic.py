"""Synthetic runs for tests: known effects under known noise, without measuring anything.

The model of a value, in round r of boot b, for one workload and arm:

    ln value = ln centre + ln effect(arm) + drift(arm)·(b / boots − ½) + common[b, r] + boot[b, arm] + round[b, r, arm]

`common` is what disturbs all arms of a round alike (it cancels in the ratio); `boot` is drawn once a boot and arm, with
optional lag-1 correlation between boots; `round` is drawn for every block. Everything follows from the seed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from vprobe.model import (
    Arm,
    EnvironmentRecord,
    Fingerprint,
    Kind,
    Noise,
    Run,
    Samples,
    Skipped,
    VirtClass,
    Visit,
    WorkloadRecord,
)

# Name -> unit, better, kind, centre of one operation on bare, in the unit.
CATALOG: dict[str, tuple[str, str, Kind, float]] = {
    "cpu.integer_chain": ("ns", "lower", Kind.KERNEL, 1.25),
    "cpu.float_chain": ("ns", "lower", Kind.KERNEL, 1.6),
    "cpu.sha256": ("ns", "lower", Kind.PYTHON, 8_400.0),
    "cpu.zlib": ("ns", "lower", Kind.PYTHON, 61_000.0),
    "memory.chase[l1]": ("ns", "lower", Kind.KERNEL, 1.55),
    "memory.chase[l2]": ("ns", "lower", Kind.KERNEL, 4.6),
    "memory.chase[64MiB]": ("ns", "lower", Kind.KERNEL, 104.0),
    "memory.triad": ("B/s", "higher", Kind.KERNEL, 1.1e10),
    "system.getpid": ("ns", "lower", Kind.KERNEL, 118.0),
    "system.fork_wait": ("ns", "lower", Kind.KERNEL, 240_000.0),
    "exits.out": ("ns", "lower", Kind.KERNEL, 43_000.0),
    "exits.cpuid": ("ns", "lower", Kind.KERNEL, 9_500.0),
    "lifecycle.start": ("ns", "lower", Kind.PYTHON, 42e6),
}
ARMS = ("bare", "bare-aa", "namespaces", "runc", "kvm")
CLASSES = {
    "runc": VirtClass.OS_LEVEL,
    "crun": VirtClass.OS_LEVEL,
    "namespaces": VirtClass.OS_LEVEL,
    "kvm": VirtClass.FULL_HARDWARE,
    "qemu-kvm": VirtClass.FULL_HARDWARE,
    "qemu-tcg": VirtClass.FULL_SOFTWARE,
    "gvisor": VirtClass.USER_SPACE_KERNEL,
}
BLOCK_NS = 500_000.0


def synthetic_run(
    seed: int = 1,
    *,
    boots: int = 9,
    rounds: int = 40,
    arms: Sequence[str] = ARMS,
    workloads: Sequence[str] = tuple(CATALOG),
    effects: Mapping[str, float] | None = None,
    drift: Mapping[str, float] | None = None,
    sigma_boot: float = 0.005,
    sigma_round: float = 0.02,
    sigma_common: float = 0.03,
    correlation: float = 0.0,
    blocks: bool = True,
    created: datetime = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
) -> Run:
    """A whole run.

    `arms`: names, "ENV" or "ENV/VARIANT"; "bare-aa" repeats the first variant of bare. `workloads`: names of CATALOG, or
    any other name (a kernel of 100 ns). `effects`: how many times slower an arm is, whichever way the unit points; keys
    are "ARM" or "WORKLOAD@ARM" (which wins). `drift`: keys alike; ln(ratio) gained from the first boot to the last.
    `exits.*` exist only in environment kvm, `lifecycle.*` not in bare. `blocks=False` leaves inside_ns, outside_ns and
    warmup_ns out.
    """
    records = tuple(arm_record(name, arms) for name in arms)
    model = _Model(effects or {}, drift or {}, boots, rounds, sigma_boot, sigma_round, sigma_common, correlation)
    square = williams_square([arm.name for arm in records])
    visits: list[Visit] = []
    for workload in workloads:
        supported = [arm for arm in records if supports(arm, workload)]
        random = np.random.default_rng([seed, zlib.crc32(workload.encode())])
        values = model.values(random, workload, supported)
        for boot in range(boots):
            rows = tuple(int(row) for row in random.integers(0, len(square), rounds))
            samples = {arm.name: _samples(random, values[arm.name][boot], blocks) for arm in supported}
            visits.append(Visit(boot, boot // 4, workload, 1, rows, _noise(random), samples))
    return Run(
        created=(created + timedelta(seconds=seed)).isoformat().replace("+00:00", "Z"),
        vprobe_version="0.1.0",
        seed=seed,
        command=("vprobe", "bench"),
        probe={"schema": "vprobe.probe/1", "cpu": {"brand": "Synthetic CPU", "logical_cpus": 2}},
        fingerprint=FINGERPRINT,
        environments=tuple(_environment(name) for name in dict.fromkeys(arm.environment for arm in records)),
        arms=records,
        workloads=tuple(_workload(name) for name in workloads),
        square=square,
        visits=tuple(sorted(visits, key=lambda visit: visit.boot)),
        skipped=tuple(
            Skipped(arm.name, workload, "this environment does not have it")
            for workload in workloads
            for arm in records
            if not supports(arm, workload)
        ),
    )


FINGERPRINT = Fingerprint(
    cpu="AuthenticAMD family 25 model 1 stepping 1",
    microcode="0xa0011d1",
    kernel="6.1.0-18-amd64",
    mitigations={"spectre_v2": "Mitigation: Retpolines", "meltdown": "Not affected"},
    kvm_backend="kvm_amd",
    governor="performance",
    smt="off",
    thp="madvise",
    clocksource="tsc",
    python="3.11.2",
    suite_version="1",
    kernel_code_hash="5f2b7c9d",
    engines={"runc": "1.1.5"},
    limits={"cpus": 1.0},
    image="debian:12",
)


def arm_record(name: str, arms: Sequence[str]) -> Arm:
    """The arm of that name; bare-aa takes the first variant of bare, if bare has variants."""
    environment, _, variant = name.partition("/")
    if environment == "bare-aa":
        first = next((other for other in arms if other.startswith("bare/")), "")
        variant = first.partition("/")[2]
    return Arm(name, environment, variant or None)


def supports(arm: Arm, workload: str) -> bool:
    """Whether the synthetic environment has that workload."""
    if workload.startswith("exits."):
        return arm.environment == "kvm"
    return not (workload.startswith("lifecycle.") and arm.environment in {"bare", "bare-aa"})


def williams_square(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Orders in which each arm follows each other arm equally often (two squares where the number is odd)."""
    n = len(names)
    first = [0]
    for step in range(1, n):
        first.append((first[-1] + (step if step % 2 else -step)) % n)
    rows = [[(column + shift) % n for column in first] for shift in range(n)]
    if n % 2:
        rows += [row[::-1] for row in rows]
    return tuple(tuple(names[index] for index in row) for row in rows)


def _keyed(table: Mapping[str, float], workload: str, arm: str, default: float) -> float:
    return table.get(f"{workload}@{arm}", table.get(arm, default))


@dataclass(frozen=True)
class _Model:
    """The parameters of synthetic_run() that make values."""

    effects: Mapping[str, float]
    drift: Mapping[str, float]
    boots: int
    rounds: int
    sigma_boot: float
    sigma_round: float
    sigma_common: float
    correlation: float

    def boot_noise(self, random: np.random.Generator) -> np.ndarray:
        """Stationary AR(1) noise of standard deviation sigma_boot, one value a boot."""
        noise = random.normal(0.0, self.sigma_boot, self.boots)
        for boot in range(1, self.boots):
            noise[boot] = self.correlation * noise[boot - 1] + np.sqrt(1 - self.correlation**2) * noise[boot]
        return noise

    def values(self, random: np.random.Generator, workload: str, arms: Sequence[Arm]) -> dict[str, np.ndarray]:
        """Values of every arm, shape (boots, rounds), in the workload's unit."""
        _, better, _, centre = CATALOG.get(workload, ("ns", "lower", Kind.KERNEL, 100.0))
        common = random.normal(0.0, self.sigma_common, (self.boots, self.rounds))
        ramp = (np.arange(self.boots) + 0.5) / self.boots - 0.5
        values = {}
        for arm in arms:
            slower = np.log(_keyed(self.effects, workload, arm.name, 1.0))
            slower = slower + _keyed(self.drift, workload, arm.name, 0.0) * ramp + self.boot_noise(random)
            log = common + slower[:, None] + random.normal(0.0, self.sigma_round, (self.boots, self.rounds))
            values[arm.name] = centre * np.exp(log if better == "lower" else -log)
        return values


def _samples(random: np.random.Generator, values: np.ndarray, blocks: bool) -> Samples:
    """Blocks of half a millisecond that give these values, with figures as short as the engine writes them."""
    rounded = tuple(float(f"{value:.7g}") for value in values)
    if not blocks:
        return Samples(iterations=1, values=rounded)
    inside = np.round(BLOCK_NS * values / np.median(values))
    outside = inside + np.round(random.uniform(20_000, 60_000, len(values)))
    return Samples(
        iterations=max(1, int(BLOCK_NS / float(np.median(values)))),
        values=rounded,
        inside_ns=tuple(inside.tolist()),
        outside_ns=tuple(outside.tolist()),
        warmup_ns=tuple(np.round(inside / 5).tolist()),
    )


def _noise(random: np.random.Generator) -> Noise:
    before, after = (round(float(value), 5) for value in 0.3 * np.exp(random.normal(0.0, 0.005, 2)))
    return Noise(0.001, int(random.integers(0, 9)), 0.01, before, after)


def _workload(name: str) -> WorkloadRecord:
    unit, better, kind, _ = CATALOG.get(name, ("ns", "lower", Kind.KERNEL, 100.0))
    return WorkloadRecord(name, unit, "higher" if better == "higher" else "lower", kind, {})


def _environment(name: str) -> EnvironmentRecord:
    version = FINGERPRINT.engines.get(name, "")
    return EnvironmentRecord(
        name, CLASSES.get(name, VirtClass.NONE), version, "a1" * 32, "b2" * 32, {"pid_namespace": name}
    )
