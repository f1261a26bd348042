"""--image: a command in a container of the user's own image, which has neither Python nor the host's files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE = "localhost/vprobe-test"
PROGRAMS = ("/bin/sh", "/bin/cat")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of a shell, cat, and the libraries that they need."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    files = set(PROGRAMS)
    for program in PROGRAMS:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        files |= {word for word in done.stdout.split() if word.startswith("/")}
    with tarfile.open(path, "w") as tar:
        for file in sorted(files):
            tar.add(os.path.realpath(file), file.lstrip("/"))
        marker = path.parent / "marker"
        marker.write_text("made by a test\n")
        tar.add(marker, "etc/vprobe-marker")
    return path


@pytest.fixture
def podman(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store of the test's own with the image, where podman looks for the user's."""
    configuration = tmp_path / "storage.conf"
    configuration.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/store"\nrunroot = "{tmp_path}/run"\n', encoding="ascii"
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(configuration))
    subprocess.run(["podman", "import", archive, IMAGE], capture_output=True, check=True)
    yield
    subprocess.run(["podman", "rmi", "--all", "--force"], capture_output=True, check=True)


def bench(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`vprobe bench` as a user runs it."""
    command = [sys.executable, "-m", "vprobe", "bench", "--boots", "1", "-o", "run.json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, timeout=120, check=False)


def in_the_image(place: Path) -> str:
    """A command that ends well on the host and in the image, and notes where it was."""
    # On the host there is no such file; in the image there is nothing but what the archive holds, and no Python.
    return (
        'if test -e /etc/vprobe-marker; then test ! -e /usr/bin/env && test "$(cat /etc/vprobe-marker)" = "made by a test"; '
        f"else test -d {place}; fi"
    )


@pytest.mark.engine("podman")
@pytest.mark.usefixtures("podman")
def test_podman(tmp_path: Path) -> None:
    """The command runs in the image; what the host has and the image lacks is not there; the image itself stays."""
    place = tmp_path / "work"
    place.mkdir()
    done = bench(place, "--env", "podman", "--image", IMAGE, "--command", in_the_image(place))
    assert done.returncode == 0, done.stderr
    run = json.loads((place / "run.json").read_text())
    assert run["fingerprint"]["image"] == IMAGE
    assert {arm for visit in run["visits"] for arm in visit["samples"]} == {"bare", "bare-aa", "podman"}
    fails = bench(place, "--env", "podman", "--image", IMAGE, "--command", "test ! -e /etc/vprobe-marker")
    assert fails.returncode == 6
    assert "podman: the command exited with 1" in fails.stderr
    listed = subprocess.run(["podman", "images", "--quiet"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.split()) == 1
    containers = subprocess.run(["podman", "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    assert containers.stdout == ""


@pytest.mark.engine("podman")
@pytest.mark.usefixtures("podman")
def test_no_such_image(tmp_path: Path) -> None:
    """Nothing is pulled: an image that is not here is one line and exit code 5, before anything is measured."""
    done = bench(tmp_path, "--env", "podman", "--image", "localhost/other", "--command", "true")
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
    assert "podman has no image localhost/other" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--image", "x"), "there is none"),
        (("--image", "-x", "--command", "true"), "not the name of an image"),
        (("--image", "x", "--command", "true", "--env", "bare,runc"), "docker and podman do"),
    ],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """--image where it cannot do anything is a mistake, and said to be one."""
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.engine("dockerd")
def test_docker(private_docker: None, archive: Path, tmp_path: Path) -> None:
    """The same by docker; a command also finds the user's directory, read-only."""
    if shutil.which("docker") is None or not os.environ.get("DOCKER_HOST"):
        pytest.skip("no Docker daemon of the tests' own")
    subprocess.run(["docker", "import", archive, IMAGE], capture_output=True, check=True)
    (tmp_path / "here").touch()
    (tmp_path / "there").touch()
    command = in_the_image(tmp_path) + " && test -e here && { test ! -e /etc/vprobe-marker || ! cat there > there; }"
    done = bench(tmp_path, "--env", "docker", "--image", IMAGE, "--command", command)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["docker", "images", "--quiet"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.split()) == 1
    containers = subprocess.run(["docker", "ps", "--all", "--quiet"], capture_output=True, text=True, check=True)
    assert containers.stdout == ""
