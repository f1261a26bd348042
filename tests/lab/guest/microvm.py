"""Runs in a guest: every workload that the micro-VM can run, through the agent's own code, and what guest code saw of itself.

Prints one JSON object: workload -> ["ran", inside_ns] or ["skipped" or "failed", reason]; and "evidence".
"""

import dataclasses
import json
import sys

from vprobe.suites import HostFacts, UnsupportedError, catalog

from vprobe import _native
from vprobe.measure.agent import BadRequestError, KernelRunner

NONCE = 0x0123_4567_89AB_CDEF_FEDC_BA98
FACTS = HostFacts({1: 32 << 10, 2: 256 << 10, 3: 8 << 20})
HOST_ONLY = {"getpid", "clock_gettime", "read", "pipe_round_trip", "fork_wait"}
MEMORY_LIMIT = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 1 << 62


def run(workload):
    try:
        made = workload.make(*([FACTS] if workload.kind == "kernel" else []), **workload.parameters)
    except UnsupportedError as error:
        return "skipped", str(error)
    if workload.kind == "python":
        return "ran", made(1)
    if made.kernel in HOST_ONLY:
        return "skipped", "system calls are the host's"
    call = dataclasses.asdict(made)
    call["memory_bytes"] = min(call["memory_bytes"], MEMORY_LIMIT)
    try:
        runner = KernelRunner(call, "microvm", 1.0, NONCE)
    except BadRequestError as error:
        return ("skipped" if error.unsupported else "failed"), str(error)
    try:
        return "ran", runner.block(1, 8)[0]
    finally:
        runner.close()


answers = {}
for name, workload in catalog().items():
    if workload.kind == "kernel" or (workload.kind == "python" and "microvm" in workload.needs):
        try:
            answers[name] = run(workload)
        except (OSError, RuntimeError, ValueError) as error:
            answers[name] = ("failed", f"{type(error).__name__}: {error}")
with _native.MicroVM(1 << 20, 4096, NONCE) as machine, _native.KernelHost(1 << 20) as host:
    evidence = machine.evidence()
    evidence["nonce_arrived"] = evidence.pop("nonce") == NONCE
    evidence["same_result"] = all(
        machine.run(kernel, 1, 50, 7)[1] == host.run(kernel, 1, 50, 7)[1]
        for kernel in ("integer_chain", "integer_throughput", "float_chain", "branches", "vector_sse2", "random_access")
    )
    evidence["hypercall_refused"] = machine.run("hypercall", 1, 3)[1] == 2**64 - 1
json.dump({"workloads": answers, "evidence": evidence}, sys.stdout)
