"""Loads the tables of facts in vprobe/probe/data, each at most once and only when a decoder asks for it."""

from __future__ import annotations

import json
from functools import cache
from os.path import dirname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_READ = __spec__.loader.get_data  # type: ignore[union-attr] # also out of the zipapp that agents travel in
_DATA = dirname(__file__) + "/data"  # noqa: PTH120 - pathlib would cost more than reading the tables


@cache
def table(name: str) -> Any:
    """Content of data/NAME.json. The caller must not change it."""
    return json.loads(_READ(f"{_DATA}/{name}.json"))


def is_platforms_asset_tag(text: str) -> bool:
    """The chassis' asset tag is one that a platform writes, not the number that a company gave to its machine."""
    rows = table("dmi_rules")["rules"]
    return any(text.startswith(row.get("chassis_asset_tag", "\0")) or row.get("contains", "\0") in text for row in rows)
