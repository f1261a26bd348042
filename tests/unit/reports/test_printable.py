"""Text of the machine made safe to look at."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from vprobe.reports.printable import finalize, printable, soft

HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(), max_size=400), st.integers(1, 200))
def test_nothing_harmful_and_nothing_long_comes_out(text: str, limit: int) -> None:
    """Whatever goes in, no control, format or surrogate character comes out, and never more than the limit."""
    shown = printable(text, limit)
    assert not {unicodedata.category(character) for character in shown} & HARMFUL
    assert len(shown) <= limit
    shown.encode("utf-8")


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=100))
def test_plain_text_is_left_alone(text: str) -> None:
    """What people write is shown as they wrote it."""
    assert printable(text) == text


def test_places_to_break_do_not_open_a_door() -> None:
    """A name may break after its dots, and is escaped all the same."""
    assert soft("memory.chase[l1]") == "memory.<wbr>chase<wbr>[l1]"
    assert "<script" not in soft("a.<script>")


def test_templates_bound_every_string() -> None:
    """A megabyte of text takes a line at most."""
    assert len(str(finalize("x" * 1_000_000))) < 1000
    assert finalize(7) == 7
