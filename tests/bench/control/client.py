"""Requests to the API server as its administrator, cheap enough to be no part of what is measured."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

Doc = dict[str, Any]
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Target:
    """An API server, and where the administrator's certificates are. Goes to other processes."""

    server: str
    pki: Path


def _tls(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(target.pki / "ca.crt"))
    context.load_cert_chain(target.pki / "admin.crt", target.pki / "admin.key")
    return context


@asynccontextmanager
async def session(target: Target, connections: int = 8) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with so many connections at most."""
    async with aiohttp.ClientSession(
        target.server,
        connector=aiohttp.TCPConnector(ssl=_tls(target), limit=connections),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=120),
        headers={"Accept-Encoding": "identity"},
    ) as found:
        yield found


async def send(
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    body: bytes | None = None,
    content: str = "application/json",
) -> bytes:
    """One request. Raises RuntimeError with what the API server said."""
    headers = {"Content-Type": content} if body is not None else {}
    async with http.request(method, path, data=body, headers=headers) as answer:
        raw = await answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {raw[:300]!r}")
        return raw


async def count(http: aiohttp.ClientSession, path: str) -> int:
    """How many objects there are beneath a path."""
    raw = await send(http, "GET", f"{path}?limit=1")
    listed = json.loads(raw)
    return len(listed["items"]) + int(listed["metadata"].get("remainingItemCount") or 0)


async def create_all(
    target: Target, path: str, bodies: Sequence[bytes], per_second: float, connections: int
) -> list[tuple[float, float]]:
    """Create objects at a pace. When each was sent and answered, by the machine's steady clock.

    Speaks HTTP by itself: a client of a library's takes as long as half of what it asks for.
    """
    times: list[tuple[float, float]] = [(0.0, 0.0)] * len(bodies)
    address = urlsplit(target.server)
    began = time.monotonic()

    async def worker(first: int) -> None:
        reader, writer = await asyncio.open_connection(
            address.hostname, address.port, ssl=_tls(target)
        )
        for number in range(first, len(bodies), connections):
            body = bodies[number]
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept-Encoding: identity\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            due = began + number / per_second
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            sent = time.monotonic()
            writer.write(head.encode() + body)
            said = await reader.readuntil(b"\r\n\r\n")
            raw = await _body(reader, said)
            if not said.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"POST {path}: {said[:40]!r} {raw[:300]!r}")
            times[number] = (sent, time.monotonic())
        writer.close()

    await asyncio.gather(*(worker(first) for first in range(connections)))
    return times


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return await reader.readexactly(int(line.split(b":")[1]))
    chunks = []
    while size := int(await reader.readline(), 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(chunks)


def create(
    target: Target,
    path: str,
    bodies: Sequence[bytes],
    per_second: float = 1e9,
    connections: int = 8,
) -> list[tuple[float, float]]:
    """The same, for a process of its own."""
    return asyncio.run(create_all(target, path, bodies, per_second, connections))


async def delete_each(http: aiohttp.ClientSession, paths: Iterable[str]) -> None:
    """Delete objects with what they own, some at a time."""
    lanes = asyncio.Semaphore(8)

    async def one(path: str) -> None:
        async with lanes:
            await send(http, "DELETE", path, b'{"propagationPolicy":"Background"}')

    await asyncio.gather(*(one(path) for path in paths))
