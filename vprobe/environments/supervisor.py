"""Leads one session: starts the engine behind its boundary, and sees to it that nothing of the session outlives it.

Run by file path in an interpreter of its own (`python -I -S supervisor.py SESSION_DIR CONTROL STATUS TAIL`), standard
library only, so that it starts in a few milliseconds and never shares the fate of the controller. Its standard input and
output are the agent's channel: they are handed to the engine and then let go, so the supervisor is not in the data path.

CONTROL is the read end of a pipe whose other end only the controller holds: a byte (it asks), or end of file (it died in
whatever way) ends the session. STATUS tells the controller, one line each: `launched NS PID` (written by the child
itself just before it executes the engine), `gone NS STATUS` (the last process of the session was reaped) and `clean NS` (its
directory is removed, too). TAIL is a memory file that always holds the last output of engine and agent to standard error.

`supervisor.py --sweep SESSION_DIR` cleans up after a supervisor that was itself killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

TAIL_BYTES = 8192
SHOWN_COMMAND = 300
KILL_DEADLINE_S = 10.0
KNOCK_S = 0.1
COMMAND_TIMEOUT_S = 20.0
CGROUP_DEADLINE_S = 2.0
CGROUP_SETTLE_S = 0.05
"""Within some ms of another such move the kernel moves a process to a cgroup without the wait for a grace period (rcu_sync in
kernel/rcu/sync.c; favordynmods in cgroup-v2.rst): 0.2 ms instead of 8 ms on a development machine. An engine that makes cgroups
of its own would start sooner for our having made some; after 20 ms a move costs again what it did."""
INSTRUCTIONS = "session.json"
SESSION_VARIABLE = "VPROBE_SESSION"
"""In the variables of engine and agent, with the session's directory: how --sweep finds what a dead supervisor left."""

ELSEWHERE, SCRATCH_PREFIX = "elsewhere", "vprobe-scratch-"
"""A symbolic link in the directory of a run to its scratch directory, if that is not in there; and what that is called."""

APART = (3, 4)
"""Where the engine finds the agent's input and output, if they are to be apart from its own."""
FIRST_FREE_DESCRIPTOR = 10

# <linux/prctl.h>, <linux/sched.h>, <linux/mount.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 0x4000 | 0x40000
MNT_DETACH = 2
# <linux/personality.h>
ADDR_NO_RANDOMIZE = 0x0040000
PERSONALITY_AS_IT_IS = 0xFFFFFFFF

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raise OSError that names the call, after libc reported a failure."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


# --- the child that becomes the engine ---------------------------------------------------------------------------------


def write_text(path: str, text: str) -> None:
    """Write a file of /proc in one call."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def enter_cgroup(directory: str, limits: list[tuple[str, str, bool]]) -> None:
    """Make a cgroup with limits (file, value, whether optional) and move into it; it is removed with the session."""
    os.mkdir(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup of v1, which then takes no process
        above = os.path.join(os.path.dirname(directory), name)
        if os.path.exists(os.path.join(directory, name)) and os.path.exists(above):  # the root of v2 has none
            with open(above, encoding="ascii") as file:
                allowed = file.read()
            if allowed.strip():
                write_text(os.path.join(directory, name), allowed)
    for name, value, optional in limits:
        path = os.path.join(directory, name)
        if not optional or os.path.exists(path):
            write_text(path, value)
    write_text(os.path.join(directory, "cgroup.procs"), str(os.getpid()))


def enter_user_namespace() -> None:
    """Become root of a user namespace that maps root to this user and nobody else (user_namespaces(7))."""
    user, group = os.geteuid(), os.getegid()
    check(libc.unshare(CLONE_NEWUSER), "unshare(CLONE_NEWUSER)")
    write_text("/proc/self/setgroups", "deny")
    write_text("/proc/self/uid_map", f"0 {user} 1")
    write_text("/proc/self/gid_map", f"0 {group} 1")


def make_mounts(mounts: list[dict[str, Any]]) -> None:
    """Go into a mount namespace of one's own and mount there: the host's never sees it, and it ends with the engine."""
    check(libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
    check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC_PRIVATE), None), "mount --make-rprivate /")
    for mount in mounts:
        for directory in mount["directories"]:
            os.makedirs(directory, exist_ok=True)
        source, target = os.fsencode(mount["source"]), os.fsencode(mount["target"])
        arguments = (mount["type"].encode() or None, ctypes.c_ulong(mount["flags"]), mount["data"].encode() or None)
        check(libc.mount(source, target, *arguments), f"mount {mount['target']}")


def place_channel(channel: str) -> None:
    """Leave the channel where it is ("standard"), move it to 3 and 4 ("apart"), or keep it from the engine ("fifos")."""
    if channel == "standard":
        return
    null = os.open(os.devnull, os.O_RDWR)
    for standard, apart in enumerate(APART):
        if channel == "apart":
            os.dup2(standard, apart)
        os.dup2(null, standard)


def fix_layout() -> None:
    """Have the kernel place memory alike in all that is executed from here on (personality(2)), where it is allowed.

    A seccomp filter around vprobe may forbid it. Layouts are then drawn for each process, for all arms alike.
    """
    current = libc.personality(ctypes.c_ulong(PERSONALITY_AS_IT_IS))
    libc.personality(ctypes.c_ulong(current | ADDR_NO_RANDOMIZE))


class Meeting:
    """Lets the supervisor look at the child between its set-up and the execution of the engine."""

    def __init__(self) -> None:
        self.parent = os.getpid()
        self.arrival, self.arrival_end = os.pipe2(os.O_CLOEXEC)
        self.leave, self.leave_end = os.pipe2(os.O_CLOEXEC)

    def arrive(self) -> None:
        """In the child: say that everything is set up and wait until the supervisor has seen it."""
        os.close(self.leave_end)
        os.write(self.arrival_end, b"!")
        os.read(self.leave, 1)

    def wait(self) -> bool:
        """In the supervisor: whether the child has arrived. It waits until dismissed."""
        os.close(self.arrival_end)
        arrived = os.read(self.arrival, 1) != b""
        os.close(self.arrival)
        return arrived

    def dismiss(self) -> None:
        """In the supervisor: let the child go on."""
        os.close(self.leave)
        os.close(self.leave_end)


def become_engine(instructions: dict[str, Any], status: int, errors: int, meeting: Meeting) -> NoReturn:
    """In the forked child: set up, tell the time, execute. Failures go to standard error, where the controller looks."""
    os.dup2(errors, 2)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        for directory in instructions["cgroups"]:
            enter_cgroup(directory, instructions["limits"].get(directory, []))
        if instructions["cgroups"]:
            time.sleep(CGROUP_SETTLE_S)
        if instructions["user_namespace"]:
            enter_user_namespace()
        if instructions["mounts"]:
            make_mounts(instructions["mounts"])
        if instructions["fixed_layout"]:
            fix_layout()
        meeting.arrive()
        # Not earlier: a change of credentials clears it (PR_SET_PDEATHSIG(2const)).
        check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != meeting.parent:
            os._exit(1)  # the supervisor died before the line above took effect
        status = fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_DESCRIPTOR)
        place_channel(instructions["channel"])
        os.chdir(instructions["working_directory"])
        argv, variables = instructions["argv"], instructions["variables"]
        os.write(status, b"launched %d %d\n" % (time.monotonic_ns(), os.getpid()))
        os.execve(argv[0], argv, variables)
    except BaseException as error:  # a forked child must never return into the parent's code
        os.write(2, f"vprobe supervisor: cannot start {instructions['argv'][0]}: {error}\n".encode())
    os._exit(127)


# --- ending ------------------------------------------------------------------------------------------------------------


def parents() -> dict[int, int]:
    """Parent of each process that /proc shows (proc_pid_stat(5): the field after the state)."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    table[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # it ended meanwhile
    return table


def descendants(of: int) -> list[int]:
    """Every process below `of`, also in PID namespaces below ours."""
    table = parents()
    found = [of]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in table.items() if parent == pid]
    return found[1:]


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to each process that is still there and ours."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


class Subreaper:
    """A process with one child, which also adopts what that leaves behind, so that all of it can be waited for.

    `child`: its PID, 0 once it has ended with `child_status`. `wake` can be read when somebody ended or a signal came; of
    SIGINT, SIGTERM and SIGHUP `signalled` tells. See PR_SET_CHILD_SUBREAPER(2const).
    """

    def __init__(self, status: int) -> None:
        self.child, self.child_status = 0, status
        self.signalled = False
        self.wake, wake_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")

    def _signal(self, number: int, frame: object) -> None:
        del number, frame
        self.signalled = True

    def reap(self) -> bool:
        """Reap who ended. True if nobody is left: a subreaper without children has no descendants either."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.child:
                self.child, self.child_status = 0, os.waitstatus_to_exitcode(status)


class Supervisor(Subreaper):
    """One session, from the start of its engine to the removal of its directory."""

    def __init__(self, directory: str, control: int, status: int, tail: int) -> None:
        super().__init__(status=-1)
        self.directory = directory
        self.control = control
        self.status = status
        self.tail_file = tail
        self.tail = b""
        self.errors, self.errors_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.errors, False)
        with open(os.path.join(directory, INSTRUCTIONS), encoding="utf-8") as file:
            self.instructions: dict[str, Any] = json.load(file)
        self.controller_asked = False
        self.forgotten = False
        self.mount_namespace = -1

    def run(self) -> None:
        """The whole life of the session."""
        if self.set_up() and not select.select([self.control], [], [], 0)[0]:  # nobody has changed their mind
            self.start_engine()
            self.watch(None)
        self.end()
        if self.child_status > 0 and not self.tail:
            command = " ".join(self.instructions["argv"])[:SHOWN_COMMAND]
            self.note(f"{command}: exit status {self.child_status}, without a word\n".encode())
        if self.child_status:
            self.forget()  # it did not end in peace: what an engine's daemon runs may still be there
        self.say(b"gone %d %d\n" % (time.monotonic_ns(), self.child_status))
        self.clean()

    def say(self, line: bytes) -> None:
        """Tell the controller, if there is still one."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.status, line)

    def set_up(self) -> bool:
        """Run the commands that the engine needs first. False, with the reason in the tail, where one fails."""
        for argv in self.instructions["setup"]:
            trouble = run_bounded(argv, self.instructions["variables"])
            if trouble:
                self.note(f"vprobe supervisor: {trouble}\n".encode())
                return False
        return True

    def start_engine(self) -> None:
        """Fork the engine and let go of the agent's channel, so that its ends tell who is still there."""
        meeting = Meeting()
        self.child = os.fork()
        if self.child == 0:
            become_engine(self.instructions, self.status, self.errors_end, meeting)
        os.close(self.errors_end)
        if meeting.wait() and self.instructions["mounts"]:
            # Were the engine the last to hold it, taking it apart would be counted as the engine's own end: 5 ms and more.
            self.mount_namespace = os.open(f"/proc/{self.child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        meeting.dismiss()
        if self.instructions["channel"] != "fifos":
            self.let_go_of_channel()

    def let_go_of_channel(self) -> None:
        """Close the supervisor's own ends of the channel."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for channel_end in (0, 1):
            os.dup2(null, channel_end)

    def watch(self, timeout_s: float | None) -> bool:
        """Until all is gone, or the time is up; without a time: also until the engine is gone or the controller asks."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        poll = select.poll()
        for descriptor in (self.wake, self.errors, *(() if deadline else (self.control,))):
            poll.register(descriptor, select.POLLIN)
        while True:
            alone = self.reap()
            if alone or (deadline is None and (self.child == 0 or self.signalled)):
                return alone
            left_ms = None if deadline is None else (deadline - time.monotonic()) * 1000
            if left_ms is not None and left_ms <= 0:
                return False
            for descriptor, _ in poll.poll(left_ms):
                if descriptor == self.control:
                    self.controller_asked = os.read(self.control, 64) != b""
                    return False
                if descriptor == self.wake:
                    os.read(self.wake, 512)
                elif not self.drain():
                    poll.unregister(self.errors)

    def drain(self) -> bool:
        """Keep the last of what engine and agent wrote to standard error. False at its end."""
        try:
            chunk = os.read(self.errors, 65536)
        except BlockingIOError:
            return True
        if chunk:
            self.note(chunk)
        return bool(chunk)

    def note(self, text: bytes) -> None:
        """Append to the tail that the controller can read at any time."""
        self.tail = (self.tail + text)[-TAIL_BYTES:]
        os.pwrite(self.tail_file, self.tail, 0)
        os.ftruncate(self.tail_file, len(self.tail))

    def end(self) -> None:
        """Wait for a willing end, then ask the engine, then kill. Returns when no process of the session is left."""
        # The agent ends by itself at the end of its channel, and the engine with it.
        if self.child and not self.leaves():
            signal_all([self.child], signal.SIGTERM)
            self.watch(self.instructions["terminate_s"])
        self.kill()
        self.let_go_of_channel()
        while select.select([self.errors], [], [], 0)[0] and self.drain():
            pass

    def leaves(self) -> bool:
        """Whether all is gone within the time of grace.

        An agent that opens its input by name only now waits for somebody to write there, who has just left: it gets one who
        comes and goes, and so the end of its input.
        """
        deadline = time.monotonic() + self.instructions["grace_s"]
        while not self.watch(min(KNOCK_S, max(deadline - time.monotonic(), 0.001))):
            if time.monotonic() > deadline:
                return False
            if self.instructions["requests"]:
                with contextlib.suppress(OSError):
                    os.close(os.open(self.instructions["requests"], os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return True

    def kill(self) -> None:
        """Kill whoever is left, again and again, since they may be starting others."""
        deadline = time.monotonic() + KILL_DEADLINE_S
        while not self.reap():
            signal_all(descendants(os.getpid()), signal.SIGKILL)
            self.watch(0.01)
            if time.monotonic() > deadline:
                self.note(b"vprobe supervisor: cannot be killed: %a\n" % descendants(os.getpid()))
                os._exit(1)

    def forget(self) -> None:
        """Let the engine forget the session, once."""
        if not self.forgotten:
            self.forgotten = True
            for line in forget(self.instructions, self.directory):
                self.note(f"vprobe supervisor: {line}\n".encode())

    def clean(self) -> None:
        """Remove what is left but processes: the directory of the run, too, if the controller is dead."""
        self.forget()
        if self.mount_namespace >= 0:
            os.close(self.mount_namespace)
        remove(self.directory)
        self.say(b"clean %d\n" % time.monotonic_ns())
        if not self.controller_asked:
            os.read(self.control, 64)  # until it asks or dies: until then it may want to know how the engine ended
        poll = select.poll()
        poll.register(self.status, 0)
        if poll.poll(0):  # POLLERR, nobody reads: the controller is dead (it closes that end after our own)
            remove_run(self.instructions["run_directory"])


# --- cleaning, also after a supervisor that was killed ----------------------------------------------------------------------


def run_bounded(argv: list[str], variables: dict[str, str]) -> str:
    """Run one command of the engine, bounded in time; "" or what went wrong."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    moves = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
    try:
        pid = os.posix_spawn(argv[0], argv, variables, file_actions=moves)
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    finally:
        os.close(null)
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return f"{' '.join(argv)}: exit status {code}" if code else ""
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"{' '.join(argv)}: no end within {COMMAND_TIMEOUT_S:.0f} s"
        time.sleep(0.002)


def forget(instructions: dict[str, Any], directory: str) -> list[str]:
    """Run the teardown commands that are due, remove cgroups and detach mounts; what went wrong, one line each."""
    due = [one for one in instructions["teardown"] if not one["when_exists"] or os.path.lexists(one["when_exists"])]
    trouble = [run_bounded(one["argv"], instructions["variables"]) for one in due]
    trouble += [remove_cgroup(path) for path in instructions["cgroups"] if os.path.isdir(path)]
    trouble += [
        f"umount {target}: {os.strerror(ctypes.get_errno())}"
        for target in reversed(mounts_below(directory))
        if libc.umount2(os.fsencode(target), MNT_DETACH)
    ]
    return [line for line in trouble if line]


def remove_cgroup(directory: str) -> str:
    """Remove a cgroup with those below it; "" or what went wrong. The kernel lets go of one shortly after its last process."""
    deadline = time.monotonic() + CGROUP_DEADLINE_S
    while True:
        try:
            for path, _, _ in os.walk(directory, topdown=False):
                os.rmdir(path)  # the files in it are the kernel's and go with it
            return ""
        except OSError as error:
            if time.monotonic() > deadline:
                return f"rmdir {directory}: {error.strerror}"
            time.sleep(0.002)


def mount_points() -> list[str]:
    """Every mount point of this process, in the order of mounting (proc_pid_mountinfo(5), octal escapes undone)."""
    with open("/proc/self/mountinfo", "rb") as file:
        return [unescaped(line.split(b" ")[4]) for line in file]


def unescaped(point: bytes) -> str:
    """A path as mountinfo writes it, its octal escapes undone."""
    return os.fsdecode(point.decode("unicode_escape").encode("latin-1"))


def mounts_below(directory: str) -> list[str]:
    """Mount points at or below a directory other than /, outermost first."""
    return [point for point in mount_points() if point == directory or point.startswith(f"{directory}/")]


def remove(directory: str) -> None:
    """Remove a directory tree, never across a mount point and never through a symbolic link."""
    if not mounts_below(directory) and os.path.isdir(directory):  # whatever is mounted there is not ours to remove
        _remove_tree(directory)


def _remove_tree(directory: str) -> None:
    os.chmod(directory, 0o700)  # a tree of our own, whatever a workload made of its modes
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            _remove_tree(path)
        else:
            os.unlink(path)
    os.rmdir(directory)


def remove_whole_run(directory: str) -> None:
    """Remove the directory of a run, and its scratch directory if that is elsewhere."""
    link = os.path.join(directory, ELSEWHERE)
    if os.path.islink(link):
        scratch = os.readlink(link)
        if os.path.basename(scratch).startswith(SCRATCH_PREFIX) and os.path.lexists(scratch):
            status = os.lstat(scratch)
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                remove(scratch)
    remove(directory)


def remove_run(directory: str) -> None:
    """Remove the directory of a run whose controller is dead, unless another supervisor still works below it.

    The last one removes it. The lock keeps two from each seeing the other and leaving; a live controller holds it shared.
    """
    if not directory:
        return
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    for _ in range(50):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.02)
    else:
        return
    if any(name.startswith("s-") for name in os.listdir(directory)):
        return
    remove_whole_run(directory)
    with contextlib.suppress(OSError):  # other runs are there
        os.rmdir(os.path.dirname(directory))


def belongs(pid: str, directory: str) -> bool:
    """Whether a process is one of the session's: its variables say so.

    conmon is started without them, but in the engine's mount namespace and with paths of the session on its command line.
    """
    with open(f"/proc/{pid}/environ", "rb") as file:
        if f"{SESSION_VARIABLE}={directory}".encode() in file.read().split(b"\0"):
            return True
    if os.stat(f"/proc/{pid}/ns/mnt").st_ino == os.stat("/proc/self/ns/mnt").st_ino:
        return False
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return f"{directory}/".encode() in file.read()


def bearers(directory: str) -> list[int]:
    """The processes that a session has left."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                if belongs(name, directory):
                    found.append(int(name))
    return found


def sweep(directory: str) -> None:
    """Clean up a session that has lost its supervisor."""
    deadline = time.monotonic() + KILL_DEADLINE_S
    while left := bearers(directory):
        signal_all(left, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise SystemExit(f"vprobe: processes of {directory} cannot be killed: {left}")
        time.sleep(0.01)
    try:
        with open(os.path.join(directory, INSTRUCTIONS), encoding="utf-8") as file:
            forget(json.load(file), directory)
    except (OSError, ValueError):
        pass  # it was killed before anything was started
    remove(directory)


def main(arguments: list[str]) -> None:
    """Entry point."""
    if arguments[0] == "--sweep":
        sweep(arguments[1])
        return
    descriptors = [int(word) for word in arguments[1:]]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    lock = os.open(arguments[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_SH)  # for as long as this process lives: see sessions.sweep
    Supervisor(arguments[0], *descriptors).run()


if __name__ == "__main__":
    main(sys.argv[1:])
