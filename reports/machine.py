"""What the probe's document (schema vprobe.probe/1) says, taken with care: any part may be missing or of the wrong type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from .texts import Texts
from .view import View


def part(document: object, *path: str) -> Any:
    """The value at a path of keys, or None."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def text(document: object, *path: str) -> str:
    """The text or number at a path, or ""."""
    value = part(document, *path)
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def texts_at(document: object, *path: str) -> list[str]:
    """The strings of the list at a path, or of the string there."""
    value = part(document, *path)
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Sequence):
        return []
    return [str(entry) for entry in value if isinstance(entry, str | int | float)]


def layers(probe: object) -> list[Mapping[str, Any]]:
    """The hypervisor layers that show, outermost last as the probe gives them."""
    value = part(probe, "hypervisor", "layers")
    return [layer for layer in value if isinstance(layer, Mapping)] if isinstance(value, Sequence) else []


def cpu_name(view: View, texts: Texts) -> str | Markup:
    """Brand of the CPU, or the fingerprint's identity of it."""
    return text(view.run.probe, "cpu", "brand").strip() or view.run.fingerprint.cpu or texts("unknown")


def kernel_name(view: View, texts: Texts) -> str | Markup:
    """The kernel's release."""
    return view.run.fingerprint.kernel or texts("unknown")


def clock_hertz(probe: object) -> float | None:
    """Frequency of the time-stamp counter where the probe knows it: what turns ns into cycles."""
    for path in (("cpu", "tsc_hz"), ("cpu", "tsc_hertz"), ("cpu", "frequency", "tsc_hz")):
        value = part(probe, *path)
        if isinstance(value, int | float) and not isinstance(value, bool) and 1e8 < value < 1e11:
            return float(value)
    return None


def host_role(probe: object, texts: Texts) -> Markup:
    """What `bare` means on this machine: bare metal, or a guest, or a container, or both."""
    parts = []
    container = text(probe, "container", "kind")
    if part(probe, "container", "state") == "present" and container and container != "none":
        parts.append(texts("host.container", kind=container))
    if part(probe, "hypervisor", "state") == "present":
        parts.append(_guest(probe, texts))
    if parts:
        return texts("host.within").join(parts)
    known = part(probe, "hypervisor", "state") == "absent"
    return texts("host.bare_metal" if known else "host.unknown")


def host_note(probe: object, texts: Texts) -> Markup | None:
    """What stands beside the word bare in tables; None where this is bare metal or not known."""
    states = (part(probe, "container", "state"), part(probe, "hypervisor", "state"))
    return host_role(probe, texts) if "present" in states else None


def _guest(probe: object, texts: Texts) -> Markup:
    kind = text(probe, "hypervisor", "kind") or str(texts("unknown"))
    monitor = text(probe, "hypervisor", "monitor")
    role = text(probe, "hypervisor", "role")
    name = texts.get(f"hypervisor.{kind}") or kind
    if role in {"root", "dom0"}:
        return texts("host.root", kind=name)
    if monitor:
        return texts("host.guest_monitor", kind=name, monitor=texts.get(f"monitor.{monitor}") or monitor)
    return texts("host.guest", kind=name)
