"""QEMU's monitor (QMP) as the controller uses it: a few commands, each answered before the next, through the library qemu.qmp."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient, QMPError

from vprobe.errors import RunError

COMMAND_TIMEOUT_S = 10.0
POLL_S = 0.002

# What it has to say reaches the user as an error of ours; its own log is for who debugs the library.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
logging.getLogger("qemu.qmp").propagate = False


class Monitor:
    """The connection to one QEMU. Raises RunError where QEMU does not answer or refuses."""

    def __init__(self, socket: Path, timeout_s: float, alive: Callable[[], bool]) -> None:
        """Connect, waiting for QEMU to open its socket for as long as it is `alive`, at most `timeout_s`."""
        self._runner = asyncio.Runner()
        self._client = QMPClient("vprobe")
        self._scale = max(1.0, timeout_s / COMMAND_TIMEOUT_S)
        deadline = time.monotonic() + timeout_s
        try:
            while not self._connected(socket):
                if not alive():
                    raise RunError("QEMU ended before it could be spoken to")
                if time.monotonic() > deadline:
                    raise RunError(f"QEMU opened no monitor within {timeout_s:.0f} s")
                time.sleep(POLL_S)
        except BaseException:
            self._runner.close()
            raise

    def _connected(self, socket: Path) -> bool:
        if not socket.exists():
            return False
        try:
            self._runner.run(asyncio.wait_for(self._client.connect(str(socket)), COMMAND_TIMEOUT_S * self._scale))
        except (QMPError, OSError, TimeoutError):
            return False
        return True

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """One command and what it returns."""
        call = self._client.execute(command, dict(arguments) if arguments else None)
        try:
            return self._runner.run(asyncio.wait_for(call, COMMAND_TIMEOUT_S * self._scale))
        except (QMPError, OSError, EOFError, TimeoutError) as error:
            raise RunError(f"QEMU does not do {command}: {error or type(error).__name__}") from None

    def close(self) -> None:
        """Let go of the connection; QEMU goes on."""
        with contextlib.suppress(QMPError, OSError, EOFError, TimeoutError):
            self._runner.run(asyncio.wait_for(self._client.disconnect(), COMMAND_TIMEOUT_S))
        self._runner.close()
