"""What a processor does alone: no memory beyond the first cache, no system calls."""

from __future__ import annotations

import hashlib
import random
import zlib

from . import Block, HostFacts, KernelCall, workload

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


@workload("cpu.integer_chain")
def integer_chain(facts: HostFacts) -> KernelCall:
    """A chain of dependent integer operations: the core's clock, as seen from inside."""
    del facts
    return KernelCall("integer_chain")


@workload("cpu.float_chain")
def float_chain(facts: HostFacts) -> KernelCall:
    """A chain of dependent double-precision operations (SSE2)."""
    del facts
    return KernelCall("float_chain")


@workload("cpu.integer_throughput", core=False)
def integer_throughput(facts: HostFacts) -> KernelCall:
    """Sixteen operations on independent integers: what the core does at once, not one after the other."""
    del facts
    return KernelCall("integer_throughput")


ALWAYS_TAKEN, UNPREDICTABLE = 2**64 - 1, 1


@workload(
    "cpu.branches", core=False, parameters={"predicted": {"mask": ALWAYS_TAKEN}, "random": {"mask": UNPREDICTABLE}}
)
def branches(facts: HostFacts, mask: int) -> KernelCall:
    """A branch that is always taken, or taken at random: the difference is half a misprediction."""
    del facts
    return KernelCall("branches", arguments=(mask,))


@workload("cpu.vector", core=False, parameters={"sse2": {"kernel": "vector_sse2"}, "avx2": {"kernel": "vector_avx2"}})
def vector(facts: HostFacts, kernel: str) -> KernelCall:
    """Multiply and add on eight independent vector registers of doubles."""
    del facts
    return KernelCall(kernel)


@workload("cpu.sha256", kind="python", needs=("python",), parameters={"": {"length": 16384}})
def sha256(length: int) -> Block:
    """SHA-256 of 16 KiB by Python's hashlib, a digest an operation."""
    data = generated_text(length)
    digest = hashlib.sha256

    def run(iterations: int) -> None:
        for _ in range(iterations):
            digest(data).digest()

    return run


@workload("cpu.zlib", kind="python", needs=("python",), parameters={"": {"length": 4096, "level": 6}})
def compress(length: int, level: int) -> Block:
    """zlib compression of 4 KiB of generated text at level 6, each with an empty window.

    One compressor is used again and again: zlib.compress() would allocate 260 KiB a call, and whether that comes from the
    heap or from fresh pages differs from process to process by a factor of two.
    """
    data = generated_text(length)
    compressor = zlib.compressobj(level)
    deflate, flush = compressor.compress, compressor.flush

    def run(iterations: int) -> None:
        for _ in range(iterations):
            deflate(data)
            flush(zlib.Z_FULL_FLUSH)

    return run
