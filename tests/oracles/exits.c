/* A minimal virtual machine on /dev/kvm, to hold against vprobe's: it shares no code with the package.
 *
 *   exits out | cpuid | hypercall ITERATIONS
 *
 * One vCPU in 64-bit mode at ring 3, in which the instruction is executed again and again. OUT comes back to
 * this program each time; CPUID and the hypercall (VMMCALL on AMD, VMCALL on Intel; refused at ring 3) only
 * to KVM. For every line on standard input one block is timed with CLOCK_MONOTONIC and its ns per iteration
 * printed; the program ends with its input.
 *
 * Sources: KVM API (Documentation/virt/kvm/api.rst); AMD64 APM vol. 2, chapters 4, 5, 12 and 14. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

enum { MEMORY = 2 << 20, TABLES = 0x1000, TASK_STATE = 0x5000, CODE = 0x8000, PORT = 0x10, IO_MAP = 8192 };

static int vcpu;
static struct kvm_run *shared;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int checked(int result, const char *what) {
    if (result < 0)
        die(what);
    return result;
}

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Until the guest's next OUT. */
static void enter(void) {
    checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    if (shared->exit_reason != KVM_EXIT_IO) {
        fprintf(stderr, "exit reason %u\n", shared->exit_reason);
        exit(1);
    }
}

static struct kvm_segment segment(unsigned selector, unsigned type, int is_code) {
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = (uint16_t)(selector | 3),
                                .type = (uint8_t)type,
                                .present = 1,
                                .dpl = 3,
                                .db = !is_code,
                                .s = 1,
                                .l = (uint8_t)is_code,
                                .g = 1};
}

/* Loops of RSI iterations (for OUT: without end), then OUT. */
static void write_code(uint8_t *code, const char *what) {
    static const uint8_t out[] = {0xe6, PORT, 0xeb, 0xfc};
    static const uint8_t cpuid[] = {0x31, 0xc0, 0x0f, 0xa2, 0x48, 0xff, 0xce,
                                    0x75, 0xf7, 0xe6, PORT, 0xeb, 0xf3};
    static const uint8_t call[] = {0xb8, 0,    0,    0,    0,    0x0f, 0x01, 0xd9, 0x48,
                                   0xff, 0xce, 0x75, 0xf3, 0xe6, PORT, 0xeb, 0xef};
    if (strcmp(what, "out") == 0)
        memcpy(code, out, sizeof out);
    else if (strcmp(what, "cpuid") == 0)
        memcpy(code, cpuid, sizeof cpuid);
    else {
        unsigned a, b = 0, c, d;
        memcpy(code, call, sizeof call);
        __get_cpuid(0, &a, &b, &c, &d);
        if (b == signature_INTEL_ebx)
            code[7] = 0xc1; /* VMCALL */
    }
}

static void set_up(const char *what) {
    int kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    int machine = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("memory");
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)memory};
    checked(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    uint64_t *tables =
        (uint64_t *)(void *)(memory + TABLES); /* three levels of one page: present, writable, user */
    tables[0] = (TABLES + 0x1000) | 7;
    tables[512] = (TABLES + 0x2000) | 7;
    tables[1024] = 0x80 | 7;        /* the first 2 MiB */
    memory[TASK_STATE + 102] = 104; /* the I/O permission map: all ports */
    memory[TASK_STATE + 104 + IO_MAP] = 0xff;
    write_code(memory + CODE, what);
    vcpu = checked(ioctl(machine, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    int size = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    shared = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (shared == MAP_FAILED)
        die("the vCPU's page");
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[128];
    } leaves = {.head.nent = 128};
    checked(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &leaves), "KVM_GET_SUPPORTED_CPUID");
    checked(ioctl(vcpu, KVM_SET_CPUID2, &leaves), "KVM_SET_CPUID2");
    struct kvm_sregs registers;
    checked(ioctl(vcpu, KVM_GET_SREGS, &registers), "KVM_GET_SREGS");
    registers.cr3 = TABLES;
    registers.cr4 = 1 << 5;            /* PAE */
    registers.cr0 = 0x80010033;        /* PG, WP, NE, ET, MP, PE */
    registers.efer = 1 << 8 | 1 << 10; /* LME, LMA */
    registers.cs = segment(0x18, 11, 1);
    registers.ss = registers.ds = registers.es = registers.fs = registers.gs = segment(0x20, 3, 0);
    registers.tr = (struct kvm_segment){
        .base = TASK_STATE, .limit = 104 + IO_MAP, .selector = 0x28, .type = 11, .present = 1};
    checked(ioctl(vcpu, KVM_SET_SREGS, &registers), "KVM_SET_SREGS");
    struct kvm_regs general = {.rip = CODE, .rflags = 2, .rsi = 1};
    checked(ioctl(vcpu, KVM_SET_REGS, &general), "KVM_SET_REGS");
    enter();
}

/* A loop in the guest goes on behind its OUT, with RSI as it is set here. */
static void loop(long iterations) {
    struct kvm_regs general;
    checked(ioctl(vcpu, KVM_GET_REGS, &general), "KVM_GET_REGS");
    general.rsi = (uint64_t)iterations;
    checked(ioctl(vcpu, KVM_SET_REGS, &general), "KVM_SET_REGS");
    enter();
}

static void outs(long iterations) {
    for (long i = 0; i < iterations; i++)
        enter();
}

int main(int count, char **words) {
    if (count != 3 ||
        (strcmp(words[1], "out") && strcmp(words[1], "cpuid") && strcmp(words[1], "hypercall"))) {
        fputs("usage: exits out|cpuid|hypercall ITERATIONS\n", stderr);
        return 2;
    }
    void (*work)(long) = strcmp(words[1], "out") ? loop : outs;
    long iterations = atol(words[2]);
    set_up(words[1]);
    char line[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        work(iterations / 4 + 1);
        double start = now_ns();
        work(iterations);
        printf("%.6f\n", (now_ns() - start) / (double)iterations);
        fflush(stdout);
    }
    return 0;
}
