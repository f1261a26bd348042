/*
 * The first process of a Linux guest (see vprobe/environments/initramfs.py): does what /steps says, one line
 * a step, and then runs one program. A program of its own, freestanding and static, and not a shell with its
 * tools: those would have to be installed, and an emulated CPU takes milliseconds for each fork and exec,
 * where a boot has some thirty steps.
 *
 * Words of a step are separated by tabs. What can be retried is retried until its time is up, since devices
 * appear when they are ready. A step that fails says so on the console, which vprobe shows, and ends the
 * guest.
 */
#include <stddef.h>
#include <stdint.h>

#ifndef __x86_64__
#error "the guest's init is written for x86-64"
#endif

/* Numbers from <asm/unistd_64.h>, flags from <linux/fcntl.h>, <linux/mount.h> and <linux/reboot.h>. */
enum {
    SYS_read = 0,
    SYS_write = 1,
    SYS_open = 2,
    SYS_close = 3,
    SYS_ioctl = 16,
    SYS_access = 21,
    SYS_dup2 = 33,
    SYS_nanosleep = 35,
    SYS_socket = 41,
    SYS_fork = 57,
    SYS_execve = 59,
    SYS_exit = 60,
    SYS_wait4 = 61,
    SYS_chdir = 80,
    SYS_mkdir = 83,
    SYS_symlink = 88,
    SYS_setsid = 112,
    SYS_chroot = 161,
    SYS_mount = 165,
    SYS_umount2 = 166,
    SYS_reboot = 169,
    SYS_ioperm = 173,
    SYS_sethostname = 170,
    SYS_clock_gettime = 228,
    SYS_finit_module = 313,
};
enum { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0100, O_TRUNC = 01000, MS_MOVE = 0x2000 };
enum { DEBUG_EXIT = 0xf4 };
enum {
    ENOENT = 2,
    EINTR = 4,
    EEXIST = 17,
    CLOCK_MONOTONIC = 1,
    MAX_WORDS = 8,
    MAX_LIST = 256,
    TEXT_BYTES = 65536
};

#define RETRY_NS     1000000L /* 1 ms */
#define RETRIES      20000
#define DISK_RETRIES 1000

struct timespec {
    long seconds, nanoseconds;
};

static char steps[TEXT_BYTES], arguments[TEXT_BYTES], variables[TEXT_BYTES];
static char boot_variable[64] = "VPROBE_INIT_NS=";

static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

/* Compilers call these of their own accord, also in freestanding code. */
void *memset(void *to, int byte, size_t count) {
    for (volatile char *p = to; count; count--)
        *p++ = (char)byte;
    return to;
}

void *memcpy(void *to, const void *from, size_t count) {
    const char *source = from;

    for (volatile char *p = to; count; count--)
        *p++ = *source++;
    return to;
}

static size_t length(const char *text) {
    size_t count = 0;

    while (text[count])
        count++;
    return count;
}

static int same(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void say(const char *text) {
    call(SYS_write, 2, (long)text, (long)length(text), 0, 0);
}

static char *decimal(uint64_t value, char *end) {
    *end = 0;
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    return end;
}

/*
 * Power off is a chip's business; a restart, with QEMU told not to, works on every machine model and is
 * QEMU's exit status 0. Any other status leaves by QEMU's device isa-debug-exit, which makes it twice as
 * large and one more.
 */
static void end_guest(int status) __attribute__((noreturn));
static void end_guest(int status) {
    if (status && !call(SYS_ioperm, DEBUG_EXIT, 1, 1, 0, 0))
        __asm__ volatile("outb %0, %w1" : : "a"((char)status), "Nd"(DEBUG_EXIT));
    for (;;)
        call(SYS_reboot, 0xfee1deadL, 0x28121969L, 0x01234567L, 0, 0); /* LINUX_REBOOT_CMD_RESTART */
}

static void fail(const char *what, const char *which, long result) __attribute__((noreturn));
static void fail(const char *what, const char *which, long result) {
    char digits[24];

    say("vprobe init: ");
    say(what);
    say(" ");
    say(which);
    say(": error ");
    say(decimal((uint64_t)-result, digits + sizeof(digits) - 1));
    say("\n");
    end_guest(1);
}

static void doze(void) {
    struct timespec time = {0, RETRY_NS};

    call(SYS_nanosleep, (long)&time, 0, 0, 0, 0);
}

static uint64_t clock_ns(void) {
    struct timespec time = {0, 0};

    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&time, 0, 0, 0);
    return (uint64_t)time.seconds * 1000000000u + (uint64_t)time.nanoseconds;
}

static size_t slurp(const char *path, char *into) {
    size_t count = 0;
    long fd = call(SYS_open, (long)path, O_RDONLY, 0, 0, 0), got;

    if (fd < 0)
        fail("open", path, fd);
    while ((got = call(SYS_read, fd, (long)(into + count), (long)(TEXT_BYTES - 1 - count), 0, 0)) > 0)
        count += (size_t)got;
    call(SYS_close, fd, 0, 0, 0, 0);
    if (got < 0 || count == TEXT_BYTES - 1)
        fail("read", path, got);
    into[count] = 0;
    return count;
}

/* Every directory on the way, and the last one. */
static long make_directories(char *path) {
    long result = 0;

    for (char *p = path + 1;; p++)
        if (*p == '/' || !*p) {
            char was = *p;

            *p = 0;
            result = call(SYS_mkdir, (long)path, 0755, 0, 0, 0);
            *p = was;
            if (!was)
                return result == -EEXIST ? 0 : result;
        }
}

static long load_module(const char *path) {
    long fd = call(SYS_open, (long)path, O_RDONLY, 0, 0, 0), result;

    if (fd < 0)
        return fd;
    result = call(SYS_finit_module, fd, (long)"", 0, 0, 0);
    call(SYS_close, fd, 0, 0, 0, 0);
    return result == -EEXIST ? 0 : result;
}

static long write_file(const char *path, const char *text) {
    long fd = call(SYS_open, (long)path, O_WRONLY | O_CREAT | O_TRUNC, 0644, 0, 0), result;

    if (fd < 0)
        return fd;
    result = call(SYS_write, fd, (long)text, (long)length(text), 0, 0);
    call(SYS_close, fd, 0, 0, 0, 0);
    return result < 0 ? result : 0;
}

static long mount(char **words, int count) {
    uint64_t flags = 0;
    long result;

    for (const char *p = words[4]; count > 4 && *p; p++)
        flags = flags * 10 + (uint64_t)(*p - '0');
    for (int tries = 0;; tries++) {
        result = call(SYS_mount, (long)words[1], (long)words[2], (long)words[3], (long)flags,
                      count > 5 ? (long)words[5] : 0);
        if (!result || tries == RETRIES || !same(words[0], "await"))
            return result;
        doze();
    }
}

/* The new root takes the place of the initramfs, as switch_root(8) does it. */
static long enter(const char *root) {
    long result = call(SYS_chdir, (long)root, 0, 0, 0, 0);

    if (!result)
        result = call(SYS_mount, (long)".", (long)"/", 0, MS_MOVE, 0);
    if (!result)
        result = call(SYS_chroot, (long)".", 0, 0, 0, 0);
    return result;
}

/* An address in four decimal numbers, in the order of the network. */
static void parse_address(const char *text, uint8_t *into) {
    for (int place = 0; *text && place < 4; text++)
        if (*text == '.')
            place++;
        else
            into[place] = (uint8_t)(into[place] * 10 + (*text - '0'));
}

/* A network interface by the requests of netdevice(7): its IPv4 address and netmask, where there are any,
 * then that it is up. */
static long bring_up(const char *name, const char *address, const char *netmask) {
    enum { SIOCSIFFLAGS = 0x8914, SIOCSIFADDR = 0x8916, SIOCSIFNETMASK = 0x891c };
    struct request {
        char name[16];
        uint16_t word; /* flags, or the family of the address */
        uint8_t port[2], address[4], rest[16];
    } request = {{0}, 2 /* AF_INET */, {0}, {0}, {0}}, mask;
    long fd = call(SYS_socket, address ? 2 /* AF_INET */ : 1 /* AF_UNIX */, 2 /* SOCK_DGRAM */, 0, 0, 0);
    long result = 0;

    if (fd < 0)
        return fd;
    memcpy(request.name, name, length(name) < 15 ? length(name) : 15);
    if (address) {
        memcpy(&mask, &request, sizeof(mask));
        parse_address(address, request.address);
        parse_address(netmask, mask.address);
        result = call(SYS_ioctl, fd, SIOCSIFADDR, (long)&request, 0, 0);
        if (!result)
            result = call(SYS_ioctl, fd, SIOCSIFNETMASK, (long)&mask, 0, 0);
    }
    request.word = 1; /* IFF_UP */
    if (!result)
        result = call(SYS_ioctl, fd, SIOCSIFFLAGS, (long)&request, 0, 0);
    call(SYS_close, fd, 0, 0, 0, 0);
    return result;
}

/* The file system with `file` in it, on a disk or one of its partitions, read-only. Disks appear when they
 * are ready. */
static long mount_disk(const char *target, const char *file) {
    static const char *const types[] = {"ext4", "xfs"};
    char device[] = "/dev/vda\0\0", path[256];
    size_t count = length(target);

    if (count + length(file) + 2 > sizeof(path))
        return -36; /* ENAMETOOLONG */
    memcpy(path, target, count);
    path[count] = '/';
    memcpy(path + count + 1, file, length(file) + 1);
    for (int tries = 0; tries < DISK_RETRIES; tries++, doze())
        for (int number = 0; number < 32; number++) {
            device[5] = number % 2 ? 's' : 'v';
            device[8] = number < 2 ? 0 : (char)(number / 2 < 10 ? '0' + number / 2 : '1');
            device[9] = number / 2 < 10 ? 0 : (char)('0' + number / 2 - 10);
            for (size_t type = 0; type < sizeof(types) / sizeof(*types); type++) {
                if (call(SYS_mount, (long)device, (long)target, (long)types[type], 1 /* MS_RDONLY */, 0))
                    continue;
                if (!call(SYS_access, (long)path, 0 /* F_OK */, 0, 0, 0))
                    return 0;
                call(SYS_umount2, (long)target, 0, 0, 0, 0);
            }
        }
    return -ENOENT;
}

static long open_retrying(const char *path) {
    long fd = call(SYS_open, (long)path, O_RDWR, 0, 0, 0);

    for (int tries = 0; fd < 0 && tries < RETRIES; tries++) {
        doze();
        fd = call(SYS_open, (long)path, O_RDWR, 0, 0, 0);
    }
    return fd;
}

/* Wait for a device. */
static long find(const char *path) {
    long fd = open_retrying(path);

    return fd < 0 ? fd : call(SYS_close, fd, 0, 0, 0, 0);
}

static void do_step(char **words, int count) {
    long result = -22; /* EINVAL */
    const char *verb = words[0];

    if (same(verb, "load") && count == 2)
        result = load_module(words[1]);
    else if (same(verb, "mkdir") && count == 2)
        result = make_directories(words[1]);
    else if ((same(verb, "mount") || same(verb, "await")) && count >= 4)
        result = mount(words, count);
    else if (same(verb, "write") && count == 3)
        result = write_file(words[1], words[2]);
    else if (same(verb, "link") && count == 3)
        result = call(SYS_symlink, (long)words[1], (long)words[2], 0, 0, 0);
    else if (same(verb, "name") && count == 2)
        result = call(SYS_sethostname, (long)words[1], (long)length(words[1]), 0, 0, 0);
    else if (same(verb, "disk") && count == 3)
        result = mount_disk(words[1], words[2]);
    else if (same(verb, "up") && (count == 2 || count == 4))
        result = bring_up(words[1], count > 2 ? words[2] : 0, words[3]);
    else if (same(verb, "find") && count == 2)
        result = find(words[1]);
    else if (same(verb, "enter") && count == 2)
        result = enter(words[1]);
    if (result < 0)
        fail(verb, count > 2 && !same(verb, "write") ? words[2] : words[1], result);
}

/* Run the program of /arguments on a device as its standard input and output; the guest ends with it. */
static void run(const char *device, const char *directory) __attribute__((noreturn));
static void run(const char *device, const char *directory) {
    static char *argv[MAX_LIST], *environment[MAX_LIST];
    long fd = open_retrying(device), pid, ended, status = 0, result;
    int count = 0;

    if (fd < 0)
        fail("open", device, fd);
    for (char *p = arguments; *p && count < MAX_LIST - 1; p += length(p) + 1)
        argv[count++] = p;
    count = 0;
    environment[count++] = boot_variable;
    for (char *p = variables; *p && count < MAX_LIST - 1; p += length(p) + 1)
        environment[count++] = p;
    pid = call(SYS_fork, 0, 0, 0, 0, 0);
    if (pid == 0) {
        call(SYS_setsid, 0, 0, 0, 0, 0);
        call(SYS_dup2, fd, 0, 0, 0, 0);
        call(SYS_dup2, fd, 1, 0, 0, 0);
        result = call(SYS_chdir, (long)directory, 0, 0, 0, 0);
        if (result < 0)
            fail("chdir", directory, result);
        fail("execute", argv[0], call(SYS_execve, (long)argv[0], (long)argv, (long)environment, 0, 0));
    }
    do
        ended = call(SYS_wait4, -1, (long)&status, 0, 0, 0);
    while (ended != pid && (ended > 0 || ended == -EINTR));
    end_guest(
        (int)(status & 0x7f ? status & 0x7f : status >> 8 & 0x7f)); /* wait(2): the signal, or the status */
}

static void start(void) __attribute__((noreturn, used));
static void start(void) {
    char digits[24], *from = decimal(clock_ns(), digits + sizeof(digits) - 1);

    memcpy(boot_variable + length(boot_variable), from, length(from) + 1);
    slurp("/steps", steps);
    slurp("/arguments", arguments);
    slurp("/variables", variables);
    for (char *line = steps; *line;) {
        char *words[MAX_WORDS] = {line};
        int count = 1;

        for (; *line && *line != '\n'; line++)
            if (*line == '\t' && count < MAX_WORDS) {
                *line = 0;
                words[count++] = line + 1;
            }
        if (*line)
            *line++ = 0;
        if (same(words[0], "run") && count == 3)
            run(words[1], words[2]);
        do_step(words, count);
    }
    fail("find a step", "run", 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall start\n");
