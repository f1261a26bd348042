"""`vprobe guest prepare`: shows what it would fetch for Linux guests, and does it when told to."""

from __future__ import annotations

import click
import msgspec

from vprobe.environments import guest_kernel, guest_package
from vprobe.environments.guest_kernel import Kernel
from vprobe.environments.guest_package import Offer

MEBIBYTE = 1 << 20


def describe(what: Offer) -> list[str]:
    """What would happen, line by line."""
    lines = [
        f"{package.name} {package.version}: {package.download_bytes / MEBIBYTE:.0f} MiB to fetch"
        for package in what.packages
    ]
    return [
        *lines,
        f"by {what.tool.program} from the distribution's own archive, unpacked into {what.place}, never installed",
        f"it takes at most {what.unpacked_bytes / MEBIBYTE:.0f} MiB there; remove the directory to be rid of it",
    ]


@click.group("guest")
def command() -> None:
    """Linux guests (qemu-kvm, qemu-tcg) boot the distribution's kernel, or the one that --kernel names."""


def as_json(what: Offer, kernel: Kernel | None) -> str:
    """One document: the packages, where they go, and the kernel that is there now."""
    document = {
        "packages": [
            {
                "name": package.name,
                "version": package.version,
                "download_bytes": package.download_bytes,
                "unpacked_bytes": package.unpacked_bytes,
            }
            for package in what.packages
        ],
        "tool": what.tool.program,
        "directory": str(what.place),
        "prepared": kernel.release if kernel else None,
    }
    return msgspec.json.encode(document).decode()


@command.command("prepare")
@click.option("--yes", is_flag=True, help="Do it, and not only say what would be done.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document.")
def prepare(yes: bool, json_output: bool) -> None:
    """Fetch the distribution's kernel package for guests into the cache.

    Without --yes it says what it would fetch, how large that is and where it would go, and changes nothing.
    """
    what = guest_package.offer()
    kernel = guest_kernel.find_in(what.place) if what.place.is_dir() else None
    was_there = kernel is not None
    if not was_there and not json_output:
        click.echo("\n".join(describe(what)))
    if not was_there and yes:
        kernel = guest_kernel.find_in(guest_package.prepare(what))
    if json_output:
        click.echo(as_json(what, kernel))
    elif kernel is None:
        click.echo("nothing was fetched: vprobe guest prepare --yes does it")
    else:
        click.echo(f"{'already there' if was_there else 'prepared'}: kernel {kernel.release} in {what.place}")
