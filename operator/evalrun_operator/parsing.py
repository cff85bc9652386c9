"""Parses Benchmarks, whose files may take seconds, so that nobody else has to wait for them."""

from __future__ import annotations

import asyncio

from evalrun_api.benchmark import Benchmark
from evalrun_api.reading import read
from evalrun_operator.decisions import Doc

MANY = 4
"""Workers that may wait for a Benchmark; the others are for runs that need none."""


class Busy(Exception):  # noqa: N818 - a state
    """Too many wait already: try again later."""


class Parser:
    """Beside the event loop, and one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def benchmark(self, found: Doc, where: str) -> Benchmark:
        """The Benchmark that a document holds. Raises `EvalrunError`, `Busy`."""
        if self._waiting >= MANY:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(read, Benchmark, found, where)
        finally:
            self._waiting -= 1
