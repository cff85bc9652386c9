"""A watch on its way: cut, late, repeated. Nothing of it is ever kept back but what is late."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator

from bench.api_faults.draws import LATE_EVENTS, REPEATED_EVENTS, Draws

REMEMBERED = 64
"""Lines that may be repeated."""
LONGEST_LATE_SECONDS = 1.5


class CutError(Exception):
    """The watch ends here, perhaps in the middle of a line."""


async def disturbed(chunks: AsyncIterator[bytes], draws: Draws) -> AsyncIterator[bytes]:
    """The lines of a watch. Raises CutError when the time has come."""
    seen: deque[bytes] = deque(maxlen=REMEMBERED)
    loop = asyncio.get_running_loop()
    due = loop.time() + draws.cut_after()
    rest = b""
    following = aiter(chunks)
    pending: asyncio.Future[bytes] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(following))
            await asyncio.wait((pending,), timeout=max(due - loop.time(), 0.0))
            if not pending.done():
                if draws.calm:
                    due = loop.time() + 3600.0
                    continue
                draws.count("watch", "cut")
                raise CutError
            try:
                chunk = pending.result()
            except StopAsyncIteration:
                return
            finally:
                pending = None
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if draws.chance(LATE_EVENTS):
                    draws.count("watch", "late_event")
                    await asyncio.sleep(LONGEST_LATE_SECONDS * draws.pick(100) / 100)
                yield line + b"\n"
                if _is_of_an_object(line):
                    seen.append(line)
                if seen and draws.chance(REPEATED_EVENTS):
                    draws.count("watch", "repeated_event")
                    yield seen[draws.pick(len(seen))] + b"\n"
    finally:
        if pending is not None:
            pending.cancel()


def gone_line() -> bytes:
    """What the API server says in a watch whose version is too old."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "too old resource version",
        "reason": "Expired",
        "code": 410,
    }
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


def _is_of_an_object(line: bytes) -> bool:
    return line.startswith((b'{"type":"ADDED"', b'{"type":"MODIFIED"', b'{"type":"DELETED"'))
