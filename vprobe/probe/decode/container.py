"""Is this process in a container, and whose? Namespace inodes weigh more than what files and variables claim.

All fixed namespaces initial and / the root of PID 1: claims are contradicted. A private pid or user namespace with a foreign
root: a container. A private mount or network namespace alone is evidence of nothing: any service may have one.
"""

from __future__ import annotations

from vprobe.probe.decode.claims import Claim, certain_claim, engine_claims, is_corroborated
from vprobe.probe.decode.namespaces import Namespaces, decode_namespaces
from vprobe.probe.facts import Fact
from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.states import State, VirtClass

CLASSES = {"gvisor": VirtClass.USER_SPACE_KERNEL}
"""Every other kind shares one kernel among many user spaces."""


class Container(Record):
    """The container object of the document. `kind` "none": not in a container; None: not known."""

    fact: Fact
    kind: str | None
    virt_class: str | None
    contradicted: tuple[str, ...]


def decode_container(raw: Raw) -> Container:
    """The kind of container, the evidence for it, and the evidence against which it stands."""
    certain = certain_claim(raw)
    if certain:
        return _found(certain.kind, "", (certain.source,))
    namespaces = decode_namespaces(raw)
    claims = engine_claims(raw, namespaces)
    evidence = _namespace_evidence(raw, namespaces)
    if namespaces.all_initial:
        return _in_initial_namespaces(namespaces, claims, evidence)
    if namespaces.initial:
        return _in_private_namespaces(namespaces, claims, evidence)
    return _without_namespaces(raw, namespaces, claims, evidence)


def _found(kind: str, reason: str, evidence: tuple[str, ...], contradicted: tuple[str, ...] = ()) -> Container:
    virt_class = CLASSES.get(kind, VirtClass.OS_LEVEL)
    return Container(Fact(State.PRESENT, reason, "", evidence), kind, virt_class, contradicted)


def _none(reason: str, evidence: tuple[str, ...], contradicted: tuple[str, ...] = ()) -> Container:
    return Container(Fact(State.ABSENT, reason, "", evidence), "none", VirtClass.NONE, contradicted)


def _namespace_evidence(raw: Raw, namespaces: Namespaces) -> tuple[str, ...]:
    evidence = [
        f"{kind} namespace: {'initial' if initial else 'private'}" for kind, initial in namespaces.initial.items()
    ]
    if namespaces.same_root_as_first_process is not None:
        evidence.append("/ is " + ("" if namespaces.same_root_as_first_process else "not ") + "the root of PID 1")
    elif namespaces.initial:
        failure = raw.status.get("/proc/1/root")
        evidence.append("root of PID 1: " + (failure.name if isinstance(failure, Unread) else "not recorded"))
    if namespaces.foreign_root:
        evidence.append(namespaces.foreign_root)
    return tuple(evidence)


def _in_initial_namespaces(namespaces: Namespaces, claims: tuple[Claim, ...], evidence: tuple[str, ...]) -> Container:
    contradicted = tuple(dict.fromkeys(claim.source for claim in claims))
    no_root_mount = namespaces.mounts is not None and bool(namespaces.mounts) and namespaces.root_mount is None
    if namespaces.same_root_as_first_process is False or (
        namespaces.same_root_as_first_process is None and no_root_mount
    ):
        return _found("chroot", "the machine's own namespaces, but another root than PID 1's", evidence, contradicted)
    if namespaces.same_root_as_first_process is None and namespaces.foreign_root:
        reason = f"{namespaces.foreign_root}, and it could not be read whether that is PID 1's root"
        return Container(Fact(State.UNKNOWN, reason, "run as root", evidence), None, None, contradicted)
    reason = "all namespaces are the machine's initial ones"
    if contradicted:
        reason += ": " + ", ".join(contradicted) + " stale"
    return _none(reason, evidence, contradicted)


def _in_private_namespaces(namespaces: Namespaces, claims: tuple[Claim, ...], evidence: tuple[str, ...]) -> Container:
    separated = {"pid", "user"} & set(namespaces.private)
    foreign = namespaces.foreign_root or namespaces.same_root_as_first_process is False
    trusted = tuple(claim for claim in claims if is_corroborated(claim, namespaces))
    stale = tuple(claim.source for claim in claims if claim not in trusted)
    if trusted:
        return _named(trusted, evidence, stale)
    if separated and foreign:
        return _found("oci", "private namespaces and a root of its own, but no engine names itself", evidence, stale)
    if foreign and len(namespaces.private) >= 2:
        return _found("oci", "a root of its own and private namespaces beside the machine's processes", evidence, stale)
    if separated:
        return _found("namespaces", "private namespaces on the machine's own root", evidence, stale)
    if namespaces.same_root_as_first_process is False:
        return _found("chroot", "another root than PID 1's", evidence, stale)
    return _none("its private namespaces are those that any service may have", evidence, stale)


def _has_own_cgroup(raw: Raw) -> str:
    """Only control groups below the first have these files: / of the hierarchy is not the machine's own. "" otherwise."""
    names = ("/sys/fs/cgroup/cgroup.events", "/sys/fs/cgroup/cgroup.type")
    return "/sys/fs/cgroup is not the machine's first control group" if all(map(raw.exists, names)) else ""


def _without_namespaces(
    raw: Raw, namespaces: Namespaces, claims: tuple[Claim, ...], evidence: tuple[str, ...]
) -> Container:
    """A tree that recorded no namespaces: what names an engine, then the root and the control group tell."""
    if claims:
        return _named(claims, evidence, ())
    own_cgroup = _has_own_cgroup(raw)
    if namespaces.is_engines_root:
        return _found("oci", f"{namespaces.foreign_root}, but no engine names itself", evidence)
    if own_cgroup:
        return _found("container-other", own_cgroup, (*evidence, own_cgroup))
    if namespaces.foreign_root:
        reason = f"{namespaces.foreign_root}, and the namespaces were not recorded"
        return Container(Fact(State.UNKNOWN, reason, "record /proc/self/ns, too", evidence), None, None, ())
    witnesses = ("/proc/1/cgroup", "/proc/self/cgroup", "/proc/1/environ", "/proc/self/mountinfo")
    if any(isinstance(raw.read(path), bytes) for path in witnesses):
        return _none("nothing recorded names a container", evidence)
    fact = Fact(State.UNKNOWN, "neither namespaces nor an engine's traces were recorded", "", evidence)
    return Container(fact, None, None, ())


def _named(claims: tuple[Claim, ...], evidence: tuple[str, ...], stale: tuple[str, ...]) -> Container:
    """A container whose engine something names; what names another one is contradicted."""
    kind = _kind(claims)
    agreeing = tuple(claim for claim in claims if claim.kind in {kind, "oci"})
    other = tuple(claim for claim in claims if claim not in agreeing)
    contradicted = tuple(dict.fromkeys((*_sources(other), *stale)))
    return _found(kind, "", evidence + _sources(agreeing), contradicted)


def _kind(claims: tuple[Claim, ...]) -> str:
    """The first claim's kind; "oci" says only that a runtime is at work, so that a marker file may name the engine."""
    named = [claim.kind for claim in claims if claim.kind != "oci"]
    return named[0] if named else "oci"


def _sources(claims: tuple[Claim, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(claim.source for claim in claims))
