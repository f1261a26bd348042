"""The archive that guests boot from is what the kernel's documentation says, and refuses what init could not read."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vprobe.environments import initramfs
from vprobe.environments.guest_kernel import Module
from vprobe.environments.initramfs import Program


def test_an_archive_by_hand() -> None:
    """A small archive, field by field: magic, thirteen numbers of eight hexadecimal digits, name, data, padding to four."""
    whole = initramfs.archive({"a/b": initramfs.file(b"hello")})
    at, members = 0, {}
    while at < len(whole):
        assert at % 4 == 0
        assert whole[at : at + 6] == b"070701"
        fields = [int(whole[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = whole[at + 110 : at + 110 + fields[11] - 1].decode()
        data = at + (110 + fields[11] + 3) // 4 * 4
        members[name] = (fields[1], whole[data : data + fields[6]], fields[9:11])
        at = data + (fields[6] + 3) // 4 * 4
    assert list(members) == ["dev", "dev/console", "a", "a/b", "TRAILER!!!"]
    assert members["a"][0] == 0o040755
    assert members["a/b"] == (0o100644, b"hello", [0, 0])
    assert members["dev/console"] == (0o020600, b"", [5, 1])


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_it(tmp_path: Path) -> None:
    """cpio(1), which others wrote, unpacks the same files."""
    data = initramfs.archive({"etc/words": initramfs.program(b"x" * 1001)})
    subprocess.run(["cpio", "-idm", "--quiet", "etc/words"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "etc/words").read_bytes() == b"x" * 1001


def test_what_init_gets(tmp_path: Path) -> None:
    """Modules are loaded in their order before the steps; the program comes last."""
    (tmp_path / "m.ko").write_bytes(b"\x7fELF")
    data = initramfs.build(
        [Module("m", tmp_path / "m.ko")], [("mkdir", "/x")], Program("/dev/port", ("/bin/a", "b c"), {"K": "v"})
    )
    assert b"load\t/modules/m.ko\nmkdir\t/x\nrun\t/dev/port\t/\n" in data
    assert b"/bin/a\0b c\0" in data
    assert b"K=v\0" in data


@pytest.mark.parametrize("word", ["a\tb", "a\nb", "a\0b"])
def test_words_that_init_cannot_tell_apart_are_refused(word: str) -> None:
    """A path with a tab or a line's end in it cannot become two words of a step."""
    with pytest.raises(ValueError, match="cannot hold"):
        initramfs.build([], [("mkdir", word)], Program("/dev/port", ("/bin/a",), {}))
