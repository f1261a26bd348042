"""The agent: runs inside an environment, performs blocks of workloads and answers over its standard input and output.

Standard library and, where it can be loaded, vprobe._native; nothing else. One JSON object a line, one answer a request,
in order. The controller is trusted, what arrives is checked all the same: a line is at most MAX_LINE_BYTES long, numbers
are integers within bounds. The agent ends at end of file, so that it never outlives a controller that was killed.
"""

from __future__ import annotations

import time

STARTED_NS = time.monotonic_ns()  # before anything else is imported: the end of the engine's share of the start-up

import contextlib  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from typing import Any, Callable, Collection, Iterator, NoReturn  # noqa: E402, UP035 - the agent also runs where Python is older

from vprobe.measure import evidence  # noqa: E402

try:
    from vprobe import _native as native
except ImportError:
    native = None  # type: ignore[assignment]

MAX_LINE_BYTES = 64 * 1024
MAX_ITERATIONS = 1 << 40
CALIBRATION_NS = 50_000_000
PART_CHARACTERS = 16 * 1024
MAX_NAME = 4096
PVM = "/sys/module/kvm_pvm"
NODES = "/sys/devices/system/node"
LARGE_BYTES = 1 << 20
"""Memory of this size takes milliseconds to make ready: that is done on whatever CPU is free, in several arms at once."""
PAGE_BYTES, LEAST_PAGES = 4096, 1024
"""More than fit between what is mapped already, so that the pages to come lie behind them."""
HEAP_STEP_BYTES, LEAST_OF_THE_HEAP = 16, 64
POOL_STEP_BYTES, LARGEST_IN_POOLS = 16, 512
"""What CPython keeps in pools by size (Objects/obmalloc.c); larger objects come from the C library."""
TAIL_BYTES = 4096
"""How much of a failed command's output goes into the answer."""


class BadRequestError(Exception):
    """The request cannot be done: the text says why. `unsupported`: not an error of ours, the workload does not fit here."""

    def __init__(self, message: str, unsupported: bool = False) -> None:
        super().__init__(message)
        self.unsupported = unsupported


def bounded(request: dict[str, Any], key: str, high: int, low: int = 0) -> int:
    """An integer of the request, or BadRequestError."""
    value = request.get(key)
    if type(value) is not int or not low <= value <= high:
        raise BadRequestError(f"{key} must be an integer from {low} to {high}")
    return value


def cpus_of_node(cpu: int) -> set[int]:
    """The CPUs of the NUMA node of one, which share its memory; empty where Linux does not tell (sysfs, node/*/cpulist)."""
    node: set[int] = set()
    with contextlib.suppress(OSError, ValueError):
        for name in os.listdir(NODES):
            if not name.startswith("node"):
                continue
            with open(f"{NODES}/{name}/cpulist", encoding="ascii") as file:
                ranges = [part.split("-") for part in file.read().strip().split(",") if part]
            found = {number for ends in ranges for number in range(int(ends[0]), int(ends[-1]) + 1)}
            if cpu in found:
                node = found
    return node


@contextlib.contextmanager
def anywhere(cpus: Collection[int]) -> Iterator[None]:
    """Let this thread use more CPUs for a while; none: only those that it may use in any case."""
    pinned = os.sched_getaffinity(0)
    try:
        if cpus:
            os.sched_setaffinity(0, cpus)
        yield
    finally:
        os.sched_setaffinity(0, pinned)


class Hosts:
    """Makes what kernels run in, and keeps the last one for the next kernel: where page tables are nested, making the pages
    of a memory present takes longer than measuring in it. One at a time, so that this takes no more memory."""

    def __init__(self, executor: str, nonce: int) -> None:
        self.executor, self.nonce = executor, nonce
        self.kept: tuple[tuple[int, int], Any] | None = None

    def take(self, memory_bytes: int, page_bytes: int, ring: int) -> Any:
        """A host with so much memory at the address where its kernels see it, all of it present."""
        kept, self.kept = self.kept, None
        if kept is not None:
            kind, host = kept
            if kind == (page_bytes, ring):
                try:
                    host.reuse(memory_bytes)
                    return host
                except ValueError:  # it has less
                    pass
            host.close()
        if self.executor != "microvm":
            return native.KernelHost(memory_bytes, page_bytes)
        if ring == 0 and os.path.isdir(PVM):
            raise BadRequestError(
                "ring 0 is emulated under kvm_pvm: that would be the emulator's cost", unsupported=True
            )
        return native.MicroVM(memory_bytes, page_bytes, self.nonce, ring)

    def give_back(self, host: Any, page_bytes: int, ring: int) -> None:
        """Keep a host, instead of any that is kept."""
        if self.kept is not None:
            self.kept[1].close()
        self.kept = (page_bytes, ring), host


class KernelRunner:
    """A native kernel with its memory, in this process or in a micro-VM."""

    def __init__(
        self,
        call: dict[str, Any],
        hosts: Hosts,
        ns_per_tick: float,
        second_cpu: int | None = None,
        cpus: Collection[int] = (),
    ) -> None:
        if native is None:
            raise BadRequestError("the native extension cannot be loaded here", unsupported=True)
        self.hosts = hosts
        self.kernel = str(call["kernel"])
        self.ns_per_tick = ns_per_tick
        self.memory_bytes = bounded(call, "memory_bytes", 1 << 40)
        self.page_bytes = bounded(call, "page_bytes", 1 << 30)
        self.discards = call["refresh"] == "discard"
        self.tells = str(call["tells"])
        self.echo: tuple[int, int, int] | None = None
        self.answerer: int | None = None
        self.null = -1
        arguments = [int(value) for value in call["arguments"]]
        self.ring = int(call["ring"])
        with anywhere(cpus if self.memory_bytes >= LARGE_BYTES else set()):
            self.host: Any = hosts.take(self.memory_bytes, self.page_bytes, self.ring)
            try:
                self._lay_out(call)
            except BaseException:
                self.close()
                raise
        try:
            self._set_up(call, arguments)
            if call["partner"]:
                self._start_partner(str(call["partner"]), second_cpu)
        except BaseException:
            self.close()
            raise
        self.arguments = tuple(arguments)

    def _lay_out(self, call: dict[str, Any]) -> None:
        if self.host.page_bytes != self.page_bytes:
            had = f"{self.page_bytes} byte pages were asked for and {self.host.page_bytes} byte pages were had"
            raise BadRequestError(had, unsupported=True)
        if call["setup"] == "chase":
            self.host.build_chase(
                0, self.memory_bytes, bounded(call, "stride", 1 << 20, 8), bounded(call, "seed", 1 << 62)
            )

    def _set_up(self, call: dict[str, Any], arguments: list[int]) -> None:
        if call["setup"] == "echo":
            self.echo = native.spawn_echo()
            arguments[:0] = self.echo[1:]
        elif call["setup"] == "null":
            self.null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            arguments.insert(0, self.null)
        elif call["setup"] == "futex":
            self.answerer = native.spawn_futex_echo()
        elif call["setup"] not in ("none", "chase"):
            raise BadRequestError(f"no such setup: {call['setup']!r}")
        try:
            self.host.run(self.kernel, 0, 1, *arguments)
        except ValueError as error:  # this CPU or this guest lacks the instruction
            raise BadRequestError(str(error), unsupported=True) from None

    def _start_partner(self, kernel: str, second_cpu: int | None) -> None:
        if second_cpu is None or os.sched_getaffinity(0) == {second_cpu}:  # a guest has its own numbers
            raise BadRequestError("needs a second CPU", unsupported=True)
        try:
            self.host.start_partner(kernel, second_cpu)
        except OSError as error:
            raise BadRequestError(f"CPU {second_cpu} is not to be had here: {error}", unsupported=True) from None

    def block(self, warm: int, iterations: int) -> tuple[int, int, dict[str, float]]:
        """ns of the timed part, ns of all else that the block takes, and what it tells of itself besides."""
        before = time.perf_counter_ns()
        if self.discards:
            self.host.discard(0, self.memory_bytes)
        waited = run_delay_ns() if self.tells else None
        ticks, result = self.host.run(self.kernel, warm, iterations, *self.arguments)
        total = time.perf_counter_ns() - before
        inside = round(ticks * self.ns_per_tick)
        return inside, max(total - inside, 0), self._details(result, waited) if self.tells else {}

    def _details(self, result: int, waited_before: int | None) -> dict[str, float]:
        details = {self.tells: result * self.ns_per_tick}
        waited = run_delay_ns()
        if waited is not None and waited_before is not None:
            details["lost_outside_ns"] = waited - waited_before
        return details

    def close(self) -> None:
        if self.host.page_bytes == self.page_bytes:
            self.hosts.give_back(self.host, self.page_bytes, self.ring)
        else:
            self.host.close()
        if self.echo is not None:
            pid, to_echo, from_echo = self.echo
            os.close(to_echo)
            os.close(from_echo)
            os.waitpid(pid, 0)
            self.echo = None
        if self.answerer is not None:
            os.kill(self.answerer, signal.SIGKILL)
            os.waitpid(self.answerer, 0)
            self.answerer = None
        if self.null >= 0:
            os.close(self.null)
            self.null = -1


def run_delay_ns() -> int | None:
    """How long this thread was ready to run and did not, as its kernel's scheduler counts (Documentation/scheduler/
    sched-stats.rst, /proc/PID/schedstat); None where it does not tell."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read(128).split()[1])
    except (OSError, ValueError, IndexError):
        return None


class PythonRunner:
    """A workload written in Python."""

    page_bytes = 0

    def __init__(self, name: str, parameters: dict[str, Any], place: dict[str, Any]) -> None:
        from vprobe import suites  # noqa: PLC0415 - only arms that run Python pay for it

        if hasattr(gc, "freeze"):  # not in PyPy
            gc.freeze()  # what is here by now stays: looking through it again when this ends would take milliseconds
        try:
            workload = suites.find(name)
            first = (suites.Place(**place),) if workload.needs & suites.PLACES else ()
            self.run: Callable[[int], Any] = workload.make(*first, **parameters)
        except suites.UnsupportedError as error:
            raise BadRequestError(str(error), unsupported=True) from None
        except KeyError:
            raise BadRequestError(f"no such workload here: {name!r}", unsupported=True) from None

    def block(self, warm: int, iterations: int) -> tuple[int, int, dict[str, float]]:
        """ns of the timed part, ns of all else that the block takes, and what it tells of itself besides."""
        clock, run = time.perf_counter_ns, self.run
        before = clock()
        if warm:
            run(warm)
        middle = clock()
        own = run(iterations)
        after = clock()
        ns, details = own if isinstance(own, tuple) else (own, {})
        inside = after - middle if ns is None else ns
        return inside, max(after - before - inside, 0), details

    def close(self) -> None:
        close = getattr(self.run, "close", None)
        if close is not None:
            close()
        del self.run
        gc.collect()  # in here, since kernels leave nothing behind that refers to itself


def run_command(request: dict[str, Any], directory: str, root: str = "") -> dict[str, Any]:
    """Run the user's command once by /bin/sh: its wall, user and system time, peak memory, status and last output.

    `root`: another root directory to run it in, where one is given.
    """
    path = os.path.join(directory, f"command-{os.getpid()}.out")
    output = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        moves = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        argv = ["/bin/sh", "-c", str(request["command"])]
        if root:
            chroot = next(filter(os.path.exists, ("/usr/sbin/chroot", "/sbin/chroot")), "/usr/bin/chroot")
            argv = [chroot, root, "/bin/sh", "-c", 'cd "$0" && eval "$1"', os.getcwd(), argv[2]]
        before = time.perf_counter_ns()
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=moves)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter_ns() - before
        size = os.fstat(output).st_size
        tail = os.pread(output, TAIL_BYTES, max(0, size - TAIL_BYTES))
    finally:
        os.close(output)
        os.unlink(path)
    return {
        "ns": wall,
        "user_ns": round(usage.ru_utime * 1e9),
        "system_ns": round(usage.ru_stime * 1e9),
        "peak_bytes": usage.ru_maxrss * 1024,
        "status": os.waitstatus_to_exitcode(status),
        "output": tail.decode("utf-8", "replace") if status else "",
    }


def read_benchmarks(path: str) -> list[dict[str, Any]]:
    """The benchmarks that pytest-benchmark wrote into a file (its option --benchmark-json), times in ns."""
    try:
        with open(path, encoding="utf-8") as file:
            written = json.load(file)
    except (OSError, ValueError):  # it writes none where nothing was measured
        return []
    return [
        {
            "name": one["fullname"][:MAX_NAME],
            **{f"{name}_ns": one["stats"][name] * 1e9 for name in ("median", "min", "mean", "stddev")},
            "rounds": one["stats"]["rounds"],
        }
        for one in written["benchmarks"]
    ]


class Agent:
    """The requests that an agent answers. State: the prepared workloads by handle."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.executor = str(options.get("executor", "native"))
        self.nonce = int(options.get("nonce", 0))
        self.hosts = Hosts(self.executor, self.nonce)
        self._ns_per_tick = 0.0 if options.get("clock") == "own" else float(options.get("ns_per_tick", 1.0))
        self.all_cpus: set[int] = set()  # as it was before the first pin
        self.near_cpus: set[int] = set()  # those of them that are as near to the memory: where it may be made ready
        self.own_cpus = options.get("cpus") == "own"
        self.scratch = str(options.get("scratch", "/tmp"))  # noqa: S108 - always given by the controller
        self.place: dict[str, Any] = {"storage": str(options.get("storage", ""))}
        self.command_root = str(options.get("command_root", ""))
        self.channel = (0, 1)
        self.runners: dict[int, Any] = {}
        self.found: list[dict[str, Any]] = []
        self.operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "block": self.block,
            "prepare": self.prepare,
            "release": self.release,
            "counters": lambda _: self.counters(),
            "pin": self.pin,
            "ping": self.ping,
            "place": self.take_place,
            "command": self.command,
            "benchmarks": self.benchmarks,
            "results": self.results,
            "evidence": self.evidence,
            "probe": self.probe,
            "renew": self.renew,
        }
        self.probed = ""

    @property
    def ns_per_tick(self) -> float:
        """ns a tick of the clock that kernels read; of another machine's clock the controller knows nothing."""
        if not self._ns_per_tick and native is not None:
            self._ns_per_tick = native.calibrate_tsc(CALIBRATION_NS)
        return self._ns_per_tick

    def hello(self) -> dict[str, Any]:
        """The first message: who answers, and what it sees around itself."""
        seen = evidence.boundary()
        if self.executor == "microvm":
            with native.MicroVM(0, 4096, self.nonce) as machine:
                seen["microvm"] = machine.evidence()
        init_ns = os.environ.get("VPROBE_INIT_NS", "")  # of a guest of vprobe's own
        if init_ns:
            seen["devices"] = evidence.guest_devices(self.place["storage"])
        return {
            "hello": 1,
            "pid": os.getpid(),
            "agent_ns": time.monotonic_ns() - STARTED_NS,
            "native": native is not None,
            "evidence": seen,
            "clock": {"init_ns": int(init_ns), "started_ns": STARTED_NS} if init_ns.isdecimal() else None,
        }

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        handle = bounded(request, "handle", 1 << 31)
        call = request.get("call")
        if isinstance(call, dict):
            second = request.get("second_cpu")
            second_cpu = None if second is None else bounded(request, "second_cpu", 1 << 20)
            runner: Any = KernelRunner(call, self.hosts, self.ns_per_tick, second_cpu, self.near_cpus)
        else:
            runner = PythonRunner(str(request["workload"]), dict(request["parameters"]), self.place)
        self.runners[handle] = runner
        return {"page_bytes": runner.page_bytes}

    def block(self, request: dict[str, Any]) -> dict[str, Any]:
        runner = self.runners[bounded(request, "handle", 1 << 31)]
        warm = bounded(request, "warm", MAX_ITERATIONS)
        ns, warm_ns, details = runner.block(warm, bounded(request, "iterations", MAX_ITERATIONS, 1))
        return {"ns": ns, "warm_ns": warm_ns, "details": details} if details else {"ns": ns, "warm_ns": warm_ns}

    def release(self, request: dict[str, Any]) -> dict[str, Any]:
        counters = self.counters()
        self.runners.pop(bounded(request, "handle", 1 << 31)).close()
        return counters

    def counters(self) -> dict[str, int]:
        """What has disturbed this process so far, and its clock, by which the controller checks it."""
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        return {"involuntary": switches, "clock_ns": time.perf_counter_ns()}

    def ping(self, request: dict[str, Any]) -> dict[str, Any]:
        del request
        return {}

    def take_place(self, request: dict[str, Any]) -> dict[str, Any]:
        """Learn what has been made for this arm since it was started: fields of suites.Place."""
        self.place.update(request["place"])
        return {}

    def pin(self, request: dict[str, Any]) -> dict[str, Any]:
        cpus = [int(cpu) for cpu in request["cpus"]]
        self.all_cpus = self.all_cpus or os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, cpus)
        except OSError:
            if not self.own_cpus:
                raise
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-len(cpus) :])  # another machine has other numbers
        self.near_cpus = self.all_cpus & cpus_of_node(min(os.sched_getaffinity(0)))
        return {}

    def probe(self, request: dict[str, Any]) -> dict[str, Any]:
        """The probe's document of this place as JSON text, a part at a time: answers are bounded."""
        if not self.probed:
            from vprobe.probe import probe_host  # noqa: PLC0415 - only a place that is not the host is asked

            pinned = os.sched_getaffinity(0)
            os.sched_setaffinity(0, self.all_cpus or pinned)  # it looks at every CPU
            self.probed = json.dumps(probe_host().document())
            os.sched_setaffinity(0, pinned)
        offset = bounded(request, "offset", len(self.probed))
        return {"text": self.probed[offset : offset + PART_CHARACTERS], "total": len(self.probed)}

    def command(self, request: dict[str, Any]) -> dict[str, Any]:
        return run_command(request, self.scratch, self.command_root)

    def benchmarks(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run pytest with pytest-benchmark as a command, and read what it wrote."""
        path = os.path.join(self.scratch, f"benchmarks-{os.getpid()}.json")
        os.environ["VPROBE_PYTHON"] = sys.executable
        try:
            reply = run_command({"command": f"{request['command']} --benchmark-json={path}"}, self.scratch)
            self.found = read_benchmarks(path)
        finally:
            if os.path.exists(path):
                os.unlink(path)
        return reply

    def results(self, request: dict[str, Any]) -> dict[str, Any]:
        """As many of the benchmarks that were read as one answer holds."""
        part: list[dict[str, Any]] = []
        size = 0
        for one in self.found[bounded(request, "start", 1 << 31) :]:
            size += len(one["name"]) * 6 + 256  # escaped, and with its numbers
            if part and size > MAX_LINE_BYTES // 2:
                break
            part.append(one)
        return {"benchmarks": part}

    def evidence(self, request: dict[str, Any]) -> dict[str, Any]:
        del request
        return {"python_hash": evidence.python_hash(), "vprobe_hash": evidence.vprobe_hash()}

    def renew(self, request: dict[str, Any]) -> NoReturn:
        """Execute this agent anew on the same channel: a guest need not boot for the next one to be a fresh process."""
        del request
        for place, descriptor in enumerate(self.channel):
            os.dup2(descriptor, place)
        os.execv(sys.executable, [sys.executable, "-m", "vprobe.measure.agent", *sys.argv[1:]])

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what one line asks; errors become answers."""
        try:
            request = decoded(line)
            operation = self.operations[request["op"]]
        except (ValueError, KeyError, TypeError):
            return {"id": 0, "error": "not a request", "unsupported": False}
        reply = {"id": request.get("id", 0)}
        try:
            reply.update(operation(request))
        except BadRequestError as error:
            reply.update(error=str(error), unsupported=error.unsupported)
        except (Exception, MemoryError) as error:
            reply.update(error=f"{type(error).__name__}: {error}"[:2000], unsupported=False)
        return reply


def take_channel() -> tuple[int, int]:
    """Move the channel off the standard descriptors, so that nothing that a workload prints can reach it."""
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return requests, answers


json_value = json.JSONDecoder().raw_decode


def decoded(line: bytes) -> Any:
    """The value of a line of JSON, or ValueError. json.loads takes three times as long: it finds out the encoding first."""
    text = line.decode()
    value, end = json_value(text)
    if end != len(text):
        raise ValueError("more than one value")
    return value


def encoded(message: dict[str, Any]) -> bytes:
    """A message as a line of JSON. For numbers alone, as between two blocks, json.dumps takes three times as long."""
    for value in message.values():
        if type(value) is not int:
            return json.dumps(message).encode() + b"\n"
    return ("{" + ",".join([f'"{name}":{value}' for name, value in message.items()]) + "}\n").encode()


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write one message whole."""
    data = encoded(message)
    while data:
        data = data[os.write(descriptor, data) :]


def serve(agent: Agent, requests: int, answers: int) -> None:
    """Answer line by line until end of file."""
    pending = b""
    while True:
        chunk = os.read(requests, MAX_LINE_BYTES)
        if not chunk:
            return
        pending += chunk
        *lines, pending = pending.split(b"\n")
        for line in lines:
            send(answers, agent.answer(line))
        if len(pending) > MAX_LINE_BYTES:
            raise SystemExit("vprobe agent: a request is longer than 64 KiB")


def take_draw(draw: int) -> list[object]:
    """Memory that is never used: what is allocated while it is held lies where the boot's draw says (environments.layout).

    Of each of the three places that CPython takes memory from: pages, the C library's heap, and pools of small objects.
    """
    import mmap  # noqa: PLC0415 - only agents of this machine have a draw

    pages, heap, pools = draw & 127, draw >> 7 & 255, draw >> 15 & 31
    never_touched = mmap.mmap(-1, PAGE_BYTES * (LEAST_PAGES + pages))
    held = [never_touched, bytes(HEAP_STEP_BYTES * (LEAST_OF_THE_HEAP + heap))]
    for size in range(POOL_STEP_BYTES, LARGEST_IN_POOLS, POOL_STEP_BYTES):
        held += [bytes(size) for _ in range(pools)]
    return held


def main() -> None:
    """Entry point of `python -m vprobe.measure.agent OPTIONS`, OPTIONS being a JSON object."""
    requests, answers = take_channel()
    agent = Agent(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    agent.channel = (requests, answers)
    drawn = os.environ.get("VPROBE_LAYOUT", "").partition(":")[0]
    held = take_draw(int(drawn)) if drawn.isdecimal() else []  # until the agent ends
    send(answers, agent.hello())
    gc.disable()  # as timeit does: a collection inside a block would be charged to the workload
    serve(agent, requests, answers)
    del held


if __name__ == "__main__":
    main()
