"""The loop that all tools measure, and as a command."""


def loop(n):
    """Arithmetic and a dictionary."""
    total, table = 0, {}
    for number in range(n):
        total += number * 3 % 7
        table[number & 63] = total


if __name__ == "__main__":
    import sys

    loop(int(sys.argv[1]))
