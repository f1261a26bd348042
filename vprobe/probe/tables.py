"""Loads the tables of facts in vprobe/probe/data, each at most once and only when a decoder asks for it."""

from __future__ import annotations

import json
from functools import cache
from os.path import dirname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_DATA = dirname(__file__) + "/data"  # noqa: PTH120 - pathlib would cost more than reading the tables


@cache
def table(name: str) -> Any:
    """Content of data/NAME.json. The caller must not change it."""
    with open(f"{_DATA}/{name}.json", "rb") as stream:  # noqa: PTH123 - as above
        return json.loads(stream.read())
