"""Runs in a guest: every workload that the micro-VM can run, through the agent's own code, and what guest code saw of itself.

    microvm.py [MEMORY_MIB] [LEFT_OUT…]

Prints one JSON object: workload -> ["ran", inside_ns] or ["skipped" or "failed", reason]; and "evidence".
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

from vprobe.suites import HostFacts, UnsupportedError, catalog

from vprobe import _native
from vprobe.environments.kvm import Kvm
from vprobe.measure.agent import Agent

NONCE = 0x0123_4567_89AB_CDEF_FEDC_BA98
FACTS = HostFacts({1: 32 << 10, 2: 256 << 10, 3: 8 << 20})
MEMORY_LIMIT = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 1 << 62


def run(agent, workload):
    up_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    Path("/dev/console").write_text(f"lab: step: {workload.name} in the micro-VM, begun after {up_s:.2f} s\n")
    request = {"workload": workload.name, "parameters": dict(workload.parameters)}
    if workload.name in sys.argv[2:]:
        return "skipped", "needs what this machine does not do"
    if workload.kind == "kernel":
        try:
            call = dataclasses.asdict(workload.make(FACTS, **workload.parameters))
        except UnsupportedError as error:
            return "skipped", str(error)
        if call["memory_bytes"] > MEMORY_LIMIT:
            return "skipped", f"needs {call['memory_bytes']} bytes"
        request = {"call": call}
    reply = ask(agent, "prepare", **request)
    if "error" not in reply:
        reply = ask(agent, "block", warm=1, iterations=8)
        ask(agent, "release")
    if "error" in reply:
        return ("skipped" if reply["unsupported"] else "failed"), reply["error"]
    return "ran", reply["ns"]


def ask(agent, operation, **request):
    return agent.answer(json.dumps({"id": 1, "op": operation, "handle": 1, **request}).encode())


agent = Agent({"executor": "microvm", "nonce": NONCE})
answers = {
    name: run(agent, workload)
    for name, workload in catalog().items()
    if workload.kind in {"kernel", "python"} and workload.needs <= Kvm().capabilities
}
with _native.MicroVM(1 << 20, 4096, NONCE) as machine, _native.KernelHost(1 << 20) as host:
    evidence = machine.evidence()
    evidence["nonce_arrived"] = evidence.pop("nonce") == NONCE
    evidence["same_result"] = all(
        machine.run(kernel, 1, 50, 7)[1] == host.run(kernel, 1, 50, 7)[1]
        for kernel in ("integer_chain", "integer_throughput", "float_chain", "branches", "vector_sse2", "random_access")
    )
    evidence["hypercall_refused"] = machine.run("hypercall", 1, 3)[1] == 2**64 - 1
json.dump({"workloads": answers, "evidence": evidence}, sys.stdout)
