"""From the start to the first answer of a Linux guest: vprobe's beside virtme-ng's, on the same kernel and accelerator.

    .venv/bin/python tests/validation/guest_start.py [--accelerator kvm] [--pairs 7]

Both run `echo` in a shell of the host's root file system over 9p, on one virtual CPU, interleaved in random order. The clock
runs from the call that starts the guest until its word is here, so that all that either does before QEMU counts. Needs
virtme-ng (PyPI) and what it needs: kmod, busybox-static, udev. Exit code 1 unless vprobe is faster in every pair.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from vprobe import environments
from vprobe.environments import Available, Launch, guest_kernel, sessions
from vprobe.environments.guest import GuestSession
from vprobe.environments.guest_trial import ARGV, WORD, heard

TIMEOUT_S = 180.0


def ours(accelerator: str) -> float:
    """Seconds until a guest of vprobe's has said its word."""
    environment = environments.get(f"qemu-{accelerator}")
    with sessions.open_run() as run:
        before = time.monotonic()
        with environment.start(Launch(ARGV, run.new_session(), run.scratch)) as session:
            assert isinstance(session, GuestSession)
            assert heard(session, TIMEOUT_S), session.stderr_tail()
            return time.monotonic() - before


def theirs(accelerator: str, kernel: Path) -> float:
    """Seconds until a guest of virtme-ng's has said the same word."""
    program = shutil.which("vng") or str(Path(sys.executable).parent / "vng")
    options = ["--force-9p", "--cpus", "1", *(["--disable-kvm"] if accelerator == "tcg" else [])]
    command = [program, *options, "-r", str(kernel), "-e", f"echo {WORD.decode()}"]
    before = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as vng:
        assert vng.stdout is not None
        said = vng.stdout.readline()
        took = time.monotonic() - before
        assert WORD in said, f"virtme-ng said {said!r}"
        vng.wait(TIMEOUT_S)
    return took


def main() -> int:
    """Measure and say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerator", choices=["tcg", "kvm"], default="tcg")
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    found = environments.get(f"qemu-{options.accelerator}").availability()
    kernel = guest_kernel.find()
    if not isinstance(found, Available) or kernel is None:
        print(f"qemu-{options.accelerator}: {found}")
        return 1
    pairs = []
    for number in range(options.pairs):
        order = random.sample(["ours", "theirs"], 2)
        took = {
            who: ours(options.accelerator) if who == "ours" else theirs(options.accelerator, kernel.image)
            for who in order
        }
        pairs.append(took)
        print(f"pair {number + 1}: vprobe {took['ours']:.2f} s, virtme-ng {took['theirs']:.2f} s", flush=True)
    ratios = [pair["theirs"] / pair["ours"] for pair in pairs]
    medians = [statistics.median(pair[who] for pair in pairs) for who in ("ours", "theirs")]
    print(
        f"qemu-{options.accelerator}, Linux {kernel.release}: vprobe {medians[0]:.2f} s, virtme-ng {medians[1]:.2f} s; "
        f"{statistics.median(ratios):.1f} times as fast, at least {min(ratios):.1f}"
    )
    return 0 if min(ratios) > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
