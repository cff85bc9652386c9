"""The journal of verdicts: one segment for many, stored anew with each verdict that it gains.

A verdict costs money and seconds, so it is in the store before the task sees it. An object for
each would be many small ones to read back; so a segment is written again, whole, whenever
it gains a verdict, until it holds `SEGMENT_VERDICTS`. Its name is its writer's alone, and it only
grows: whoever reads it, reads verdicts that count.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.judge import VERDICT_VERSION, Verdict
from evalrun_api.reasons import ExitCode
from evalrun_runner.journal.segments import pack, unpacked, writer_name
from evalrun_runner.stores import Store

log = logging.getLogger(__name__)

SEGMENT_VERDICTS = 64
SEGMENT_BYTES = 1 << 20
MAX_UNPACKED_BYTES = 256 << 20
"""Of one segment: it is read whole."""
STORE_SECONDS = 120.0
"""How long a verdict may wait for a store that fails, before the step fails too."""

Verdicts = dict[tuple[str, int], Verdict]
"""By digest of the request and number of the draw."""


def read_verdicts(store: Store, prefix: str, run: str | None = None) -> Verdicts:
    """The verdicts beneath `prefix`; of two for one draw, that in the smaller segment name.

    run: uid of a run whose own verdicts come before all others, since it was scored by them. Two
    runs that were scored at the same time may each have bought one.
    """
    found: Verdicts = {}
    for key in store.list(prefix):
        data = store.get(key) if key.endswith(".jsonl.zst") else None
        if data is not None:
            for verdict in _parse(_unpacked(data, store.uri(key)), store.uri(key)):
                before = found.setdefault((verdict.request, verdict.draw), verdict)
                if verdict.run == run != before.run:
                    found[verdict.request, verdict.draw] = verdict
    return found


class VerdictWriter:
    """Keeps verdicts. Any number of threads may; those that wait together are stored together.

    spool: a folder of this machine in which a verdict outlives the process, should the store fail.
    """

    def __init__(self, store: Store, prefix: str, spool: Path, writer: str) -> None:
        self._store = store
        self._prefix = prefix
        self._spool = spool
        self._writer = writer_name(writer)
        self._number = 0
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._lines: list[bytes] = []
        self._file: BinaryIO | None = None
        self._spools = True
        self._kept = 0
        self._stored = 0

    def keep(self, verdict: Verdict) -> None:
        """Return when the verdict is in the store. Raises `EvalrunError` when it refuses."""
        line = verdict.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"
        Verdict.model_validate_json(line)
        with self._lock:
            self._spooled(line)
            self._lines.append(line)
            self._kept += 1
            mine = self._kept
        with self._storing:
            if self._stored < mine:
                self._write()

    def close(self) -> None:
        """Give up the spool. All that was kept is stored already, or `keep` has said so."""
        with self._storing, self._lock:
            self._next_segment(stored=self._stored == self._kept)

    def _write(self) -> None:
        """Store the segment as it is now; needs `_storing`."""
        with self._lock:
            data, upto = b"".join(self._lines), self._kept
        key = f"{self._prefix}{self._segment}.jsonl.zst"
        deadline = time.monotonic() + STORE_SECONDS
        pause = 0.5
        while True:
            try:
                self._store.put(key, pack(data))
                break
            except EvalrunError as error:
                passes = error.reason.exit_code is ExitCode.STORE
                if not passes or time.monotonic() + pause > deadline:
                    raise
                log.warning("a verdict waits for the store: %s", error)
                time.sleep(pause)
                pause = min(2 * pause, 10.0)
        with self._lock:
            self._stored = upto
            full = len(self._lines) >= SEGMENT_VERDICTS or len(data) >= SEGMENT_BYTES
            if full and self._stored == self._kept:
                self._next_segment(stored=True)

    @property
    def _segment(self) -> str:
        return f"{self._writer}-{self._number:06d}"

    def _spooled(self, line: bytes) -> None:
        try:
            if self._file is None and self._spools:
                self._file = self._open()
            if self._file is not None:
                self._file.write(line)
                self._file.flush()
        except OSError as error:  # the store is what counts; half a file helps nobody
            log.warning("verdicts are not in the spool: %s", error)
            self._discard()
            self._spools = False

    def _open(self) -> BinaryIO:
        self._spool.mkdir(parents=True, exist_ok=True)
        path = self._spool / f"{self._segment}.jsonl"
        opening = path.with_suffix(".opening")
        file = opening.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)  # held while this process lives: not to be adopted
        opening.rename(path)
        return file

    def _next_segment(self, *, stored: bool) -> None:
        if stored:
            self._discard()
        elif self._file is not None:
            with suppress(OSError):
                self._file.close()  # and so give up its lock: the next run here may adopt it
        self._file = None
        self._lines = []
        self._number += 1

    def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                (self._spool / f"{self._segment}.jsonl").unlink()
            with suppress(OSError):
                self._file.close()
        self._file = None


def adopt_verdicts(store: Store, prefix: str, spool: Path) -> int:
    """Store what killed processes left in the spool and not in the store; how many files it was."""
    adopted = 0
    for path in sorted(spool.glob("*.jsonl")):
        with suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            if os.fstat(file.fileno()).st_nlink == 0:
                continue  # another process adopted it while we waited
            lines = path.read_bytes()
            whole = lines[: lines.rfind(b"\n") + 1]
            for _ in _parse(whole, path.as_uri()):
                pass  # damage is found here, before it reaches the store
            key = f"{prefix}{path.stem}.jsonl.zst"
            stored = store.get(key)
            known = set(_unpacked(stored, store.uri(key)).splitlines()) if stored else set()
            lacking = [line for line in whole.splitlines() if line not in known]
            if lacking:  # under a name of its own: what is stored is never replaced by less
                store.put(f"{prefix}{path.stem}a.jsonl.zst", pack(b"\n".join([*lacking, b""])))
                adopted += 1
            path.unlink()
    return adopted


def _unpacked(data: bytes, where: str) -> bytes:
    return b"".join(unpacked(data, where, MAX_UNPACKED_BYTES))


def _parse(lines: bytes, where: str) -> Iterator[Verdict]:
    """The verdicts of unpacked lines. A last line without its end is a torn one and left out."""
    *whole, _torn = lines.split(b"\n")
    for number, line in enumerate(whole, start=1):
        try:
            yield Verdict.model_validate_json(line)
        except ValidationError as error:
            what = f"line {number} is no verdict of format {VERDICT_VERSION}"
            remedy = "Use the release that wrote it, or move the object away: its verdicts are lost"
            raise fail(reasons.CORRUPT_JOURNAL, where, what, remedy) from error
