"""Dumps as text: `cpuid -r`, and AIDA64 / EVEREST / InstLatX64. Recognised by their lines, not by names or headers.

Whatever surrounds the lines is passed over; encodings and line ends of every system are taken. A line that begins like a
record but is not a whole one is left out and noted.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from vprobe.errors import InvalidFileError
from vprobe.probe.raw import Leaves, Origin, Raw, Registers, Unread

MAXIMUM_CPUS = 8192
MAXIMUM_LEAVES = 1024  # of one CPU
MAXIMUM_MSRS = 4096  # of one CPU
MAXIMUM_NOTES = 5
LONGEST_LINE = 512
SAMPLE_LINES = 20_000
"""How far a text is read to tell which of the two formats it is."""

WORD = "[0-9a-f]{8}"
JOIN = r"(?:-|[\s,;]{1,4})"
GAP = r"[\s:;=,|\"]{1,80}"
AIDA_CPUID = re.compile(
    rf"CPUID\s+({WORD}){GAP}({WORD}){JOIN}({WORD}){JOIN}({WORD}){JOIN}({WORD})(?![-0-9a-f])(?:.*?\[SL\s*([0-9a-f]{{1,8}})\])?",
    re.I,
)
AIDA_MSR = re.compile(
    rf"MSR\s+({WORD})\b(?:\s*[\[(][^\])]{{0,40}}[\])])?{GAP}"
    r"(?:([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})|([0-9a-f]{8})-?([0-9a-f]{8}))(?![-0-9a-f])",
    re.I,
)
AIDA_MSR_FAILED = re.compile(rf"MSR\s+({WORD})\b.*<\s*FAILED\s*>", re.I)
AIDA_LIKE = re.compile(r"^\W*(CPUID|MSR)\s+[0-9a-f]{4,8}\b", re.I)
AIDA_SECTION = re.compile(r"^\s*-{2,}\s*\[(.{0,120}?)\]", re.I)

REGISTER = r"[\s,]*e{}x\s*[=:]\s*(?:0x)?([0-9a-f]{{1,8}})\b"
REGISTERS = "".join(REGISTER.format(letter) for letter in "abcd")
CPUID_LINE = re.compile(
    rf"(?:eax in:\s*)?0x([0-9a-f]{{1,8}})(?:[\s,]+(?:0x)?([0-9a-f]{{1,8}}))?\s*[:,]{REGISTERS}", re.I
)
CPUID_HEADER = re.compile(r"^\s*CPU\s*#?\s*(\d{1,5})?\s*:\s*$", re.I)
CPUID_LIKE = re.compile(r"^\s*0x[0-9a-f]{1,8}\b.*\beax\b", re.I)


class _Cpus:
    """Collects leaves and MSRs by CPU while lines are read."""

    def __init__(self) -> None:
        self.leaves: dict[int, dict[tuple[int, int], Registers]] = {}
        self.msrs: dict[int, dict[int, int | Unread]] = {}
        self.current = 0
        self.numbered = False  # a header with a number was seen
        self.labels: dict[tuple[int, bool], int] = {}  # (number in the header, "virtual") -> CPU
        self.again = False  # the section is of a CPU that was there: the first value of a leaf stands

    def header(self, number: str | None, *, virtual: bool = False, of_msrs: bool = False) -> None:
        """A section begins: of the CPU that it numbers, else of the next one.

        Some dumps give a core's second thread the core's number and call it virtual: "CPU #1", "CPU #1 Virtual", "CPU #2".
        """
        if number is not None:
            self.current, self.numbered = self._labelled(int(number), virtual=virtual, of_msrs=of_msrs), True
        elif self.leaves.get(self.current):
            self.current = max(self.leaves) + 1
        self.again = bool(self.leaves.get(self.current))
        self._bound()

    def _labelled(self, number: int, *, virtual: bool, of_msrs: bool) -> int:
        label = (number, virtual)
        if label not in self.labels:
            if of_msrs and (number, not virtual) in self.labels:
                return self.labels[number, not virtual]
            taken = self.labels.values()
            self.labels[label] = number if number not in taken else max(taken) + 1
        return self.labels[label]

    def leaf(self, leaf: int, subleaf: int | None, registers: Registers) -> bool:
        """A line of CPUID. Leaf 0 again, without a header between, is the next CPU. False: this leaf has other registers."""
        own = self.leaves.setdefault(self.current, {})
        key = (leaf, subleaf or 0)
        if key in own and subleaf is None and not self.again:
            if leaf == 0:
                self.current = max(self.leaves) + 1
                self._bound()
                own = self.leaves.setdefault(self.current, {})
            elif own[key] != registers:
                key = (leaf, 1 + max(number for known, number in own if known == leaf))
        kept = own.setdefault(key, registers) == registers
        if len(own) > MAXIMUM_LEAVES:
            raise InvalidFileError(
                f"CPU {self.current} has more than {MAXIMUM_LEAVES} CPUID leaves", "this is no dump of a real machine"
            )
        return kept

    def msr(self, index: int, value: int | Unread) -> None:
        """A line of an MSR; the first value stands where one was sampled again and again."""
        own = self.msrs.setdefault(self.current, {})
        if len(own) < MAXIMUM_MSRS:
            own.setdefault(index, value)

    def _bound(self) -> None:
        if len(self.leaves) > MAXIMUM_CPUS or self.current > 0xFFFF:
            raise InvalidFileError(f"more than {MAXIMUM_CPUS} CPUs", "this is no dump of a real machine")


def to_text(content: bytes) -> str:
    """Text of a file in UTF-8, UTF-16 of either order, with or without a mark, or Latin-1."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    sample = content[:4096]
    if len(sample) >= 4 and sample.count(0) > len(sample) // 4:
        order = "utf-16-le" if sample[1::2].count(0) >= sample[::2].count(0) else "utf-16-be"
        return content.decode(order, "replace")
    return content.removeprefix(b"\xef\xbb\xbf").decode("latin-1").replace("\0", "")


def parse_text(text: str) -> tuple[Raw, tuple[str, ...]]:
    """The dump in the text, and notes on lines that were left out. InvalidFileError where there is none."""
    lines = [line[:LONGEST_LINE] for line in text.splitlines()]
    aida = sum(bool(AIDA_CPUID.search(line)) for line in lines[:SAMPLE_LINES])
    plain = sum(bool(CPUID_LINE.search(line)) for line in lines[:SAMPLE_LINES])
    cpus, notes = _read_aida(lines) if aida >= plain else _read_cpuid(lines)
    if not cpus.leaves:
        raise InvalidFileError(
            "no CPUID leaf in this text",
            "give a capture of `vprobe probe --capture`, the text of `cpuid -r`, or an AIDA64 / InstLatX64 dump",
        )
    leaves: dict[int, Leaves] = {cpu: dict(sorted(own.items())) for cpu, own in sorted(cpus.leaves.items()) if own}
    raw = Raw(
        origin=Origin.AIDA_TEXT if aida >= plain else Origin.CPUID_TEXT,
        cpuid=leaves,
        msrs={cpu: dict(sorted(own.items())) for cpu, own in sorted(cpus.msrs.items())},
        cpu_count=len(leaves) if len(leaves) > 1 or cpus.numbered else _only_cpu(leaves),
        tree_complete=False,
    )
    return raw, notes


def _only_cpu(leaves: dict[int, Leaves]) -> int | None:
    """A dump of one CPU without a number: of all CPUs where it has no hyper-threading flag, else one of several."""
    features = next(iter(leaves.values())).get((1, 0))
    return 1 if features and not features[3] >> 28 & 1 else None


def _read_aida(lines: Iterable[str]) -> tuple[_Cpus, tuple[str, ...]]:
    cpus, notes = _Cpus(), []
    for number, line in enumerate(lines, 1):
        if match := AIDA_CPUID.search(line):
            leaf, a, b, c, d = (int(word, 16) for word in match.groups()[:5])
            if not cpus.leaf(leaf, int(match[6], 16) if match[6] else None, (a, b, c, d)):
                notes.append(_repeated(number, line))
        elif match := AIDA_MSR.search(line):
            cpus.msr(int(match[1], 16), int("".join(part for part in match.groups()[1:] if part), 16))
        elif match := AIDA_MSR_FAILED.search(line):
            cpus.msr(int(match[1], 16), Unread(errno.EIO))
        elif AIDA_LIKE.match(line):
            notes.append(_broken(number, line))
        else:
            _aida_header(line, cpus)
    return cpus, _bounded(notes)


def _broken(number: int, line: str) -> str:
    return f"line {number} is not a whole record and was left out: {line.strip()[:60]}"


def _repeated(number: int, line: str) -> str:
    return f"line {number} gives other registers for a leaf that was there, and was left out: {line.strip()[:60]}"


def _bounded(notes: list[str]) -> tuple[str, ...]:
    """The first notes, and how many more there are."""
    more = len(notes) - MAXIMUM_NOTES
    return (*notes[:MAXIMUM_NOTES], *([f"{more} more lines were left out likewise"] if more > 0 else ()))


def _aida_header(line: str, cpus: _Cpus) -> None:
    """ "------[ CPUID Registers / Logical CPU #0 ]------", "CPUID Registers (CPU #2 Virtual):" and their like."""
    section = AIDA_SECTION.match(line)
    title = section[1] if section else line if line.lstrip().startswith(("CPUID Registers", "MSR Registers")) else ""
    if not title:
        return
    numbered = re.search(r"CPU\s*#\s*(\d{1,5})\b\s*(virtual)?", title, re.I)
    if numbered:
        cpus.header(numbered[1], virtual=bool(numbered[2]), of_msrs=bool(re.search(r"msr", title, re.I)))
    elif re.search(r"logical cpu|cpuid registers", title, re.I):
        cpus.header(None)
    elif re.search(r"msr", title, re.I) and cpus.leaves:
        cpus.current = min(cpus.leaves)


def _read_cpuid(lines: Iterable[str]) -> tuple[_Cpus, tuple[str, ...]]:
    cpus, notes = _Cpus(), []
    for number, line in enumerate(lines, 1):
        if match := CPUID_LINE.search(line):
            leaf, a, b, c, d = (int(match[group], 16) for group in (1, 3, 4, 5, 6))
            if not cpus.leaf(leaf, int(match[2], 16) if match[2] else None, (a, b, c, d)):
                notes.append(_repeated(number, line))
        elif match := CPUID_HEADER.match(line):
            cpus.header(match[1])
        elif CPUID_LIKE.match(line):
            notes.append(_broken(number, line))
    return cpus, _bounded(notes)


def format_cpuid(raw: Raw) -> str:
    """Every leaf of every CPU, as `cpuid -r` prints them."""
    lines = []
    for cpu, leaves in raw.cpuid.items():
        lines.append(f"CPU {cpu}:")
        for (leaf, subleaf), (a, b, c, d) in leaves.items():
            lines.append(f"   0x{leaf:08x} 0x{subleaf:02x}: eax=0x{a:08x} ebx=0x{b:08x} ecx=0x{c:08x} edx=0x{d:08x}")
    return "\n".join(lines) + "\n" if lines else ""
