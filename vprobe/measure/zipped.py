"""What the zipapp runs (vprobe.environments.shipment): the agent, with the native extension out of the zipapp itself.

Standard library only, and Python 3.9.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zipimport

import vprobe


def load_native(archive: str) -> None:
    """Load the extension by a memory file; where it is missing or cannot be loaded the agent does without."""
    import importlib.machinery  # noqa: PLC0415 - what the interpreter has loaded anyway
    import importlib.util  # noqa: PLC0415

    with contextlib.suppress(ImportError, OSError):
        code = zipimport.zipimporter(archive).get_data("vprobe/_native.so")
        descriptor = os.memfd_create("vprobe-native")
        while code:
            code = code[os.write(descriptor, code) :]
        path = f"/proc/self/fd/{descriptor}"  # open as long as the process: what was loaded is hashed by its file
        loader = importlib.machinery.ExtensionFileLoader("vprobe._native", path)
        spec = importlib.util.spec_from_file_location("vprobe._native", path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        sys.modules["vprobe._native"] = vprobe._native = module


def main() -> None:
    """Entry point of the zipapp, whose path Python has put first."""
    load_native(sys.path[0])
    from vprobe.measure import agent  # noqa: PLC0415 - it looks for the extension when it is imported

    agent.main()
