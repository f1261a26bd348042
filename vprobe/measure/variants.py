"""Variants: what is compared inside each environment, both sides in one session."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vprobe import environments
from vprobe.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
GUEST_SPECS = ("kernel", "qemu")
RESERVED = ("baseline",)
"""Words that a rule of the gate takes as a base of another kind; so are the environments' names."""


@dataclass(frozen=True)
class Variant:
    """One side. `command` is run instead of --command; `revision` is checked out into `tree`; `variables` join the
    agent's environment; `kernel` and `qemu` make Linux guests."""

    name: str
    command: str | None = None
    revision: str | None = None
    tree: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    kernel: Path | None = None
    qemu: str | None = None

    @property
    def of_guests(self) -> bool:
        """Whether it makes a difference in Linux guests alone."""
        return self.kernel is not None or self.qemu is not None


NO_VARIANT = Variant("")


def parse_variant(text: str) -> Variant:
    """NAME=SPEC; SPEC is git:REV, env:VAR=VALUE or a command. UsageError says what is wrong with it."""
    name, separator, spec = text.partition("=")
    if not separator or not NAME.fullmatch(name) or not spec.strip():
        raise UsageError(f"--variant {text!r} is not NAME=SPEC", "for example --variant head=git:HEAD")
    scheme, colon, rest = spec.partition(":")
    if colon and scheme == "git":
        return Variant(name, revision=rest)
    if colon and scheme == "env":
        variable, equals, value = rest.partition("=")
        if not equals or not variable:
            raise UsageError(f"--variant {text!r}: env: takes VAR=VALUE")
        return Variant(name, variables={variable: value})
    if colon and scheme in GUEST_SPECS:
        if not rest:
            raise UsageError(f"--variant {text!r}: {scheme}: takes a file", f"for example {name}={scheme}:FILE")
        return Variant(name, kernel=Path(rest)) if scheme == "kernel" else Variant(name, qemu=rest)
    return Variant(name, command=spec)


def parse_variants(texts: Sequence[str], own: str | None) -> tuple[Variant, ...]:
    """All variants of a command line. `own`: what --command or --pytest names. UsageError where they do not fit together."""
    variants = tuple(parse_variant(text) for text in texts)
    names = [variant.name for variant in variants]
    for name in names:
        if name in RESERVED or name in environments.names():
            raise UsageError(f"--variant {name}: that name means something else in rules", "name it otherwise")
        if names.count(name) > 1:
            raise UsageError(f"--variant {name} is given twice")
    if len(variants) == 1:
        raise UsageError("one --variant alone has nothing to be compared with", "give two or more")
    with_command = [variant.name for variant in variants if variant.command]
    if with_command and len(with_command) < len(variants):
        raise UsageError("some variants are commands and some are not", "make all of them commands, or give --command")
    if len({variant.of_guests for variant in variants}) > 1:
        raise UsageError("some variants are guests' and some are not", "make all of them kernel: or qemu:, or none")
    if with_command and own:
        raise UsageError("variants that are commands leave no place for --command or --pytest", "drop one of the two")
    if own is None and any(variant.revision for variant in variants):
        raise UsageError("git: variants need --command or --pytest", "either is run in each revision's files")
    return variants


def _git(arguments: Sequence[str], directory: Path) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, check=False)
    except FileNotFoundError:
        raise UsageError("git: variants need git, which is not installed", "apt-get install git") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["git failed"]
        raise UsageError(f"git {arguments[0]}: {lines[-1]}", "name a revision of the repository that you are in")
    return done.stdout


def check_out(variant: Variant, working_directory: Path, into: Path) -> Variant:
    """A git: variant with its files unpacked below `into`; any other one as it is.

    `git archive` and not a work tree, because nothing is to be written into the user's repository.
    """
    if variant.revision is None:
        return variant
    revision = _git(["rev-parse", "--verify", "--end-of-options", f"{variant.revision}^{{commit}}"], working_directory)
    top = Path(_git(["rev-parse", "--show-toplevel"], working_directory).decode().strip())
    prefix = _git(["rev-parse", "--show-prefix"], working_directory).decode().strip()
    archive = _git(["archive", "--format=tar", revision.decode().strip()], top)
    tree = into / f"tree-{variant.name}"
    tree.mkdir()
    # tar(1), since the filters that make tarfile safe are missing from the Python of Debian 12.
    subprocess.run(["tar", "--extract", "--directory", tree], input=archive, check=True)
    place = tree / prefix
    if not place.is_dir():
        raise UsageError(
            f"{variant.revision} has no directory {prefix!r}", "run vprobe where both revisions have files"
        )
    return replace(variant, tree=place)
