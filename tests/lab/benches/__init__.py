"""One file a subject; each has BENCHES. A new bench is one file here."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from lab.bench import Bench
from lab.comparison import Comparison


def comparisons() -> list[Comparison]:
    """What is compared between two benches, of every subject that has COMPARISONS."""
    return [comparison for module in _modules().values() for comparison in getattr(module, "COMPARISONS", ())]


def load() -> dict[str, tuple[Bench, ...]]:
    """Subject -> its benches, in the order of their names."""
    return {name: module.BENCHES for name, module in _modules().items()}


def _modules() -> dict[str, ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
