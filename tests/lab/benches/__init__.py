"""One file a subject; each has BENCHES. A new bench is one file here."""

from __future__ import annotations

import importlib
import pkgutil

from lab.bench import Bench


def load() -> dict[str, tuple[Bench, ...]]:
    """Subject -> its benches, in the order of their names."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").BENCHES for name in names}
