"""Only the C extension: everything else is in pyproject.toml."""

import compileall
import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = [
    "module",
    "errors",
    "affinity",
    "cpuid",
    "msr",
    "clock",
    "kernels",
    "kernels_system",
    "kernels_exits",
    "kernel_table",
    "memory",
    "kernel_host",
    "host_memory",
    "run",
    "partner",
    "system",
    "timers",
    "guest",
    "machine",
    "microvm",
    "microvm_timing",
]
KERNEL_SOURCES = {"kernels", "kernels_system", "kernels_exits"}
HEADERS = ["target.h", "vprobe_native.h", "kernels.h", "kernel_code.h", "kernel_host.h", "machine.h"]

# The kernels' bytes must be whole in themselves, since they are copied into guests: nothing that a compiler adds of its
# own accord (calls into the C library, jump tables in .rodata, canaries, instrumentation) may appear in them, and no
# instruction beyond the baseline. These flags come last, so that they win over whatever CFLAGS brings.
KERNEL_FLAGS = [
    "-ffreestanding",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fno-jump-tables",
    "-fno-sanitize=all",
    "-fno-lto",
    "-fno-asynchronous-unwind-tables",
    "-fomit-frame-pointer",
    "-falign-loops=32",
]
KERNEL_FLAGS_OF = {
    "x86_64": ["-fcf-protection=none", "-march=x86-64", "-mtune=generic"],
    "aarch64": ["-mno-outline-atomics"],  # which are calls into libgcc
}

# The first process of Linux guests: a static program without a C library (see native/guest_init.c).
GUEST_INIT = "guest_init"
GUEST_INIT_FLAGS = [
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-fno-lto",
    "-fno-pie",
    "-fcf-protection=none",
    "-march=x86-64",
]
GUEST_INIT_LINK_FLAGS = ["-static", "-nostdlib", "-no-pie", "-Wl,--build-id=none", "-s"]


class BuildExt(build_ext):
    """Compiles the kernels with flags of its own; distutils has one set of flags for all sources of an extension."""

    def run(self) -> None:
        """In an editable install also compiles the modules, which nobody else does ahead.

        Where Python is told to write no bytecode every start of the command would compile them anew.
        """
        super().run()
        if platform.machine() == "x86_64":
            self.build_guest_init()
        if self.inplace:
            for package in ("vprobe", "suites", "reports"):
                compileall.compile_dir(package, quiet=1)

    def build_extensions(self) -> None:
        compile_one = self.compiler._compile  # the hook that distutils' compilers share
        flags = KERNEL_FLAGS + KERNEL_FLAGS_OF.get(platform.machine(), [])

        def compile_with_flags(obj, src, ext, cc_args, extra_postargs, pp_opts):  # type: ignore[no-untyped-def]
            own = flags if Path(src).stem in KERNEL_SOURCES else []
            compile_one(obj, src, ext, cc_args, [*extra_postargs, *own], pp_opts)

        self.compiler._compile = compile_with_flags
        super().build_extensions()

    def build_guest_init(self) -> None:
        """Compile the guests' init beside the extension. By the plain compiler: CFLAGS of the user's are for libraries."""
        package = Path(self.get_ext_fullpath("vprobe._native")).parent
        package.mkdir(parents=True, exist_ok=True)
        compiler = self.compiler.compiler[0]  # the first word of what CC or Python's own build says
        output = str(package / "guest-init")
        self.spawn([compiler, *GUEST_INIT_FLAGS, *GUEST_INIT_LINK_FLAGS, "-o", output, f"native/{GUEST_INIT}.c"])


setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[
        Extension(
            "vprobe._native",
            sources=[f"native/{name}.c" for name in SOURCES],
            depends=[*(f"native/{name}" for name in HEADERS), f"native/{GUEST_INIT}.c"],
            include_dirs=["native"],
            extra_compile_args=[
                "-std=gnu11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror=implicit-function-declaration",
                "-Wno-missing-field-initializers",
                "-fvisibility=hidden",
            ],
            py_limited_api=True,
        )
    ],
)
