"""Kernels and roots in user space: PRoot and User Mode Linux need neither privilege nor virtualization, and are recognised."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vprobe

PACKAGE = str(Path(vprobe.__file__).parents[1])
PROBE = [sys.executable, "-m", "vprobe", "probe", "--json"]
BEGIN, END = "<<<the answer", "the answer>>>"
INIT = f"""#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
cd {shlex.quote(PACKAGE)}
echo '{BEGIN}'
{shlex.join(PROBE)}
echo '{END}'
echo o > /proc/sysrq-trigger
sleep 60
"""


@pytest.mark.engine("proot")
def test_proot_is_told_by_its_tracer() -> None:
    """PRoot changes what system calls see by tracing them; its name is the tracer's."""
    command = ["proot", "-r", "/", *PROBE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"proot cannot trace here: {done.stderr.strip()[-200:]}")
    container = json.loads(done.stdout)["container"]
    assert (container["kind"], container["state"], container["class"]) == ("proot", "present", "os-level")


@pytest.mark.root
@pytest.mark.engine("linux.uml")
def test_user_mode_linux_is_a_layer_above_the_machine(tmp_path: Path) -> None:
    """Its /proc/cpuinfo names it; CPUID is the host's, so that what is below the host is shown, too."""
    init = tmp_path / "init"
    init.write_text(INIT)
    init.chmod(0o755)
    words = ["mem=256M", "root=/dev/root", "rootfstype=hostfs", "ro", f"init={init}", f"uml_dir={tmp_path}"]
    done = subprocess.run(
        ["linux.uml", *words, "con=null", "con0=null,fd:1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=90,
        check=False,
    )
    if BEGIN not in done.stdout:
        pytest.skip("User Mode Linux does not boot here")
    document: dict[str, Any] = json.loads(done.stdout.partition(BEGIN)[2].partition(END)[0])
    hypervisor = document["hypervisor"]
    assert (hypervisor["kind"], hypervisor["layers"][0]["class"]) == ("uml", "user-space-kernel")
    assert document["container"]["kind"] != "chroot"
