"""Writing a journal: answers go to a local spool at once and to the store every few seconds.

A segment is spooled as lines while it grows, then stored as one object that is never overwritten:
after five seconds, when it has grown large, and when the process is asked to stop. The writers of
one machine that answer the same share a spool, and one of them stores for all.
What a killed process left in the spool is stored by the next one on this machine (`adopt`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import Record
from evalrun_api.reasons import PERMANENT
from evalrun_runner.journal.segments import pack, parse_records, writer_name
from evalrun_runner.stores import Store
from evalrun_runner.stores.patience import patiently

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
"""A machine that is lost takes at most the answers of this time with it."""
TURN_OVER_SECONDS = 0.2
FLUSH_BYTES = 4 << 20
"""A segment that has grown so large is stored at once, so that none outgrows a reader's memory."""
MAX_UNSTORED_SECONDS = 120.0
"""How long answers may wait in the spool while the store fails, before the run fails too."""
STOP_SECONDS = 8.0
"""The same for a process that is asked to stop: the pod's grace period ends soon."""


def spool_folder(root: Path, store_uri: str, prefix: str) -> Path:
    """Folder of the spool for one journal: `prefix` of the store at `store_uri` (with endpoint)."""
    return root / hashlib.sha256(f"{store_uri}\n{prefix}".encode()).hexdigest()[:32]


class JournalWriter:
    """Appends answers to a journal. Closing (or `flush`) makes them durable.

    store, prefix: the journal's place; segments are named WRITER-NNNNNN.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        spool: Path,
        writer: str,
        flush_seconds: float = FLUSH_SECONDS,
        flush_bytes: int = FLUSH_BYTES,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._spool = spool
        self._writer = writer_name(writer)
        self._number = 0
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._current: tuple[BinaryIO, Path] | None = None
        self._full: list[Path] = []
        self._failure: Exception | None = None
        self._failing_since: float | None = None
        self._closed = False
        self._wake = threading.Event()
        self._flush_seconds = flush_seconds
        self._flush_bytes = flush_bytes
        self._make_spool()
        self._thread = threading.Thread(target=self._flush_regularly, name="journal", daemon=True)
        self._thread.start()

    def append(self, records: Iterable[Record]) -> None:
        """Journal the answers of a chunk. They are spooled even when storing has failed for good,
        which is then raised.
        """
        lines = b"".join(_line(record) for record in records)
        with self._lock:
            try:
                if self._current is None:
                    self._current = self._open_spool()
                file, _ = self._current
                file.write(lines)
                file.flush()
            except OSError as error:
                raise _spool_error(error, self._spool) from error
            if file.tell() >= self._flush_bytes:
                self._turn_over()
                self._wake.set()
        if self._failure is not None:
            raise self._failure

    def flush(self) -> None:
        """Store everything that was appended. Raises `EvalrunError` when the store refuses."""
        self._flush(0.0)

    def _flush(self, patience_for_others: float) -> None:
        with self._storing:
            self._store_full()  # while the store is away, answers wait in one file, not in many
            with self._lock:
                if self._current is not None:
                    self._turn_over()
            # All writers of a machine turn their files over at the same moment. Then the first of
            # them stores everybody's as one object, and the others find theirs gone.
            time.sleep(patience_for_others)
            self._store_full()

    def _turn_over(self) -> None:
        """The current file is full. Closing it gives up its lock: anybody may store it now."""
        if self._current is not None:
            file, path = self._current
            self._current = None
            self._full.append(path)
            with suppress(OSError):  # what a full disk did not take was reported when appended
                file.flush()
                fcntl.flock(file, fcntl.LOCK_UN)  # a process forked meanwhile would keep it
            with suppress(OSError):
                file.close()

    def _store_full(self) -> None:
        while self._full:  # `append` may add to it meanwhile
            with _exclusive(self._spool):
                if self._full[0].exists():
                    _store_batch(self._store, self._prefix, _batch(self._spool, self._full[0]))
            self._full.pop(0)

    def close(self, patience_seconds: float = 0.0) -> None:
        """Store everything and stop; a store that is away is tried for so long.

        Raises `EvalrunError` for what cannot be stored. It stays in the spool.
        """
        self._closed = True
        self._wake.set()
        self._thread.join()
        try:
            patiently(self.flush, patience_seconds)
        finally:
            with self._lock:
                self._turn_over()

    def _open_spool(self) -> tuple[BinaryIO, Path]:
        self._number += 1
        path = self._spool / f"{self._writer}-{self._number:06d}.jsonl"
        opening = path.with_suffix(".opening")
        descriptor = os.open(opening, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # held while this process lives: not to be adopted
        opening.rename(path)
        return os.fdopen(descriptor, "wb"), path

    def _make_spool(self) -> None:
        try:
            self._spool.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _spool_error(error, self._spool) from error

    def _flush_regularly(self) -> None:
        interval = self._flush_seconds
        while not self._closed:
            self._wake.wait(interval - time.monotonic() % interval)
            self._wake.clear()
            if self._closed:
                return
            try:
                self._flush(min(TURN_OVER_SECONDS, interval / 10))
                self._failing_since = None
            except EvalrunError as error:
                now = time.monotonic()
                self._failing_since = self._failing_since or now
                permanent = error.reason.exit_code in PERMANENT
                if permanent or now - self._failing_since > MAX_UNSTORED_SECONDS:
                    self._failure = error
                log.warning("answers wait in the spool: %s", error)
            except Exception as error:
                log.exception("answers wait in the spool")
                self._failure = error


def adopt(store: Store, prefix: str, spool: Path) -> int:
    """Store what killed processes left in the spool; how many files that were.

    A file whose process still lives is locked, and left alone. Damage is named before anything
    that is damaged reaches the store.
    """
    adopted = 0
    if not spool.is_dir():
        return 0
    with _exclusive(spool):
        for path in sorted(spool.glob("*.jsonl")):
            if path.exists() and _is_given_up(path):
                for _ in parse_records(path.read_bytes(), path.as_uri()):
                    pass
                batch = _batch(spool, path)
                _store_batch(store, prefix, batch)
                adopted += len(batch)
    return adopted


@contextmanager
def _exclusive(spool: Path) -> Iterator[None]:
    """Store from a spool alone; others on this machine wait."""
    try:
        descriptor = os.open(spool, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _spool_error(error, spool) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Closing is not enough: a process that a backend forked meanwhile has it open too.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _is_given_up(path: Path) -> bool:
    """Whether no living process appends to a spool file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _batch(spool: Path, first: Path) -> list[Path]:
    """A spool file, and others that can be stored with it as one object.

    A damaged one is left for `adopt`, which names it.
    """
    found, size = [first], first.stat().st_size
    for path in sorted(spool.glob("*.jsonl")):
        if path == first or not _is_given_up(path):
            continue
        size += path.stat().st_size
        if size > FLUSH_BYTES:
            break
        try:
            for _ in parse_records(path.read_bytes(), path.as_uri()):
                pass
        except EvalrunError:
            log.exception("a spool file is damaged", extra={"spool": str(path)})
        else:
            found.append(path)
    return found


def _store_batch(store: Store, prefix: str, paths: list[Path]) -> None:
    """Store spool files as one segment, then remove them. Safe to repeat: in the worst case the
    same records stand in two segments.
    """
    try:
        texts = [path.read_bytes() for path in paths]
        whole = b"".join(text[: text.rfind(b"\n") + 1] for text in texts)
        if whole:
            _store_segment(store, f"{prefix}{paths[0].stem}", pack(whole))
        for path in paths:
            path.unlink()
    except OSError as error:
        raise _spool_error(error, paths[0].parent) from error


def _store_segment(store: Store, name: str, data: bytes) -> None:
    """Store a segment under its name, or, if something else has it, under one beside it."""
    key = f"{name}.jsonl.zst"
    if not store.create(key, data) and store.get(key) != data:
        store.create(f"{name}-{os.urandom(4).hex()}.jsonl.zst", data)


def _line(record: Record) -> bytes:
    """The record as a line that is known to read back."""
    line = record.model_dump_json(by_alias=True, exclude_none=True).encode()
    Record.model_validate_json(line)
    return line + b"\n"


def _spool_error(error: OSError, spool: Path) -> EvalrunError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = reasons.DISK_FULL if full else reasons.STORE_UNAVAILABLE
    remedy = None if full else "Check the rights of the work folder"
    return fail(reason, os.fspath(spool), error.strerror or str(error), remedy)
