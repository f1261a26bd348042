"""The host side of an environment's network: answers over TCP, at the other end of a veth pair, a tap or the loopback.

Run by file path in an interpreter of its own (`python -I -S peer.py CPUS KIND …`): the standard library, and of vprobe the
extension alone, where it can be loaded. It is killed with the controller, however that dies, and a network namespace goes with
the last process in it: nothing has to be removed.

    loopback                      in the host's own network, at 127.0.0.1
    veth NUMBER                   in a network namespace of its own, with a veth pair into the one of that inode number
    namespace                     the same, into a namespace that it makes, in which a program can then be started
    tap                           in a network namespace of its own with a tap, in which a hypervisor can then be started

Nothing appears in the host's network: the pair is made in the peer's namespace, one end going directly into the other one.
The first line on standard output is `ready ADDRESS ECHO STREAM CONNECT PID`: three ports, and a process in the namespace that
is to be started in (0: none); or `failed REASON`.

- ECHO gives every byte back.
- STREAM takes requests of 9 bytes, a letter and a length: `r` takes that many bytes and answers with one, `s` sends them.
- CONNECT closes every connection as soon as it is made.

Sources: veth(4), network_namespaces(7), setns(2), RFC 2544 section C.2.2 (198.18.0.0/15 is set aside for benchmarks).
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os
import signal
import socket
import struct
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

PEER_ADDRESS, INSIDE_ADDRESS, PREFIX_BITS = "198.18.0.1", "198.18.0.2", 30
DEVICE = "vprobe0"
LOOPBACK_ADDRESS = "127.0.0.1"
CHUNK_BYTES = 128 * 1024
ECHO_BYTES = 64
"""Python makes room for as much as it asks for, and that is quick only where it is little. So few bytes are sent whole, too."""
EXTENSION = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_native*.so")
REQUEST = struct.Struct(">cQ")
COMMAND_TIMEOUT_S = 10.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

CHILDREN: list[int] = []
"""Those that live as long as this process."""

libc = ctypes.CDLL(None, use_errno=True)


class FailedError(Exception):
    """The link cannot be had; the text says why."""


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies; end now if it has died already."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def checked(result: int, what: str) -> None:
    """FailedError, with the reason, after libc reported a failure."""
    if result != 0:
        raise FailedError(f"{what}: {os.strerror(ctypes.get_errno())}")


def ip(*lines: str) -> None:
    """Commands of ip(8) in the network namespace of this process."""
    try:
        done = subprocess.run(
            ["ip", "-batch", "-"],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            env={"PATH": PATH, "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise FailedError("ip is not installed (apt install iproute2)") from None
    except subprocess.TimeoutExpired:
        raise FailedError("ip did not end") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if not line.startswith("Command failed")]
        raise FailedError(f"the link cannot be made: {(said or ['ip failed'])[0]}")


def process_in(number: int) -> int:
    """A process in the network namespace of that inode number."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}/ns/net").st_ino == number:
                    return int(name)
            except OSError:
                continue  # it ended, or is not ours to see
    raise FailedError("no process is in the environment's network namespace")


def configure(address: str) -> tuple[str, ...]:
    """Commands that bring up loopback and the device of the pair."""
    return ("link set lo up", f"address add {address}/{PREFIX_BITS} dev {DEVICE}", f"link set {DEVICE} up")


def in_namespace(descriptor: int, act: Callable[[], None]) -> None:
    """Do something in another network namespace, in a child. FailedError where that fails."""
    said, said_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            checked(libc.setns(descriptor, CLONE_NEWNET), "setns")
            act()
        except FailedError as error:
            os.write(said_end, str(error).encode()[:1000])
            os._exit(1)
        except BaseException as error:  # a forked child must never return into the parent's code
            os.write(said_end, repr(error).encode()[:1000])
            os._exit(1)
        os._exit(0)
    os.close(said_end)
    with os.fdopen(said, "rb") as file:
        trouble = file.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    if trouble:
        raise FailedError(trouble)


def veth_into(process: int) -> None:
    """Go into a network namespace of one's own, with a pair whose other end is in that of a process."""
    descriptor = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    checked(libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
    ip(f"link add name {DEVICE} type veth peer name {DEVICE} netns {process}", *configure(PEER_ADDRESS))
    in_namespace(descriptor, lambda: ip(*configure(INSIDE_ADDRESS)))
    os.close(descriptor)


def new_namespace() -> int:
    """A process that does nothing but keep a network namespace of its own."""
    parent = os.getpid()
    made, made_end = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        die_with_parent(parent)
        os.write(made_end, b"!" if libc.unshare(CLONE_NEWNET) == 0 else b"?")
        while True:
            signal.pause()
    CHILDREN.append(keeper)
    os.close(made_end)
    answer = os.read(made, 1)
    os.close(made)
    if answer != b"!":
        raise FailedError("unshare(CLONE_NEWNET) failed")
    return keeper


def connect(kind: str, words: list[str]) -> tuple[str, int]:
    """Make the link: the address to listen at, and a process in the namespace that was made for the other end."""
    if kind == "loopback":
        return LOOPBACK_ADDRESS, 0
    if os.geteuid():
        raise FailedError("only root can make a veth pair or a tap: run vprobe as root")
    if kind == "veth":
        veth_into(process_in(int(words[0])))
        return PEER_ADDRESS, 0
    if kind == "tap":
        checked(libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
        ip(f"tuntap add dev {DEVICE} mode tap", *configure(PEER_ADDRESS))
        return PEER_ADDRESS, os.getpid()
    keeper = new_namespace()
    veth_into(keeper)
    return PEER_ADDRESS, keeper


# --- what is served -----------------------------------------------------------------------------------------------------


def echo(connection: socket.socket) -> None:
    """Give back what comes."""
    descriptor, receive, send = connection.fileno(), os.read, os.write
    while data := receive(descriptor, ECHO_BYTES):
        send(descriptor, data)


def native_echo() -> Callable[[socket.socket], None] | None:
    """The same in C, by vprobe's own extension: with Python's calls a round trip is a fifth longer. None where there is no
    extension that can be loaded."""
    for path in glob.glob(EXTENSION):
        spec = importlib.util.spec_from_file_location("vprobe._native", path)
        if spec is None or spec.loader is None:
            continue
        try:
            native = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(native)
        except ImportError:
            continue
        return lambda connection: native.echo(connection.fileno())
    return None


def stream(connection: socket.socket) -> None:
    """Take or send as many bytes as each request says."""
    memory = memoryview(bytearray(os.urandom(CHUNK_BYTES)))
    while len(header := connection.recv(REQUEST.size, socket.MSG_WAITALL)) == REQUEST.size:
        letter, left = REQUEST.unpack(header)
        if letter == b"s":
            while left > 0:
                left -= connection.send(memory[: min(left, CHUNK_BYTES)])
        else:
            while left > 0:
                got = connection.recv_into(memory, min(left, CHUNK_BYTES))
                if got == 0:
                    return
                left -= got
            connection.send(b"!")


def nothing(connection: socket.socket) -> None:
    """Nothing: it is closed at once."""


def serve(listener: socket.socket, answer: Callable[[socket.socket], None]) -> NoReturn:
    """One connection after the other."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                answer(connection)
            except OSError:
                continue  # the other side closed hard


def start_servers(address: str) -> list[int]:
    """A process for each thing that is served: their ports."""
    parent = os.getpid()
    ports = []
    for answer in (native_echo() or echo, stream, nothing):
        listener = socket.create_server((address, 0), backlog=128)
        ports.append(listener.getsockname()[1])
        CHILDREN.append(os.fork())
        if CHILDREN[-1] == 0:
            die_with_parent(parent)
            try:
                serve(listener, answer)
            finally:
                os._exit(1)
        listener.close()
    return ports


def end_children() -> None:
    """Kill and reap whoever was forked, so that ports and namespaces are free when this process has ended."""
    for child in CHILDREN:
        os.kill(child, signal.SIGKILL)
    for child in CHILDREN:
        os.waitpid(child, 0)


def main(arguments: list[str]) -> None:
    """Entry point. Ends when its standard input does."""
    die_with_parent(os.getppid())
    try:
        address, keeper = connect(arguments[1], arguments[2:])
        os.sched_setaffinity(0, [int(cpu) for cpu in arguments[0].split(",")])
        ports = start_servers(address)
    except (FailedError, OSError) as error:
        print(f"failed {error}", flush=True)
        return
    print("ready", address, *ports, keeper, flush=True)
    sys.stdin.read()
    end_children()


if __name__ == "__main__":
    main(sys.argv[1:])
