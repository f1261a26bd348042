"""Reasons in other languages: what the code writes in English is translated where it is shown."""

from __future__ import annotations

import ast
import re
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from vprobe.reports.reasons import Patterns, patterns, translated
from vprobe.reports.study import NOT_MEASURED, ROWS
from vprobe.reports.texts import LANGUAGES, texts

from vprobe import reports
from vprobe.analysis import compare
from vprobe.measure.plan import REASONS
from vprobe.model import Run

from .examples import HOSTILE, report_of, rich_run

CHINESE = texts("zh-CN")
OTHERS = [language for language in LANGUAGES if language != "en"]
ROOT = Path(__file__).parents[3]


def table(language: str) -> dict[str, str]:
    """The catalog as it is written."""
    return tomllib.loads((Path(reports.__file__).parent / "texts" / f"reasons.{language}.toml").read_text("utf-8"))


def places(text: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_open_places_of_its_sentence(language: str) -> None:
    """Nothing that a sentence names is lost, and nothing is asked for that it does not have."""
    assert {said: places(meant) for said, meant in table(language).items()} == {
        said: places(said) for said in table(language)
    }


@pytest.mark.parametrize("language", OTHERS)
def test_every_sentence_is_told_from_every_other(language: str) -> None:
    """A sentence with its places filled is translated by its own pattern, not by a shorter one that also fits."""
    known = patterns(language)
    assert known is not None
    for said, meant in table(language).items():
        filled = {name: f"\u00ab{name}\u00bb" for name in places(said)}
        assert known.translated(said.format(**filled)) == meant.format(**filled)


def test_parts_and_places_are_sentences_of_their_own() -> None:
    """What "; " sets apart is translated part by part, a sentence in an open place too; an unknown part keeps all in English."""
    few = "2 boots cannot give a 95 % interval; 6 can"
    assert CHINESE.said(few) == "2 次启动得不出 95 % 区间；6 次可以"
    assert CHINESE.said(f"cross-session; {few}") == "跨会话；2 次启动得不出 95 % 区间；6 次可以"
    nested = "1 of 9 visits are excluded; the most common reason: the canary drifted by 6 %"
    assert CHINESE.said(nested) == "9 次访测中排除了 1 次；最常见的原因：金丝雀漂移了 6 %"
    differs = "mitigation of mds: Vulnerable here, Mitigation: Clear; SMT off there"
    assert CHINESE.said(differs) == "对 mds 的缓解：此处 有漏洞，彼处 已缓解：Clear; SMT off"
    assert CHINESE.said("cross-session; and so on") == '<span lang="en">cross-session; and so on</span>'
    assert texts("en").said(few) == few


def test_a_hostile_reason_stays_text() -> None:
    """Whatever a file gives as a reason, in an open place or whole, it is escaped, bounded and made visible."""
    for text in HOSTILE:
        for reason in (text, f"needs Python; {text} runs native kernels only"):
            said = CHINESE.said(reason)
            assert "<script" not in said
            assert "<img" not in said
            assert len(said) < 5000
            assert not set(said) & {"\0", "\u202e", "\u2066", "\x1b", "\x07"}


def test_patterns_do_not_run_away() -> None:
    """A long text that nearly fits many patterns is given up at once."""
    known = Patterns({" ".join(f"a {{p{place}}}" for place in range(9)) + " end": "x"})
    assert known.translated("a " * 290 + "x end.") is None
    assert known.translated("a " * 290 + "x end") == "x"


# Files whose texts a report shows as reasons, and the share of them that must have a translation.
SOURCES = {
    "vprobe/analysis/verdicts.py": 0.75,
    "vprobe/analysis/notes.py": 0.75,
    "vprobe/probe/decode/firmware.py": 0.75,
    "vprobe/probe/decode/kvm.py": 0.75,
}
NOT_SHOWN = re.compile(r"^(modprobe -r|mknod |/proc/|MSR |CPUID |KVM_GET_SUPPORTED)|^[^a-z]*$")


def said_in(path: Path) -> Iterator[str]:
    """Every text of at least three words in a file, but for docstrings and what is raised; open places as {}."""
    tree = ast.parse(path.read_text("utf-8"))
    skip: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr | ast.Raise):
            skip |= {id(one) for one in ast.walk(node) if isinstance(node, ast.Raise) or isinstance(one, ast.Constant)}
        if isinstance(node, ast.JoinedStr):
            skip |= {id(one) for one in ast.walk(node) if one is not node}
    for node in ast.walk(tree):
        if id(node) in skip:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "«x»" for part in node.values)
        else:
            continue
        if text.count(" ") >= 3 and not NOT_SHOWN.match(text):
            yield text


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_reasons_of_the_code_are_translated(source: str, language: str) -> None:
    """A sentence that the code may give as a reason, with its places filled, has a translation: reports/texts/reasons.*.toml."""
    known = " ".join(table(language))
    said = list(said_in(ROOT / source))
    missing = [
        text
        for text in said
        if translated(text, language) is None and not all(part.strip(" ;:,") in known for part in text.split("«x»"))
    ]
    assert said
    assert len(missing) <= (1 - SOURCES[source]) * len(said), missing


@pytest.mark.parametrize("language", OTHERS)
def test_what_an_environment_lacks_is_translated(language: str) -> None:
    """Every reason of the plan, and the study's own words."""
    lacks = [reason.format(environment="kvm") for reason in REASONS.values()]
    words = [row[0] for row in ROWS]
    assert [text for text in [*lacks, *words, NOT_MEASURED] if translated(text, language) in (None, "")] == [
        "Linpack", "RandomAccess"
    ]  # fmt: skip


def untranslated(page: str) -> set[str]:
    """The passages that a page marks as English."""
    return set(re.findall(r'<span lang="en">(.*?)</span>', page))


def test_a_chinese_page_has_no_english_sentences_but_raw_evidence() -> None:
    """Verdicts, skips, exclusions, warnings, differences between runs: all in Chinese."""
    one = rich_run(rounds=4)
    two: Run = rich_run(2, rounds=4, boots=2)
    assert compare(two, one).comparisons
    page = reports.html(report_of(one, two, language="zh-CN"))
    assert untranslated(page.partition('id="probe"')[0]) == set()
    assert {text for text in untranslated(page) if not text.startswith(("CPUID", "MSR", "/"))} <= {
        "an AMD processor has AMD-V instead", "no svm flag",
    }  # fmt: skip
