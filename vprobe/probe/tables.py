"""Loads the tables of facts in vprobe/probe/data, each at most once and only when a decoder asks for it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data"


@cache
def table(name: str) -> Any:
    """Content of data/NAME.json. The caller must not change it."""
    return json.loads((_DATA / f"{name}.json").read_bytes())
