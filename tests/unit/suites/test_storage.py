"""The storage workloads: where they go, what they leave, and that a cache is not taken for a disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vprobe.suites import HostFacts, Place, StorageFacts, UnsupportedError, find, storage

from vprobe.measure import backing
from vprobe.measure.plan import check_space


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are laid out in no time."""
    monkeypatch.setattr(storage, "FILE_BYTES", 8 * storage.MIB)


def facts(directory: Path) -> StorageFacts:
    return backing.describe(directory)


def make(name: str, path: Path) -> storage.Accesses:
    """A block as the agent makes it."""
    known = facts(path.parent)
    found = find(name)
    block = found.make(Place(str(path)), direct=known.direct, backing=known.backing, **found.parameters)
    assert isinstance(block, storage.Accesses)
    return block


def test_the_file_is_whole_and_incompressible(tmp_path: Path) -> None:
    """No holes, no repetition: what is read has to come from the device."""
    path = tmp_path / "storage-0"
    storage.lay_out(str(path))
    assert path.stat().st_size == storage.FILE_BYTES
    assert path.stat().st_blocks * 512 >= storage.FILE_BYTES
    with path.open("rb") as file:
        chunks = [file.read(storage.LARGE) for _ in range(8)]
    assert len(set(chunks)) == len(chunks)
    assert len(set(chunks[0])) == 256
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    [
        "storage.random_read[4KiB]",
        "storage.random_write[4KiB]",
        "storage.sequential_read[1MiB]",
        "storage.sequential_write[1MiB]",
        "storage.fsync",
    ],
)
def test_accesses_stay_inside_and_go_on(name: str, tmp_path: Path) -> None:
    """Two blocks walk on through the sequence, and the file keeps its size."""
    block = make(name, tmp_path / "file")
    block(3)
    block(2)
    assert block.position == 5
    assert max(block.offsets) + len(block.memory[0]) <= storage.FILE_BYTES
    block.position = len(block.offsets) - 1
    block(2)
    assert block.position == 1
    block.close()
    assert (tmp_path / "file").stat().st_size == storage.FILE_BYTES


def test_writes_reach_the_file(tmp_path: Path) -> None:
    """What is written is what the block says, where it says."""
    block = make("storage.random_write[4KiB]", tmp_path / "file")
    block(1)
    with (tmp_path / "file").open("rb") as file:
        file.seek(block.offsets[0])
        assert file.read(storage.SMALL) == block.memory[0][:]
    block.close()


def test_a_flag_that_is_not_obeyed_is_noticed(tmp_path: Path) -> None:
    """An environment that takes O_DIRECT and caches all the same (gVisor does) is left out: here, a file opened without it."""
    path = tmp_path / "file"
    storage.lay_out(str(path))
    descriptor = os.open(path, os.O_RDONLY)
    assert not storage.refuses_unaligned(descriptor)
    os.close(descriptor)
    obeying = storage.DataFile.__new__(storage.DataFile)
    obeying.descriptor = -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "O_DIRECT", 0)
        with pytest.raises(UnsupportedError, match="not obeyed"):
            storage.DataFile(str(path), "strict")


def test_a_short_device_is_refused(tmp_path: Path) -> None:
    """A disk that is smaller than what the workload spans cannot be measured alike."""
    (tmp_path / "disk").write_bytes(b"x" * 4096)
    with pytest.raises(UnsupportedError, match="4096 bytes"):
        storage.DataFile(str(tmp_path / "disk"), "none")


def test_the_backing_is_described(tmp_path: Path) -> None:
    """File system and free space are those of statvfs(3) and /proc/mounts; memory is never called direct."""
    known = facts(tmp_path)
    kinds = {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    assert known.backing["file_system"] in kinds
    assert known.free_bytes > 0
    if Path("/dev/shm").is_dir():
        assert backing.describe(Path("/dev/shm")).direct == "none"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """Where there is no room for every arm's file, the reason names directory, need and remedy."""
    full = StorageFacts({}, "none", 100 << 20, "/somewhere")
    check_space(HostFacts({}, full), 1)
    with pytest.raises(UnsupportedError, match=r"/somewhere has 100 MiB free and 2 arms need 140 MiB: .*--scratch"):
        check_space(HostFacts({}, full), 2)
