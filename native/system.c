/* Partners for the kernels `pipe_round_trip` and `futex_round_trip`: child processes that answer. */
#include "kernel_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
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

enum { ECHO_BYTES = 64 };

/* Until the other side has closed. Runs in the child of a process that may have threads, too:
 * async-signal-safe calls only. */
static void echo_bytes(int in, int out) {
    char bytes[ECHO_BYTES];
    for (;;) {
        ssize_t got = read(in, bytes, sizeof bytes);
        if (got == -1 && errno == EINTR)
            continue;
        if (got <= 0 || write(out, bytes, (size_t)got) != got)
            return;
    }
}

PyObject *native_echo(PyObject *module, PyObject *args) {
    (void)module;
    int descriptor;
    if (!PyArg_ParseTuple(args, "i:echo", &descriptor))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    echo_bytes(descriptor, descriptor);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

/* The child holds no descriptor but its two, so that it can neither keep another process's pipe open nor miss
 * the end of its own. Ctrl-C reaches the whole foreground group: the child leaves it to the parent to end it.
 */
static void leave_parent(bool watch_parent, pid_t parent) {
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
}

static void close_from(int first) {
    if (syscall(SYS_close_range, first, ~0u, 0) == -1)
        for (int descriptor = first; descriptor < sysconf(_SC_OPEN_MAX); descriptor++)
            close(descriptor);
}

static _Noreturn void become_echo(const struct echo *echo, bool watch_parent, pid_t parent) {
    leave_parent(watch_parent, parent);
    /* Both copies are made above 3 first, whatever numbers the pipes have. */
    int in = fcntl(echo->to_child[0], F_DUPFD, 4), out = fcntl(echo->from_child[1], F_DUPFD, 4);
    if (in == -1 || out == -1 || dup2(in, 0) == -1 || dup2(out, 1) == -1)
        _exit(1);
    close_from(2);
    echo_bytes(0, 1);
    _exit(0);
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

/* --- by futex ---------------------------------------------------------------------------------------- */

/* One page for the life of the process, so that a kernel never meets an address that is no longer there. */
static volatile uint32_t *futex_word;

volatile uint32_t *shared_futex_word(void) {
    return futex_word;
}

static int map_futex_word(struct failure *failure) {
    if (futex_word != NULL)
        return 0;
    void *page = mmap(NULL, SMALL_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return fail(failure, "mmap");
    futex_word = page;
    return 0;
}

/* Ends by SIGKILL: of whoever started it, or as its parent dies. */
static _Noreturn void become_futex_echo(bool watch_parent, pid_t parent) {
    leave_parent(watch_parent, parent);
    close_from(0);
    for (;;) {
        while (__atomic_load_n(futex_word, __ATOMIC_SEQ_CST) == 0)
            syscall(SYS_futex, futex_word, FUTEX_WAIT, 0, NULL, NULL, 0);
        __atomic_store_n(futex_word, 0, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, futex_word, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

static pid_t start_futex_echo(struct failure *failure) {
    if (map_futex_word(failure) == -1)
        return -1;
    pid_t parent = getpid();
    bool main_thread = syscall(SYS_gettid) == parent;
    pid_t pid = fork();
    if (pid == 0)
        become_futex_echo(main_thread, parent);
    return pid == -1 ? fail(failure, "fork") : pid;
}

PyObject *native_spawn_futex_echo(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    struct failure failure = {0};
    pid_t pid;
    Py_BEGIN_ALLOW_THREADS;
    pid = start_futex_echo(&failure);
    Py_END_ALLOW_THREADS;
    return pid == -1 ? raise_failure(&failure) : PyLong_FromLong(pid);
}
