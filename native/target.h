/* The machine that the extension is built for. With -DVPROBE_NO_X86 an x86 build is what another machine
 * gets, so that the tests can run it. */
#ifndef VPROBE_TARGET_H
#define VPROBE_TARGET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* before any header of the system: every file includes this one first */
#endif

#if defined(__x86_64__) && !defined(VPROBE_NO_X86)
#define VPROBE_X86 1
#endif

#if defined(__x86_64__)
#define VPROBE_MACHINE "x86_64"
#elif defined(__aarch64__)
#define VPROBE_MACHINE "aarch64"
#elif defined(__riscv) && __riscv_xlen == 64
#define VPROBE_MACHINE "riscv64"
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define VPROBE_MACHINE "ppc64le"
#elif defined(__s390x__)
#define VPROBE_MACHINE "s390x"
#elif defined(__i386__)
#define VPROBE_MACHINE "i686"
#elif defined(__arm__)
#define VPROBE_MACHINE "armv7l"
#else
#define VPROBE_MACHINE "unknown"
#endif

/* Whose system calls the kernels can make themselves. */
#if defined(__x86_64__) || defined(__aarch64__)
#define VPROBE_SYSCALLS 1
#endif

#endif
