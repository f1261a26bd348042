"""vprobe's agent with one more workload: a Python loop, of which any number of iterations can be asked for exactly."""

from __future__ import annotations

from vprobe.suites import Block, workload

from vprobe.measure import agent

NAME = "validation.loop"


@workload(NAME, kind="python", needs=("python",))
def loop() -> Block:
    """An empty loop of the interpreter, an iteration an operation."""

    def run(iterations: int) -> None:
        for _ in range(iterations):
            pass

    return run


if __name__ == "__main__":
    agent.main()
