"""Runs to report: one rich in everything that a report shows, and one whose every text is hostile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from synthetic import synthetic_run

from vprobe import reports
from vprobe.analysis import compare
from vprobe.model import Arm, EnvironmentRecord, Fingerprint, Run, Skipped, Visit
from vprobe.oracles import Agreement, OracleReport

replace = msgspec.structs.replace
ARMS = ("bare", "bare-aa", "namespaces", "runc", "gvisor", "kvm", "qemu-tcg")
EFFECTS = {
    "memory.chase[64MiB]@kvm": 1.12,
    "system.getpid@gvisor": 14.0,
    "system.fork_wait@runc": 1.08,
    "cpu.float_chain@namespaces": 0.9,
    "qemu-tcg": 9.0,
}
PROBE: dict[str, Any] = {
    "schema": "vprobe.probe/1",
    "cpu": {
        "architecture": "x86_64",
        "vendor": "AuthenticAMD",
        "brand": "AMD EPYC 9R14",
        "family": 25,
        "model": 17,
        "stepping": 1,
        "logical_cpus": 2,
        "caches": [{"level": 1, "type": "data", "size_bytes": 32768}, {"level": 2, "size_bytes": 1048576}],
        "tsc_hz": 2_600_000_000,
    },
    "virtualization": {
        "vtx": {"state": "absent", "reason": "an AMD processor has AMD-V instead", "evidence": ["CPUID 1"]},
        "amdv": {
            "state": "hidden",
            "reason": "no svm flag",
            "remedy": "nest",
            "features": {"npt": False, "nrips": True},
        },
        "sev": {"state": "hidden"},
    },
    "hypervisor": {
        "state": "present",
        "kind": "kvm",
        "role": "guest",
        "layers": [{"kind": "kvm", "class": "full-hardware", "signature": "KVMKVMKVM"}],
        "monitor": "firecracker",
    },
    "container": {"state": "absent", "kind": "none"},
    "kvm": {"state": "present", "backend": "kvm_pvm", "reason": "a VM was created", "nested": {"state": "unknown"}},
    "mitigations": {"meltdown": "Not affected", "spectre_v2": "Mitigation: Retpolines"},
}


def rich_run(seed: int = 1, **options: Any) -> Run:
    """A synthetic run with evidence, a full probe, phases of the start, an exclusion and all verdicts."""
    run = synthetic_run(seed, **{"arms": ARMS, "effects": EFFECTS, "rounds": 20} | options)
    visits = [_with_phases(visit) for visit in run.visits]
    visits[5] = replace(visits[5], excluded="the canary drifted by 6 %")
    return replace(
        run,
        probe=PROBE,
        environments=tuple(_with_evidence(record, place) for place, record in enumerate(run.environments)),
        visits=tuple(visits),
    )


def _with_evidence(record: EnvironmentRecord, place: int) -> EnvironmentRecord:
    elsewhere = 0 if record.name.startswith("bare") else 100 * place
    evidence = {
        "namespaces": {"mnt": 4026531832 + elsewhere, "pid": 4026531836 + elsewhere},
        "root": "254:2",
        "pid": place,
    }
    return replace(record, evidence=evidence)


def _with_phases(visit: Visit) -> Visit:
    if visit.workload != "lifecycle.start":
        return visit
    samples = {
        arm: replace(
            one,
            details={"engine_ns": tuple(v * 0.6 for v in one.values), "agent_ns": tuple(v * 0.4 for v in one.values)},
        )
        for arm, one in visit.samples.items()
    }
    return replace(visit, samples=samples)


def report_of(*runs: Run, language: str = "en", **options: Any) -> reports.Report:
    """The report of runs, labelled run-0.json, run-1.json …"""
    measured = [reports.Measured.of(f"run-{index}.json", run) for index, run in enumerate(runs)]
    across = [compare(run, runs[0]) for run in runs[1:]]
    return reports.prepare(measured, across, language=language, **options)


HOSTILE = (
    "<script>window.broken=1</script>",
    "\"><img src=x onerror='window.broken=1'>",
    "</script><svg onload=window.broken=1>",
    "' onmouseover='window.broken=1",
    "\0nul\0",
    "\u202egnp.exe \u2066isolate",
    "{{ 7*7 }}{% raw %}",
    "--><!--",
    "javascript:window.broken=1//",
    "]]>&lt;b&gt;",
    "x" * 1_000_000,
    "\x1b[2J\x07",
)


class _Texts:
    """A different hostile text at every call; each is marked, so that names stay distinct."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"{HOSTILE[self.count % len(HOSTILE)]}~{self.count}"


def hostile_texts() -> Callable[[], str]:
    """Another hostile text at every call."""
    return _Texts()


def hostile_run() -> Run:
    """A run in which every text that comes from a machine, a user or an engine is hostile."""
    text = _Texts()
    run = synthetic_run(3, arms=("bare", "bare-aa", "namespaces", "kvm"), rounds=6, workloads=_WORKLOADS)
    environments = {
        name: name if name.startswith("bare") else text() for name in ("bare", "bare-aa", "namespaces", "kvm")
    }
    arms = {
        arm.name: arm.name if arm.name.startswith("bare") else f"{environments[arm.name]}/{text()}" for arm in run.arms
    }
    names = {one.name: f"{one.name.partition('.')[0]}.{text()}" for one in run.workloads}
    names |= {"lifecycle.start": "lifecycle.start", "cpu.sha256": text()}
    return replace(
        run,
        created=text(),
        vprobe_version=text(),
        command=tuple(text() for _ in HOSTILE),
        probe=_hostile(PROBE, text) | {"cpu": {"brand": text(), "logical_cpus": text()}},
        fingerprint=_hostile_fingerprint(run.fingerprint, text),
        environments=tuple(_hostile_environment(one, environments, text) for one in run.environments),
        arms=tuple(Arm(arms[arm.name], environments[arm.environment], None) for arm in run.arms),
        workloads=tuple(replace(one, name=names[one.name]) for one in run.workloads),
        square=tuple(tuple(arms[name] for name in row) for row in run.square),
        visits=tuple(_hostile_visit(visit, names, arms, text, index) for index, visit in enumerate(run.visits)),
        skipped=tuple(Skipped(arms[one.arm], names[one.workload], text()) for one in run.skipped),
    )


_WORKLOADS = ("cpu.integer_chain", "cpu.sha256", "memory.triad", "system.getpid", "exits.out", "lifecycle.start")


def _hostile(value: Any, text: _Texts) -> Any:
    """The same structure with every string but states and the schema replaced."""
    if isinstance(value, Mapping):
        return {
            key: one if key in {"state", "schema"} else _hostile(one, text)
            for key, one in value.items()
        } | ({text(): text()} if "meltdown" in value or "npt" in value else {})  # fmt: skip
    if isinstance(value, list):
        return [_hostile(one, text) for one in value]
    return text() if isinstance(value, str) else value


def _hostile_fingerprint(fingerprint: Fingerprint, text: _Texts) -> Fingerprint:
    fields = {name: text() for name in ("cpu", "microcode", "kernel", "kvm_backend", "governor", "thp", "python")}
    return replace(fingerprint, **fields, engines={text(): text()}, mitigations={text(): text()})


def _hostile_environment(record: EnvironmentRecord, names: Mapping[str, str], text: _Texts) -> EnvironmentRecord:
    return replace(
        record, name=names[record.name], version=text(), evidence={text(): text(), "namespaces": {text(): text()}}
    )


def _hostile_visit(visit: Visit, names: Mapping[str, str], arms: Mapping[str, str], text: _Texts, index: int) -> Visit:
    samples = {arms[arm]: one for arm, one in visit.samples.items()}
    if visit.workload == "lifecycle.start":
        samples = {arm: replace(one, details={f"<b>{index % 2}": one.values}) for arm, one in samples.items()}
    excluded = text() if index % 17 == 3 else None
    return replace(visit, workload=names[visit.workload], samples=samples, excluded=excluded)


def oracle_report(text: Callable[[], str] | None = None) -> OracleReport:
    """Agreements of every kind: one that holds, one that does not, one with a factor as its bound, one not measured."""
    rows = (
        Agreement("cpu.sha256", "pyperf, the same call", 0.05, 1.004, 0.99, 1.02, 15, "ns", 7930.0, 7899.0),
        Agreement(
            "system.fork_exec", "hyperfine -N true", 0.2, 1.31, 1.25, 1.38, 15, "ns", 1.2e6, 0.92e6, "two CPUs there"
        ),
        Agreement("system.timer_wakeup", "cyclictest, p99", 1.0, 0.7, 0.6, 0.8, 20, "ns", 56_000.0, 80_000.0),
        Agreement("apps.redis_get", "redis-benchmark", 0.1, reason="redis-server is not installed"),
    )
    if text is not None:
        rows = tuple(replace(row, workload=text(), oracle=text(), unit=text(), reason=text()) for row in rows)
    return OracleReport(
        "2025-01-02T03:04:05Z" if text is None else text(),
        "0.1.0",
        "AMD EPYC" if text is None else text(),
        "6.18",
        rows,
    )
