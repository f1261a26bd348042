"""Prints one JSON document."""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def print_json(document: Any) -> None:
    """One document, one line end; characters outside ASCII are escaped, so that any terminal and locale will do."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
