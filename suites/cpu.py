"""What a processor does alone: no memory beyond the first cache, no system calls."""

from __future__ import annotations

import hashlib
import itertools
import lzma
import random
import zlib
from collections.abc import Callable, Iterator

from . import QUICK, Block, HostFacts, KernelCall, programs, workload

PIECES_BYTES = 128 * 1024
WORDS = (
    "the",
    "guest",
    "exits",
    "to",
    "host",
    "when",
    "a",
    "page",
    "is",
    "not",
    "present",
    "and",
    "returns",
    "after",
    "it",
)


def generated_text(length: int) -> bytes:
    """English-like bytes that compress about as prose does; the same everywhere."""
    source = random.Random(1)
    words: list[str] = []
    size = 0
    while size < length:
        word = source.choice(WORDS) if source.random() < 0.8 else format(source.randrange(1 << 24), "x")
        words.append(word)
        size += len(word) + 1
    return " ".join(words).encode()[:length]


@workload("cpu.integer_chain", level=QUICK)
def integer_chain(facts: HostFacts) -> KernelCall:
    """A chain of dependent integer operations: the core's clock, as seen from inside."""
    del facts
    return KernelCall("integer_chain")


@workload("cpu.float_chain", level=QUICK)
def float_chain(facts: HostFacts) -> KernelCall:
    """A chain of dependent double-precision operations (SSE2)."""
    del facts
    return KernelCall("float_chain")


@workload("cpu.integer_throughput")
def integer_throughput(facts: HostFacts) -> KernelCall:
    """Sixteen operations on independent integers: what the core does at once, not one after the other."""
    del facts
    return KernelCall("integer_throughput")


ALWAYS_TAKEN, UNPREDICTABLE = 2**64 - 1, 1


@workload("cpu.branches", parameters={"predicted": {"mask": ALWAYS_TAKEN}, "random": {"mask": UNPREDICTABLE}})
def branches(facts: HostFacts, mask: int) -> KernelCall:
    """A branch that is always taken, or taken at random: the difference is half a misprediction."""
    del facts
    return KernelCall("branches", arguments=(mask,))


@workload("cpu.vector", parameters={"sse2": {"kernel": "vector_sse2"}, "avx2": {"kernel": "vector_avx2"}})
def vector(facts: HostFacts, kernel: str) -> KernelCall:
    """Multiply and add on eight independent vector registers of doubles."""
    del facts
    return KernelCall(kernel)


MATRICES_BYTES = 3 * 256 * 256 * 8


@workload("cpu.dgemm", parameters={"sse2": {"kernel": "matrix_sse2"}, "avx2": {"kernel": "matrix_avx2"}})
def dgemm(facts: HostFacts, kernel: str) -> KernelCall:
    """Blocked product of two matrices of 256 x 256 doubles; an operation is a block of 64 x 64 x 64, 524,288 flop."""
    del facts
    return KernelCall(kernel, memory_bytes=MATRICES_BYTES)


@workload("cpu.two_cores", needs=("kernels", "os", "two_cpus"))
def two_cores(facts: HostFacts) -> KernelCall:
    """As cpu.integer_throughput, while a second CPU does the same: what a busy neighbour takes from a core."""
    del facts
    return KernelCall("integer_throughput", partner="integer_throughput")


@workload("cpu.sha256", kind="python", needs=("python",), parameters={"": {"length": 16384}}, level=QUICK)
def sha256(length: int) -> Block:
    """SHA-256 of 16 KiB by Python's hashlib, a digest an operation."""
    data = generated_text(length)
    digest = hashlib.sha256

    def run(iterations: int) -> None:
        for _ in range(iterations):
            digest(data).digest()

    return run


def pieces_of_text(length: int) -> Iterator[bytes]:
    """Pieces of generated text, 128 KiB in all, round and round from a random one on.

    A CPU learns the branches of one piece by heart within some twenty passes, and keeps them through the blocks of other arms
    that run the same code at the same addresses: bare was 14 % faster than a chroot, whose overlay has libraries elsewhere.
    """
    text = generated_text(PIECES_BYTES)
    pieces = [text[at : at + length] for at in range(0, PIECES_BYTES, length)]
    return itertools.islice(itertools.cycle(pieces), random.randrange(len(pieces)), None)


@workload("cpu.zlib", kind="python", needs=("python",), parameters={"": {"length": 4096, "level": 6}}, level=QUICK)
def compress(length: int, level: int) -> Block:
    """zlib compression of 4 KiB of generated text at level 6, each with an empty window.

    One compressor is used again and again: zlib.compress() would allocate 260 KiB a call, and whether that comes from the
    heap or from fresh pages differs from process to process by a factor of two.
    """
    pieces = pieces_of_text(length)
    compressor = zlib.compressobj(level)
    deflate, flush = compressor.compress, compressor.flush

    def run(iterations: int) -> None:
        for piece in itertools.islice(pieces, iterations):
            deflate(piece)
            flush(zlib.Z_FULL_FLUSH)

    return run


@workload("cpu.xz", kind="python", needs=("python",), parameters={"": {"length": 16384, "preset": 1}})
def compress_xz(length: int, preset: int) -> Block:
    """LZMA2 compression (as xz -1) of 16 KiB of generated text, with a dictionary of 64 KiB."""
    pieces = pieces_of_text(length)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": 1 << 16}]

    def run(iterations: int) -> None:
        for piece in itertools.islice(pieces, iterations):
            lzma.compress(piece, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)

    return run


PROGRAMS: dict[str, Callable[[], Callable[[], object]]] = {
    "bodies": programs.bodies,
    "words": lambda: programs.words(generated_text(2048).decode()),
    "trees": programs.trees,
    "queens": programs.queens,
}


@workload("cpu.python", kind="python", needs=("python",), parameters={name: {"program": name} for name in PROGRAMS})
def python_program(program: str) -> Block:
    """A program in Python alone: bodies (floats, lists), words (strings, dictionaries), trees (objects), queens (generators)."""
    once = PROGRAMS[program]()

    def run(iterations: int) -> None:
        for _ in range(iterations):
            once()

    return run
