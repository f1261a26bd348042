"""The products and classes of virtualization, from data/products.json: the report's glossary and its column heads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from .texts import Texts

# Environments of vprobe that are a product of the table under another name.
_ENVIRONMENT_PRODUCT = {"kvm": "kvm", "qemu-kvm": "kvm", "qemu-tcg": "qemu"}


@dataclass(frozen=True)
class Product:
    """One product. `hypervisor_type`: "1", "2", or text that says why it is not so simple; None: no hypervisor."""

    id: str
    name: str
    hypervisor_type: str | None
    classes: tuple[str, ...]
    licence: str
    since: int | None
    level: str
    runs_on: tuple[str, ...]


@cache
def document() -> dict[str, Any]:
    """The whole data file."""
    loaded: dict[str, Any] = json.loads(files(__package__).joinpath("data", "products.json").read_text("utf-8"))
    return loaded


@cache
def products() -> tuple[Product, ...]:
    """Every product of the table."""
    return tuple(
        Product(
            entry["id"],
            entry["name"],
            None if entry["hypervisor_type"] is None else str(entry["hypervisor_type"]),
            tuple(entry["classes"]),
            entry["licence"],
            entry.get("since"),
            entry["level"],
            tuple(entry.get("runs_on", ())),
        )
        for entry in document()["products"]
    )


def hypervisor_type(environment: str, texts: Texts) -> Markup | None:
    """The words "type 1" or "type 2" for an environment that is a hypervisor's guest, None for the others."""
    wanted = _ENVIRONMENT_PRODUCT.get(environment)
    product = next((one for one in products() if one.id == wanted), None)
    if product is None or product.hypervisor_type is None:
        return None
    return texts("hypervisor_type", type=product.hypervisor_type[0])


@cache
def reference_results() -> dict[str, Any]:
    """Published results that the report sets beside its own, with their sources."""
    loaded: dict[str, Any] = json.loads(
        files(__package__).joinpath("data", "reference_results.json").read_text("utf-8")
    )
    return loaded
