"""[tool.vprobe.gate]: where it is found, what it takes, how the rest is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vprobe.analysis.gate_config import GateConfig, find_config, load_config
from vprobe.errors import InvalidFileError
from vprobe.model import GateVerdict


def written(directory: Path, text: str, name: str = "vprobe.toml") -> Path:
    """A file with that text."""
    path = directory / name
    path.write_text(text)
    return path


def test_every_setting(tmp_path: Path) -> None:
    """All keys are read; the baseline is relative to the file."""
    text = """
    [tool.vprobe.gate]
    rules = ["*@*<=3% vs base", "cpu.*@kvm<=5%"]
    across = ["kernel", "microcode"]
    baseline = "old/run.json"
    confirm = true
    alpha = 0.01
    inconclusive = "fail"
    missing = "pass"
    """
    found = load_config(written(tmp_path, text))
    assert found.rules == ("*@*<=3% vs base", "cpu.*@kvm<=5%")
    assert found.across == {"kernel", "microcode"}
    assert found.baseline == tmp_path / "old/run.json"
    assert found.confirm
    assert (found.policy.alpha, found.policy.inconclusive, found.policy.missing) == (
        0.01,
        GateVerdict.FAIL,
        GateVerdict.PASS,
    )


def test_where_it_is_found(tmp_path: Path) -> None:
    """vprobe.toml before pyproject.toml, a file without the table is passed over, no file means the defaults."""
    assert find_config(tmp_path) == GateConfig()
    written(tmp_path, '[tool.vprobe.gate]\nrules = ["b@c<=2%"]', "pyproject.toml")
    assert find_config(tmp_path).rules == ("b@c<=2%",)
    written(tmp_path, "[tool.other]\n")
    assert find_config(tmp_path).rules == ("b@c<=2%",)
    written(tmp_path, '[tool.vprobe.gate]\nrules = ["a@c<=1%"]')
    assert find_config(tmp_path).rules == ("a@c<=1%",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules = [", "not TOML"),
        ("[tool.other]", "has no table"),
        ("[tool]\nvprobe = 3", "has no table"),
        ('[tool.vprobe.gate]\nrule = ["a@b<=1%"]', "unknown field `rule`"),
        ("[tool.vprobe.gate]\nrules = 'a@b<=1%'", "Expected `array`"),
        ("[tool.vprobe.gate]\nalpha = 0.0", "alpha is 0"),
        ("[tool.vprobe.gate]\nalpha = 2.0", "alpha is 2"),
        ("[tool.vprobe.gate]\nalpha = nan", "alpha is nan"),
        ("[tool.vprobe.gate]\ninconclusive = 'maybe'", "Invalid enum value 'maybe'"),
        ("[tool.vprobe.gate]\nacross = ['kernal']", "'kernal' is not a fact"),
        ("[tool.vprobe]\ngate = 'strict'", "Expected `object`"),
    ],
)
def test_refusals(tmp_path: Path, text: str, told: str) -> None:
    """A wrong file is refused in one line that names it, never half taken."""
    path = written(tmp_path, text)
    with pytest.raises(InvalidFileError) as caught:
        load_config(path)
    assert told in str(caught.value)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    """Not there, a directory, and bytes that are no text."""
    with pytest.raises(InvalidFileError, match="No such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(InvalidFileError, match="Is a directory"):
        load_config(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidFileError, match="not TOML"):
        load_config(tmp_path / "b.toml")
