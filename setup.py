"""Only the C extension: everything else is in pyproject.toml."""

from setuptools import Extension, setup

SOURCES = ["module", "cpuid", "msr", "clock", "kernels", "system", "microvm"]

setup(
    ext_modules=[
        Extension(
            "vprobe._native",
            sources=[f"native/{name}.c" for name in SOURCES],
            depends=["native/vprobe_native.h"],
            include_dirs=["native"],
            extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"],
            py_limited_api=True,
        )
    ]
)
