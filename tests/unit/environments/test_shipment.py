"""The zipapp that travels: it holds all that the agent needs, runs on Python 3.9, and gets started by a login shell's line."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from vprobe.environments import shipment, ssh
from vprobe.measure import evidence

DESCRIBE = {"describe": True}


def modules() -> dict[str, str]:
    """Name and source of each module in the zipapp."""
    with zipfile.ZipFile(BytesIO(shipment.zipapp())) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}


def payload() -> bytes:
    """What the client sends first."""
    return b"%016d" % len(shipment.zipapp()) + shipment.zipapp()


def test_reproducible() -> None:
    """Equal files make equal bytes."""
    first = shipment.zipapp()
    shipment.zipapp.cache_clear()
    assert shipment.zipapp() == first


@pytest.mark.parametrize("name", sorted(modules()))
def test_grammar(name: str) -> None:
    """Each module parses by the grammar of Python 3.9."""
    ast.parse(modules()[name], name, feature_version=(3, 9))


def test_library(tmp_path: Path) -> None:
    """None uses a part of the standard library that came after Python 3.9."""
    with zipfile.ZipFile(BytesIO(shipment.zipapp())) as archive:
        archive.extractall(tmp_path)
    vermin = [
        sys.executable,
        "-c",
        "import vermin; vermin.main()",
        "--target=3.9-",
        "--violations",
        "--no-tips",
        "--quiet",
        str(tmp_path),
    ]
    done = subprocess.run(vermin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def hello(interpreter: str, zipapp: Path) -> dict[str, object]:
    """The first message of the agent in a zipapp."""
    done = subprocess.run([interpreter, "-I", "-S", zipapp, "{}"], input=b"", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    message: dict[str, object] = json.loads(done.stdout)
    return message


def test_agent_in_the_zipapp(tmp_path: Path) -> None:
    """It answers, with the native extension, and its hash is that of the installation that it came from."""
    path = tmp_path / "agent.pyz"
    path.write_bytes(shipment.zipapp())
    assert hello(sys.executable, path)["native"] is (shipment.NATIVE in shipment.contents())
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from vprobe.measure.zipped import load_native; load_native(sys.argv[1])\n"
        "import vprobe.measure.evidence as one; print(one.vprobe_hash())"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program, path], capture_output=True, text=True, check=True)
    with contextlib.suppress(ImportError):
        from vprobe import _native  # noqa: F401 - vprobe_hash counts it where it is loaded
    assert done.stdout.strip() == evidence.vprobe_hash()


@pytest.mark.engine("pypy3")
def test_an_interpreter_of_version_3_9(tmp_path: Path) -> None:
    """Under a real Python 3.9 (PyPy's: distributions drop CPython's) every module is imported and the probe answers."""
    pypy = shutil.which("pypy3")
    assert pypy
    version = subprocess.run([pypy, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, check=True)
    if b"(3, 9)" not in version.stdout:
        pytest.skip(f"pypy3 is of another version here: {version.stdout!r}")
    path = tmp_path / "agent.pyz"
    path.write_bytes(shipment.zipapp())
    assert hello(pypy, path)["hello"] == 1
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in modules()]
    program = f"import sys; sys.path.insert(0, {str(path)!r})\nimport importlib\nfor name in {names!r}:\n    "
    program += "name == '__main__' or importlib.import_module(name)"
    subprocess.run([pypy, "-I", "-S", "-c", program], check=True)
    done = subprocess.run(
        ["sh", "-c", ssh.remote_command(DESCRIBE)],
        input=payload(),
        env={"PATH": os.defpath},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class TestLoginShell:
    """The command line, given to a shell here instead of over there."""

    def run(self, shell: str, search: str, monkeypatch: pytest.MonkeyPatch) -> subprocess.CompletedProcess[bytes]:
        monkeypatch.setattr(ssh, "pythons", lambda: ("python3", "python3.9"))
        command = [shell, "-c", ssh.remote_command(DESCRIBE)]
        return subprocess.run(command, input=payload(), env={"PATH": search}, capture_output=True, check=False)

    @pytest.mark.parametrize("shell", ["sh", "bash", "csh", "fish", "zsh"])
    def test_shells(self, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the login shell is, the other machine describes itself."""
        path = shutil.which(shell)
        if path is None:
            pytest.skip(f"{shell} is not installed")
        done = self.run(path, f"{Path(sys.executable).parent}:{os.defpath}", monkeypatch)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["probe"]["schema"] == "vprobe.probe/1"

    def test_no_python(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No Python: said in the words that there is a remedy for."""
        done = self.run("/bin/sh", str(tmp_path), monkeypatch)
        verdict = ssh.refusal("there", done.stderr.decode().strip())
        assert verdict.reason.startswith("python")
        assert "3.9" in verdict.remedy

    def test_old_python(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An old python3 hands over to a newer one beside it, and else says how old it is."""
        old = f"import sys; sys.version_info = (3, 6); sys.version = '3.6.1 (old)'\n{ssh.BOOTSTRAP}"
        monkeypatch.setattr(ssh, "BOOTSTRAP", old)
        (tmp_path / "python3").symlink_to(os.path.realpath(sys.executable))
        done = self.run("/bin/sh", str(tmp_path), monkeypatch)
        assert ssh.refusal("there", done.stderr.decode().strip()).reason == "python: 3.6.1 is too old"
