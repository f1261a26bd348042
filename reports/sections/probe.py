"""What the machine is: CPU, layers of virtualization, KVM readiness, mitigations; several machines side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .. import machine, quantities
from ..report import Report, Section
from ..texts import Texts
from ..view import View

GLYPHS = {"present": "✓", "absent": "–", "hidden": "◌", "disabled": "✕", "unknown": "?"}
DASH = quantities.DASH
_SETTINGS = ("kernel", "microcode", "kvm_backend", "governor", "smt", "thp", "clocksource", "python")
_FEATURES = (
    ("vtx", ("virtualization", "vtx")),
    ("amdv", ("virtualization", "amdv")),
    ("hypervisor", ("hypervisor",)),
    ("container", ("container",)),
    ("kvm", ("kvm",)),
    ("nested", ("kvm", "nested")),
    ("iommu", ("virtualization", "iommu")),
    ("sev", ("virtualization", "sev")),
    ("tdx", ("virtualization", "tdx")),
    ("sgx", ("virtualization", "sgx")),
    ("confidential", ("confidential",)),
)


@dataclass(frozen=True)
class State:
    """A feature on one machine: state, glyph, and why or what to do."""

    state: str
    glyph: str
    word: Markup
    reason: str
    remedy: str
    evidence: str


@dataclass(frozen=True)
class Line:
    """One fact on every machine of the report; `differs` where they do not agree."""

    name: Markup | str
    values: tuple[object, ...]
    differs: bool


@dataclass(frozen=True)
class Layer:
    """A layer between the hardware and this process."""

    name: Markup | str
    kind: str
    class_words: Markup | None
    note: str


@dataclass(frozen=True)
class Context:
    """What probe.html shows. One entry a run in every tuple of values."""

    labels: tuple[str, ...]
    features: tuple[Line, ...]
    facts: tuple[Line, ...]
    mitigations: tuple[Line, ...]
    details: tuple[Line, ...]
    stacks: tuple[tuple[Layer, ...], ...]
    any_probe: bool


def context(report: Report) -> Context:
    """The machines of all runs."""
    views, texts = report.views, report.texts
    return Context(
        labels=tuple(view.label for view in views),
        features=tuple(_feature(views, name, path, texts) for name, path in _FEATURES),
        facts=_facts(views, texts),
        mitigations=_mitigations(views, texts),
        details=_details(views, texts),
        stacks=tuple(stack(view, texts) for view in views),
        any_probe=any("virtualization" in view.run.probe or "kvm" in view.run.probe for view in views),
    )


def state(fact: object, texts: Texts) -> State:
    """A fact of the probe; what is not there is unknown, never absent."""
    word = machine.text(fact, "state")
    word = word if word in GLYPHS else "unknown"
    return State(
        word,
        GLYPHS[word],
        texts(f"state.{word}"),
        machine.text(fact, "reason"),
        machine.text(fact, "remedy"),
        "; ".join(machine.texts_at(fact, "evidence")[:8]),
    )


def _feature(views: Sequence[View], name: str, path: tuple[str, ...], texts: Texts) -> Line:
    states = tuple(state(machine.part(view.run.probe, *path), texts) for view in views)
    return Line(texts(f"feature.{name}"), states, len({one.state for one in states}) > 1)


def _line(views: Sequence[View], name: Markup | str, value: Callable[[View], object]) -> Line:
    values = tuple(value(view) for view in views)
    return Line(name, values, len({str(one) for one in values}) > 1)


def _facts(views: Sequence[View], texts: Texts) -> tuple[Line, ...]:
    unknown = texts("unknown")

    def probed(name: str, *path: str) -> Line:
        return _line(views, texts(f"fact.{name}"), lambda view: machine.text(view.run.probe, *path) or unknown)

    def printed(name: str) -> Line:
        return _line(views, texts(f"fact.{name}"), lambda view: getattr(view.run.fingerprint, name) or unknown)

    return (
        _line(views, texts("fact.machine"), lambda view: machine.cpu_name(view, texts)),
        probed("architecture", "cpu", "architecture"),
        probed("vendor", "cpu", "vendor"),
        probed("cpus", "cpu", "logical_cpus"),
        _line(views, texts("fact.model"), lambda view: _model(view) or unknown),
        _line(views, texts("fact.caches"), lambda view: _caches(view) or unknown),
        _line(views, texts("fact.host"), lambda view: machine.host_role(view.run.probe, texts)),
        *(printed(name) for name in _SETTINGS),
        *_listed(views, texts),
        _line(views, texts("fact.engines"), lambda view: _pairs(view.run.fingerprint.engines) or DASH),
        printed("suite_version"),
        printed("kernel_code_hash"),
    )


def _listed(views: Sequence[View], texts: Texts) -> tuple[Line, ...]:
    """Facts that are lists, where any machine has one."""
    lines = (
        ("paravirtual", lambda probe: machine.texts_at(probe, "hypervisor", "paravirtual_features")),
        ("contradicted", lambda probe: machine.texts_at(probe, "container", "contradicted")),
        ("inconsistent", _inconsistent),
    )
    found = ((name, [", ".join(read(view.run.probe)) for view in views]) for name, read in lines)
    return tuple(
        Line(texts(f"fact.{name}"), tuple(value or DASH for value in values), len(set(values)) > 1)
        for name, values in found
        if any(values)
    )


def _inconsistent(probe: object) -> list[str]:
    """What is not the same on all CPUs of a machine."""
    rows = machine.part(probe, "inconsistent_cpus")
    return [machine.text(row, "what") for row in rows] if isinstance(rows, list | tuple) else []


def _model(view: View) -> str:
    cpu = machine.part(view.run.probe, "cpu")
    numbers = [machine.text(cpu, key) for key in ("family", "model", "stepping")]
    return " / ".join(numbers) if all(numbers) else ""


def _caches(view: View) -> str:
    """Caches as level, type and size, whichever of the probe's spellings is there."""
    caches = machine.part(view.run.probe, "cpu", "caches")
    if not isinstance(caches, Sequence) or isinstance(caches, str):
        return ""
    return ", ".join(filter(None, (_cache(entry) for entry in caches[:8])))


def _cache(entry: object) -> str:
    level, size = machine.text(entry, "level"), machine.part(entry, "size_bytes") or machine.part(entry, "size")
    kind = machine.text(entry, "type")
    suffix = {"data": "d", "instruction": "i"}.get(kind.lower(), "")
    shown = quantities.exact(size, "bytes") if isinstance(size, int | float) else str(size or "")
    return f"L{level}{suffix} {shown}" if level else ""


def _pairs(pairs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}".strip() for name, version in sorted(pairs.items()))


def _mitigations(views: Sequence[View], texts: Texts) -> tuple[Line, ...]:
    """The vulnerabilities that share a status, or statuses on several machines, are one line: most are "Not affected"."""
    found = [_mitigation_table(view) for view in views]
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in sorted({name for table in found for name in table}):
        alike.setdefault(tuple(table.get(name) or str(texts("unknown")) for table in found), []).append(name)
    lines = sorted(alike.items(), key=lambda pair: (len(pair[1]) > 1, pair[1]))
    return tuple(_mitigation(", ".join(names), statuses, texts, several=len(names) > 1) for statuses, names in lines)


def _mitigation(names: str, statuses: tuple[str, ...], texts: Texts, *, several: bool) -> Line:
    """The status of a vulnerability on each machine; on one machine what several have in common leads."""
    said = tuple(texts.said(status) for status in statuses)
    if several and len(said) == 1:
        return Line(said[0], (names,), False)
    return Line(names, said, len(set(statuses)) > 1)


def _mitigation_table(view: View) -> Mapping[str, str]:
    table = machine.part(view.run.probe, "mitigations")
    if isinstance(table, Mapping) and table:
        return {str(name): str(value) for name, value in table.items()}
    return view.run.fingerprint.mitigations or {}


def _details(views: Sequence[View], texts: Texts) -> tuple[Line, ...]:
    """The single features of VT-x, AMD-V and SEV that any of the machines reports."""
    found = [_named_features(view, texts) for view in views]
    names = sorted({name for table in found for name in table})
    unknown = _said("unknown", texts)
    return tuple(
        Line(name, values := tuple(table.get(name, unknown) for table in found), len(set(values)) > 1) for name in names
    )


def _said(state: str, texts: Texts) -> str:
    return f"{GLYPHS[state]} {texts(f'state.{state}')}"


def _named_features(view: View, texts: Texts) -> dict[str, str]:
    table: dict[str, str] = {}
    present, absent = _said("present", texts), _said("absent", texts)
    for technology in ("amdv", "sev"):
        features = machine.part(view.run.probe, "virtualization", technology, "features")
        for name, there in features.items() if isinstance(features, Mapping) else ():
            table[f"{technology}.{name}"] = present if there is True else absent
    controls = machine.part(view.run.probe, "virtualization", "vtx", "controls")
    for name, bits in controls.items() if isinstance(controls, Mapping) else ():
        table[f"vtx.{name}"] = present if machine.part(bits, "may_be_1") is True else absent
    fields = machine.part(view.run.probe, "virtualization", "vtx", "fields")
    for name, value in fields.items() if isinstance(fields, Mapping) else ():
        table[f"vtx.{name}"] = str(value)
    return table


def stack(view: View, texts: Texts) -> tuple[Layer, ...]:
    """The layers from this process outwards: container, hypervisors, their monitor, the platform."""
    probe = view.run.probe
    found: list[Layer] = [Layer(texts("layer.process"), "process", None, "")]
    if machine.part(probe, "container", "state") == "present":
        kind = machine.text(probe, "container", "kind")
        found.append(Layer(kind or texts("unknown"), "container", texts("class.os-level.name"), ""))
    found.append(Layer(texts("layer.kernel"), "kernel", None, view.run.fingerprint.kernel or ""))
    for layer in machine.layers(probe):
        kind, virt_class = machine.text(layer, "kind"), machine.text(layer, "class")
        found.append(
            Layer(
                texts.get(f"hypervisor.{kind}") or kind or texts("unknown"),
                "hypervisor",
                texts.get(f"class.{virt_class}.name"),
                machine.text(layer, "signature").strip(),
            )
        )
    monitor = machine.text(probe, "hypervisor", "monitor")
    if monitor:
        found.append(Layer(texts.get(f"monitor.{monitor}") or monitor, "monitor", texts("layer.monitor"), ""))
    platform = machine.text(probe, "hypervisor", "platform")
    if platform:
        found.append(Layer(platform, "platform", texts("layer.platform"), ""))
    found.append(Layer(texts("layer.hardware"), "hardware", None, str(machine.cpu_name(view, texts))))
    return tuple(found)


SECTION = Section("probe", "probe.html", context)
