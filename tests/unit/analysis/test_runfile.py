"""Run files: what is written is read back, and what is broken or hostile is refused in one clear line."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import synthetic_run

from vprobe import runfile
from vprobe.errors import ExitCode, InvalidFileError
from vprobe.model import Run
from vprobe.runfile import load, save


def small() -> Run:
    """A run of two boots that is quick to write."""
    return synthetic_run(boots=2, rounds=3, arms=["bare", "bare-aa", "kvm"], workloads=["cpu.zlib", "exits.out"])


def document() -> dict[str, Any]:
    """The same as plain JSON values, to be spoilt."""
    return json.loads(msgspec.json.encode(small()))


def refusal(tmp_path: Path, data: bytes, name: str = "run.json") -> str:
    """The one line in which load() refuses these bytes."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidFileError) as caught:
        load(path)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
def test_a_run_is_read_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    """Nothing is lost or rounded on the way through a file, compressed or not."""
    run = small()
    save(run, tmp_path / name)
    assert load(tmp_path / name) == run
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")


def test_equal_runs_make_equal_compressed_files(tmp_path: Path) -> None:
    """The time of writing is not in the file."""
    save(small(), tmp_path / "a.gz")
    save(small(), tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    """A compressed file that was renamed is still read."""
    save(small(), tmp_path / "run.json.gz")
    (tmp_path / "run.json.gz").rename(tmp_path / "run.json")
    assert load(tmp_path / "run.json") == small()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk neither destroys the file that was there nor leaves a half-written one beside it."""
    path = tmp_path / "run.json"
    path.write_bytes(b"precious")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(small(), path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unsound_run_is_not_written(tmp_path: Path) -> None:
    """save() never makes a file that load() would refuse."""
    run = small()
    spoilt = msgspec.structs.replace(run, visits=(*run.visits, run.visits[0]))
    with pytest.raises(ValueError, match="there twice"):
        save(spoilt, tmp_path / "run.json")
    assert not list(tmp_path.iterdir())


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    """A name that is no file is named, with the system's reason."""
    with pytest.raises(InvalidFileError, match="No such file"):
        load(tmp_path / "none.json")
    with pytest.raises(InvalidFileError, match="Is a directory"):
        load(tmp_path)


def test_not_a_run_file(tmp_path: Path) -> None:
    """Text, an empty file, another JSON document and a document of another schema are told apart."""
    assert "is not JSON" in refusal(tmp_path, b"hello")
    assert "is empty" in refusal(tmp_path, b"")
    assert "not a run of vprobe" in refusal(tmp_path, b"[]")
    assert "names no schema" in refusal(tmp_path, b"{}")
    assert "'vprobe.probe/1'" in refusal(tmp_path, b'{"schema": "vprobe.probe/1"}')
    assert "--resume" in refusal(tmp_path, b'{"journal":1}\n{"boot":0}\n', "run.json.part")


def test_newer_schema(tmp_path: Path) -> None:
    """A file of the future says that vprobe must be upgraded, whatever else it holds."""
    message = refusal(tmp_path, b'{"schema": "vprobe.run/2", "visits": "elsewhere"}')
    assert "newer vprobe" in message
    assert "upgrade" in message


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.0, 0.999))
def test_every_truncation_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    """However much of a file is missing, it is never read as a smaller run."""
    data = msgspec.json.encode(small())
    message = refusal(tmp_path_factory.mktemp("cut"), data[: int(share * len(data))])
    assert "truncated" in message or "empty" in message


def test_truncated_and_damaged_gzip(tmp_path: Path) -> None:
    """A download that stopped and one that was damaged are told apart."""
    data = gzip.compress(msgspec.json.encode(small()))
    assert "truncated" in refusal(tmp_path, data[:-20])
    middle = len(data) // 2
    assert "damaged" in refusal(tmp_path, data[:middle] + bytes(64) + data[middle + 64 :])


def test_decompression_stops_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that unpacks to something huge is refused before it is unpacked whole."""
    monkeypatch.setattr(runfile, "MAXIMUM_BYTES", 3 << 20)
    assert "more than 3 MiB" in refusal(tmp_path, gzip.compress(bytes(64 << 20)))
    assert "more than 3 MiB" in refusal(tmp_path, b" " * (4 << 20))


def test_too_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the number of values, since each is larger in memory than in the file."""
    monkeypatch.setattr(runfile, "MAXIMUM_VALUES", 1000)
    assert "more than 1,000 values" in refusal(tmp_path, b"[" + b"1," * 2000 + b"1]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"seed":', '"seed":"x","was":'),
        ('"created":', '"was":'),
        ('"iterations":', '"iterations":1.5,"was":'),
        ('"values":[', '"values":[NaN,'),
        ('"values":[', '"values":[1e999,'),
        ('"values":[', '"values":["1",'),
        ('"better":"lower"', '"better":"sideways"'),
    ],
)
def test_wrong_types_and_missing_fields(tmp_path: Path, text: str, expected: str) -> None:
    """What JSON Schema would catch is caught."""
    data = msgspec.json.encode(small()).decode()
    assert text in data
    refusal(tmp_path, data.replace(text, expected, 1).encode())


def spoil_duplicate_visit(run: dict[str, Any]) -> None:
    run["visits"].append(run["visits"][0])


def spoil_duplicate_arm(run: dict[str, Any]) -> None:
    run["arms"].append(run["arms"][0])


def spoil_duplicate_workload(run: dict[str, Any]) -> None:
    run["workloads"].append(run["workloads"][0])


def spoil_unknown_workload(run: dict[str, Any]) -> None:
    run["visits"][0]["workload"] = "cpu.none"


def spoil_unknown_arm(run: dict[str, Any]) -> None:
    run["visits"][0]["samples"]["xen"] = run["visits"][0]["samples"]["kvm"]


def spoil_square(run: dict[str, Any]) -> None:
    run["square"][0][0] = "xen"


def spoil_rows(run: dict[str, Any]) -> None:
    run["visits"][0]["rows"][0] = 99


def spoil_length(run: dict[str, Any]) -> None:
    run["visits"][0]["samples"]["kvm"]["values"].pop()


def spoil_outside_length(run: dict[str, Any]) -> None:
    run["visits"][0]["samples"]["kvm"]["outside_ns"].pop()


def spoil_negative(run: dict[str, Any]) -> None:
    run["visits"][0]["samples"]["kvm"]["values"][0] = -1.0


def spoil_overflow(run: dict[str, Any]) -> None:
    run["visits"][0]["samples"]["kvm"]["values"] = [1e308, 1e308, 1.0]


def spoil_iterations(run: dict[str, Any]) -> None:
    run["visits"][0]["samples"]["kvm"]["iterations"] = 0


def spoil_boot(run: dict[str, Any]) -> None:
    run["visits"][0]["boot"] = -1


def spoil_details(run: dict[str, Any]) -> None:
    run["visits"][0]["samples"]["kvm"]["details"] = {"user_ns": [1.0]}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_duplicate_visit, "there twice"),
        (spoil_duplicate_arm, "arm 'bare' is declared twice"),
        (spoil_duplicate_workload, "declared twice"),
        (spoil_unknown_workload, "no such workload"),
        (spoil_unknown_arm, "unknown arm 'xen'"),
        (spoil_square, "the square names an unknown arm 'xen'"),
        (spoil_rows, "an order that the square does not hold"),
        (spoil_length, "values has 2 entries for 3 rounds"),
        (spoil_outside_length, "outside_ns has 2 entries for 3 rounds"),
        (spoil_negative, "negative or not finite"),
        (spoil_overflow, "negative or not finite"),
        (spoil_iterations, "0 iterations"),
        (spoil_boot, "negative number"),
        (spoil_details, "details 'user_ns' has 1 entries"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, spoil: Any, expected: str) -> None:
    """A file that parses but contradicts itself is refused with what and where."""
    run = document()
    spoil(run)
    assert expected in refusal(tmp_path, json.dumps(run).encode())


def test_control_characters_of_a_file_are_not_printed(tmp_path: Path) -> None:
    """A hostile file cannot write escape sequences to the terminal through an error message."""
    run = document()
    run["workloads"][0]["better"] = "\x1b[31mred"
    assert "\x1b" not in refusal(tmp_path, json.dumps(run).encode())
    run = document()
    run["visits"][0]["workload"] = "\x1b[31mred"
    assert "\x1b" not in refusal(tmp_path, json.dumps(run).encode())


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    """Brackets a hundred thousand deep neither crash nor hang."""
    run = document()
    run["probe"] = {}
    data = json.dumps(run).replace('"probe": {}', '"probe": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    refusal(tmp_path, data.encode())


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No bytes make load() fail in another way than by refusing."""
    refusal(tmp_path_factory.mktemp("random"), data)
    refusal(tmp_path_factory.mktemp("packed"), zlib.compress(data, wbits=31))


def test_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    """A newer vprobe of the same schema may add fields."""
    run = document() | {"new": {"field": 1}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert load(tmp_path / "run.json") == small()
