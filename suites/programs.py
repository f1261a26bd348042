"""Pure-Python programs: what the interpreter itself does, with no library behind it. Each is a fraction of a millisecond."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def bodies() -> Callable[[], float]:
    """Planets under gravity: floating point and lists (the n-body problem, a step of 2 bodies pairwise over 5)."""
    positions = [
        [0.0, 0.0, 0.0],
        [4.84, -1.16, -0.10],
        [8.34, 4.12, -0.40],
        [12.89, -15.11, -0.22],
        [15.37, -25.91, 0.17],
    ]
    speeds = [[0.0, 0.0, 0.0], [0.60, 2.81, -0.02], [-1.01, 1.82, 0.008], [1.08, 0.86, -0.01], [0.97, 0.59, -0.03]]
    masses = [39.47, 0.037, 0.011, 0.0017, 0.002]

    def advance() -> float:
        for i, (here, speed, mass) in enumerate(zip(positions, speeds, masses)):
            for j in range(i + 1, len(positions)):
                there, other = positions[j], speeds[j]
                dx, dy, dz = here[0] - there[0], here[1] - there[1], here[2] - there[2]
                pull = 0.001 / (dx * dx + dy * dy + dz * dz) ** 1.5
                for axis, distance in enumerate((dx, dy, dz)):
                    speed[axis] -= distance * masses[j] * pull
                    other[axis] += distance * mass * pull
        for here, speed in zip(positions, speeds):
            for axis in range(3):
                here[axis] += 0.001 * speed[axis]
        return positions[0][0]

    return advance


def words(text: str) -> Callable[[], int]:
    """Words counted and sorted: strings, dictionaries, sorting by a key."""

    def count() -> int:
        counts: dict[str, int] = {}
        for word in text.split():
            counts[word] = counts.get(word, 0) + 1
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return most[0][1]

    return count


class Node:
    """A node of a binary search tree."""

    __slots__ = ("key", "left", "right")

    def __init__(self, key: int) -> None:
        self.key = key
        self.left: Node | None = None
        self.right: Node | None = None

    def insert(self, key: int) -> None:
        """Put a key where it belongs."""
        if key < self.key:
            if self.left is None:
                self.left = Node(key)
            else:
                self.left.insert(key)
        elif self.right is None:
            self.right = Node(key)
        else:
            self.right.insert(key)

    def depth(self) -> int:
        """Nodes on the longest way down."""
        left = self.left.depth() if self.left else 0
        right = self.right.depth() if self.right else 0
        return 1 + max(left, right)


def trees() -> Callable[[], int]:
    """A binary tree of 64 keys built and walked: objects, attributes, recursive method calls, allocation."""
    keys = [key * 37 % 64 for key in range(64)]

    def build() -> int:
        root = Node(keys[0])
        for key in keys[1:]:
            root.insert(key)
        return root.depth()

    return build


def queens(size: int = 5) -> Callable[[], int]:
    """Queens on a board that do not threaten each other: generators, sets, tuples."""

    def place(row: int, columns: frozenset[int], rising: frozenset[int], falling: frozenset[int]) -> Iterator[int]:
        if row == size:
            yield 1
            return
        for column in range(size):
            if column in columns or column + row in rising or column - row in falling:
                continue
            yield from place(row + 1, columns | {column}, rising | {column + row}, falling | {column - row})

    def solve() -> int:
        none: frozenset[int] = frozenset()
        return sum(place(0, none, none, none))

    return solve
