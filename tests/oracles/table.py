"""The table: every row, in the order in which it is shown."""

from __future__ import annotations

from oracles import caches, exits, kernels, network, python, random_access, redis, storage, system, timers
from oracles.pairs import Row

ROWS: tuple[Row, ...] = (
    *kernels.ROWS,
    *python.ROWS,
    *system.ROWS,
    *random_access.ROWS,
    *timers.ROWS,
    *storage.ROWS,
    *network.ROWS,
    *redis.ROWS,
    *exits.ROWS,
    *caches.ROWS,
)
