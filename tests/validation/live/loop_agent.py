"""vprobe's agent with one more workload: a Python loop, of which any number of iterations can be asked for exactly."""

from __future__ import annotations

from vprobe.suites import Block, workload

from vprobe.measure import agent

NAME = "validation.loop"


@workload(NAME, kind="python", needs=("python",))
def loop() -> Block:
    """A loop of the interpreter with arithmetic and a dictionary, an iteration an operation."""

    def run(iterations: int) -> None:
        total, table = 0, {}
        for number in range(iterations):
            total += number * 3 % 7
            table[number & 63] = total

    return run


if __name__ == "__main__":
    agent.main()
