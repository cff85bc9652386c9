"""Many writes to the API server at a pace, from a process of their own.

It speaks HTTP by itself: a library's client takes half as long as what it asks the API server for,
and would be part of what is measured on two processors.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 8


@dataclass(frozen=True)
class Target:
    """An API server, and where the administrator's certificates are. Goes to other processes."""

    server: str
    pki: Path

    def tls(self) -> ssl.SSLContext:
        """Of an administrator's client."""
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        return context


class Write(NamedTuple):
    """A request: POST, or a merge PATCH."""

    method: str
    path: str
    body: bytes


class Done(NamedTuple):
    """When a request was sent and when it was answered, in the machine's steady seconds."""

    sent: float
    answered: float


class Writer:
    """Sends from another process; `send` returns at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=spawn)
        self._pool.submit(time.monotonic).result()  # so that its start is not measured

    def send(
        self, writes: Sequence[Write], per_second: float = 1e9, connections: int = CONNECTIONS
    ) -> Future[list[Done]]:
        """Send all, in order, at most so many a second."""
        return self._pool.submit(_send, self._target, writes, per_second, connections)

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)


def _send(
    target: Target, writes: Sequence[Write], per_second: float, connections: int
) -> list[Done]:
    return asyncio.run(_send_all(target, writes, per_second, connections))


async def _send_all(
    target: Target, writes: Sequence[Write], per_second: float, connections: int
) -> list[Done]:
    done: list[Done] = [Done(0.0, 0.0)] * len(writes)
    began = time.monotonic()

    async def lane(first: int) -> None:
        address = urlsplit(target.server)
        reader, writer = await asyncio.open_connection(
            address.hostname, address.port, ssl=target.tls()
        )
        for number in range(first, len(writes), connections):
            due = began + number / per_second
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            sent = time.monotonic()
            writer.write(_request(writes[number], address.netloc))
            status, raw = await _answer(reader)
            if status >= 300:
                method, path, _ = writes[number]
                raise RuntimeError(f"{method} {path}: {status} {raw[:300]!r}")
            done[number] = Done(sent, time.monotonic())
        writer.close()

    await asyncio.gather(*(lane(first) for first in range(min(connections, len(writes)))))
    return done


def _request(write: Write, host: str) -> bytes:
    kind = "application/json" if write.method == "POST" else "application/merge-patch+json"
    head = (
        f"{write.method} {write.path} HTTP/1.1",
        f"Host: {host}",
        "Accept-Encoding: identity",
        f"Content-Type: {kind}",
        f"Content-Length: {len(write.body)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + write.body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return status, await reader.readexactly(int(line.split(b":")[1]))
    chunks = []
    while size := int(await reader.readline(), 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return status, b"".join(chunks)
