"""The catalogs of texts."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from vprobe.reports.texts import LANGUAGES, entries, texts
from vprobe.suites import catalog

from vprobe import environments, reports
from vprobe.errors import UsageError
from vprobe.model import GateVerdict, Verdict, VirtClass

PACKAGE = Path(reports.__file__).parent


def placeholders(text: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_every_language_says_the_same_things(language: str) -> None:
    """Each key of English is there (plurals aside), with the same placeholders, and no other."""
    english, other = entries("en"), entries(language)
    assert {key for key in english if not key.endswith(".one")} == {key for key in other if not key.endswith(".one")}
    assert {key: placeholders(text) for key, text in other.items()} == {
        key: placeholders(english[key]) for key in other
    }


def test_every_key_that_the_code_names_exists_and_every_entry_is_used() -> None:
    """No text is missing at run time, and none is left over from an earlier page."""
    sources = "\n".join(
        path.read_text() for path in [*PACKAGE.rglob("*.py"), *(PACKAGE / "templates").iterdir()] if path.is_file()
    )
    english = entries("en")
    named = set(re.findall(r'\bt(?:exts)?\("([a-z_0-9]+(?:\.[a-z_0-9]+)*)"', sources))
    assert named - english.keys() == set()
    machine = "workload|environment|class|hypervisor|monitor|suite|phase|level|licence|state|feature|fact"
    families = rf"({machine}|word|gate|claim|chart)\."
    unused = [key for key in english if f'"{key}"' not in sources and not re.match(families, key)]
    assert [key for key in unused if not key.endswith((".nav", ".title", ".one", ".other"))] == []


def test_closed_sets_have_words() -> None:
    """Every verdict, class and gate verdict can be said in every language."""
    for language in LANGUAGES:
        known = entries(language).keys()
        assert {f"word.{verdict}" for verdict in Verdict} <= known
        assert {f"class.{kind}.{part}" for kind in VirtClass for part in ("name", "words")} <= known
        assert {f"gate.{verdict}" for verdict in GateVerdict} <= known


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_workload_and_suite_of_ours_has_words(language: str) -> None:
    """A reader need not know what a name stands for: add what a new workload does to reports/texts/*.toml."""
    known = entries(language).keys()
    names = {name.partition("[")[0] for name in catalog()}
    assert {name for name in names if f"workload.{name}" not in known} == set()
    assert {name for name in names if f"suite.{name.partition('.')[0]}.words" not in known} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_environment_of_ours_has_words(language: str) -> None:
    """What stands after a colon is a host or a variant; the control is no column of its own."""
    known = entries(language).keys()
    kinds = {name.partition(":")[0] for name in environments.names()} - {"bare-aa"}
    assert {kind for kind in kinds if f"environment.{kind}" not in known} == set()


def test_what_is_put_into_a_text_is_escaped_and_bounded() -> None:
    """A value cannot bring markup into a sentence, a sentence's own markup stays."""
    said = texts("en")("workload_name", name="<b>" + "x" * 10_000)
    assert said.startswith("<code>&lt;b&gt;x")
    assert len(said) < 1000


def test_lists_and_plurals_read_well() -> None:
    """Three things are joined with comma and and; one thing is singular."""
    english = texts("en")
    assert (
        english.joined([english("word.same"), english("word.slower"), english("word.faster")])
        == "same, slower and faster"
    )
    assert english.count("trust.boots", 1) == "1 boot."
    assert english.count("trust.boots", 12) == "12 independent boots."
    assert texts("zh-CN").count("trust.boots", 1) == "1 次独立启动。"


def test_an_unknown_language_is_an_error_that_names_the_known_ones() -> None:
    """The hint lists what there is."""
    with pytest.raises(UsageError, match="xx") as caught:
        texts("xx")
    assert "zh-CN" in caught.value.hint
