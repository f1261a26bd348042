/* A partner for the kernel `pipe_round_trip`: a child process that echoes single bytes. */
#include "vprobe_native.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct echo {
    int to_child[2], from_child[2]; /* pipes: read end, write end */
    pid_t pid;
};

static void close_pipe(int ends[2]) {
    close(ends[0]);
    close(ends[1]);
}

/* Runs in the child of a process that may have threads: async-signal-safe calls only, no return. */
static _Noreturn void echo_bytes(int in, int out) {
    char byte;
    for (;;) {
        ssize_t got = read(in, &byte, 1);
        if (got == -1 && errno == EINTR)
            continue;
        if (got != 1 || write(out, &byte, 1) != 1)
            _exit(0);
    }
}

/* The child holds no descriptor but its two, so that it can neither keep another process's pipe open nor miss
 * the end of its own. Ctrl-C reaches the whole foreground group: the child leaves it to the parent to end it.
 */
static _Noreturn void become_echo(const struct echo *echo, bool watch_parent, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < 32; number++)
        signal(number, number == SIGINT ? SIG_IGN : SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (watch_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
    }
    /* Both copies are made above 3 first, whatever numbers the pipes have. */
    int in = fcntl(echo->to_child[0], F_DUPFD, 4), out = fcntl(echo->from_child[1], F_DUPFD, 4);
    if (in == -1 || out == -1 || dup2(in, 0) == -1 || dup2(out, 1) == -1)
        _exit(1);
    if (syscall(SYS_close_range, 2, ~0u, 0) == -1)
        for (int descriptor = 2; descriptor < sysconf(_SC_OPEN_MAX); descriptor++)
            close(descriptor);
    echo_bytes(0, 1);
}

static int start_echo(struct echo *echo, struct failure *failure) {
    if (pipe2(echo->to_child, O_CLOEXEC) == -1)
        return fail(failure, "pipe2");
    if (pipe2(echo->from_child, O_CLOEXEC) == -1) {
        fail(failure, "pipe2");
        close_pipe(echo->to_child);
        return -1;
    }
    /* PR_SET_PDEATHSIG fires when the forking *thread* ends: of use only where that is the process's own end.
     */
    pid_t parent = getpid();
    bool main_thread = syscall(SYS_gettid) == parent;
    echo->pid = fork();
    if (echo->pid == 0)
        become_echo(echo, main_thread, parent);
    if (echo->pid == -1) {
        fail(failure, "fork");
        close_pipe(echo->to_child);
        close_pipe(echo->from_child);
        return -1;
    }
    close(echo->to_child[0]);
    close(echo->from_child[1]);
    return 0;
}

PyObject *native_spawn_echo(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    struct echo echo;
    struct failure failure = {0};
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = start_echo(&echo, &failure);
    Py_END_ALLOW_THREADS;
    if (status == -1)
        return raise_failure(&failure);
    return Py_BuildValue("(iii)", (int)echo.pid, echo.to_child[1], echo.from_child[0]);
}
