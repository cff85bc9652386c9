"""Packing documents into the store: a tar, cut into parts that are compressed one by one.

The parts of an archive, joined in order, are a plain .tar.zst. What is in a part follows from the
list of files alone, and each part's name holds its sha256, so an interrupted upload goes on with
the parts that are missing.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import zstandard

from evalrun_api import reasons
from evalrun_api.digests import canonical_json
from evalrun_api.errors import fail
from evalrun_runner.data.amounts import Amount
from evalrun_runner.data.index import ArchiveIndex, Contents, Link, Member, Part
from evalrun_runner.stores import Store

PART_BYTES = 32 << 20
"""Of the tar in one part. Small enough to hold a few in memory, and to show progress by."""
UPLOADS = 3
BLOCK = 1 << 20
_PART = re.compile(r"(\d{5,})-([0-9a-f]{64})\.tar\.zst$")


def contents(
    home: Path, files: list[str], links: dict[str, str], activity: Callable[[str], None]
) -> Contents:
    """The files with their digests: reads each of them once."""
    amount = Amount("hashing the documents", sum((home / path).stat().st_size for path in files))
    members = []
    for path in files:
        hasher, size = hashlib.sha256(), 0
        with (home / path).open("rb") as file:
            while block := file.read(BLOCK):
                hasher.update(block)
                size += len(block)
                amount.add(len(block), activity)
        members.append(Member(path=path, size=size, sha256=hasher.hexdigest()))
    found = [Link(path=path, target=target) for path, target in links.items()]
    return Contents(members=members, links=found)


def upload(
    store: Store, folder: str, home: Path, what: Contents, activity: Callable[[str], None]
) -> None:
    """Put an archive into the store beneath `folder`; does nothing if it is there, whole.

    Memory: a few parts.
    """
    there = present(store, folder)
    sizes = part_sizes(what)
    index = f"{folder}/index.json"
    if len(there) == len(sizes) and (data := store.get(index)) is not None:
        store.put(index, data)  # written to today, so `evalrun gc` does not take it for forgotten
        return
    amount = Amount("storing the documents", sum(sizes))
    digests: dict[int, str] = dict(there)
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(UPLOADS, "upload") as pool:
        try:
            for number, data in enumerate(_cut(home, what, skip=there)):
                if data is None:
                    amount.add(sizes[number], activity)
                    continue
                packed = zstandard.ZstdCompressor(level=3).compress(data)
                digests[number] = hashlib.sha256(packed).hexdigest()
                key = part_key(folder, number, digests[number])
                waiting.append(pool.submit(store.put, key, packed))
                while len(waiting) >= UPLOADS:
                    waiting.pop(0).result()
                amount.add(sizes[number], activity)
            for future in waiting:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    parts = [Part(sha256=digests[number], size=size) for number, size in enumerate(sizes)]
    store.put(index, canonical_json(ArchiveIndex(contents=what, parts=parts).document()))


def part_key(folder: str, number: int, sha256: str) -> str:
    """Key of a part."""
    return f"{folder}/{number:05d}-{sha256}.tar.zst"


def present(store: Store, folder: str) -> dict[int, str]:
    """The parts that are in the store: number and sha256. Of two, the smaller name counts."""
    found: dict[int, str] = {}
    for key in store.list(f"{folder}/"):
        if match := _PART.search(key):
            found.setdefault(int(match[1]), match[2])
    return found


def part_sizes(what: Contents) -> list[int]:
    """Bytes of the tar in each part."""
    total = sum(len(_header(member)) + _padded(member.size) for member in what.members)
    total += 2 * tarfile.BLOCKSIZE
    whole, rest = divmod(total, PART_BYTES)
    return [PART_BYTES] * whole + ([rest] if rest else [])


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _header(member: Member) -> bytes:
    """Only name and size: owner, mode and time would differ between machines."""
    entry = tarfile.TarInfo(member.path)
    entry.size, entry.mode = member.size, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8")


def _cut(home: Path, what: Contents, skip: dict[int, str]) -> Iterator[bytes | None]:
    """The tar in pieces of `PART_BYTES`; None for those to skip, whose files are not read."""
    number, buffer, left = 0, bytearray(), PART_BYTES
    for size, block in _tar(home, what, lambda start, end: _is_wanted(start, end, skip)):
        taken = 0
        while taken < size:
            step = min(left, size - taken)
            if number not in skip:
                if block is None:
                    raise AssertionError("a wanted part was not read")
                buffer += block[taken : taken + step]
            taken += step
            left -= step
            if left == 0:
                yield None if number in skip else bytes(buffer)
                number, left = number + 1, PART_BYTES
                buffer.clear()
    if left < PART_BYTES:
        yield None if number in skip else bytes(buffer)


def _is_wanted(start: int, end: int, skip: dict[int, str]) -> bool:
    """Whether any part that has bytes of the tar from `start` to `end` is to be read."""
    return any(
        number not in skip for number in range(start // PART_BYTES, (end - 1) // PART_BYTES + 1)
    )


def _tar(
    home: Path, what: Contents, wanted: Callable[[int, int], bool]
) -> Iterator[tuple[int, bytes | None]]:
    """The tar block by block: its length, and its bytes unless nobody wants them."""
    position = 0
    for member in what.members:
        header = _header(member)
        yield len(header), header
        position += len(header)
        padding = _padded(member.size) - member.size
        with (home / member.path).open("rb") as file:
            left = member.size
            while left:
                size = min(BLOCK, left)
                if wanted(position, position + size):
                    file.seek(member.size - left)
                    block = file.read(size)
                    if len(block) < size:
                        raise _changed(home / member.path)
                    yield size, block
                else:
                    yield size, None
                left -= size
                position += size
            if file.seek(0, 2) != member.size:
                raise _changed(home / member.path)
        if padding:
            yield padding, bytes(padding)
            position += padding
    yield 2 * tarfile.BLOCKSIZE, bytes(2 * tarfile.BLOCKSIZE)


def _changed(path: Path) -> Exception:
    what = "it changes while it is packed"
    remedy = "Let nothing else write to this cache, then run prepare again"
    return fail(reasons.DATASET_UNAVAILABLE, str(path), what, remedy)
