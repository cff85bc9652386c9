"""Documents decoded ahead: the next chunk's media are decoded while the model answers this one.

lmms-eval's backends look a document up as `model.task_dict[task][split][doc_id]`, and `datasets`
decodes its images in that access, on the thread that should feed the model. Image codecs let other
threads run meanwhile, so one thread that goes ahead hides that time.

What a backend sees stays the same: each access gives a document of its own, decoded by the same
code, never one that was given before. An error in the background is dropped: the access itself
then meets it. Only splits whose documents hold images are decoded ahead; anything else (lists,
streams, splits with a transform, videos, which are decoded frame by frame anyway) is passed
through. So are small images: handing one over from another thread costs more than decoding it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evalrun_runner.answering.document_views import TaskView
from evalrun_runner.journal.request_list import Request

MAX_MIB = 256
"""Of decoded documents that wait for the backend. One document more may be in hand."""
MIB_VARIABLE = "EVALRUN_PREFETCH_MIB"
"""Environment variable that says otherwise; with 0 nothing is decoded ahead."""
WORTH_SECONDS = 0.003
"""Of a processor that a task's document has to take on average to be decoded ahead."""


def allowed_bytes(environment: Mapping[str, str]) -> int:
    """How many bytes of decoded documents may wait."""
    given = environment.get(MIB_VARIABLE, "")
    return (int(given) if given.isdecimal() else MAX_MIB) << 20


class _Place(NamedTuple):
    """Where a document stands."""

    task: str
    split: str
    doc_id: int


@dataclass
class _Decoded:
    document: Any
    size: int
    turn: int


class Prefetcher:
    """Decodes the documents of the chunk that comes next.

    documents: lmms-eval's, by task and split; they may become more. `view` is what the backend is
    given in their stead. seconds: for which backends have waited for documents so far.
    """

    def __init__(
        self,
        documents: dict[str, Any],
        max_bytes: int = MAX_MIB << 20,
        worth_seconds: float = WORTH_SECONDS,
    ) -> None:
        self.view = TaskView(documents, self)
        self.seconds = 0.0
        self._process = os.getpid()
        self._documents = documents
        self._max_bytes = max_bytes
        self._worth_seconds = worth_seconds
        self._cost: dict[str, tuple[int, float]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._turn = 0
        self._queue: deque[tuple[_Place, int]] = deque()
        self._in_hand: _Place | None = None
        self._decoded: dict[_Place, deque[_Decoded]] = {}
        self._bytes = 0
        self._given: dict[str, int] = {}
        self._unused: set[str] = set()
        self._suitable: dict[int, tuple[Any, bool]] = {}

    def chunk(self, requests: Sequence[Request]) -> None:
        """Decode what these requests are about; they are asked after the chunk in hand.

        What was decoded for the chunk before that one, and not looked up, is dropped.
        """
        with self._changed:
            self._turn += 1
            self._drop(self._turn - 1)
            for request in requests:
                if (place := self._place(request)) is not None:
                    self._queue.append((place, self._turn))
            if self._queue and self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop decoding and drop everything."""
        with self._changed:
            self._closed = True
            self._drop(self._turn + 1)
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def look_up(self, task: str, split: str, doc_id: int, documents: Any) -> Any:
        """The document, decoded ahead if it was. In a forked process, such as a loader's, never."""
        if os.getpid() != self._process:  # our thread is not there, and its lock may be held
            return documents[doc_id]
        begun = time.perf_counter()
        try:
            found = self._take(_Place(task, split, doc_id))
            return self._read(task, documents, doc_id) if found is None else found.document
        finally:
            self.seconds += time.perf_counter() - begun

    def _read(self, task: str, documents: Any, doc_id: int) -> Any:
        """A document, decoded here and now; what that takes of the processor is remembered."""
        begun = time.thread_time()
        document = documents[doc_id]
        count, seconds = self._cost.get(task, (0, 0.0))
        self._cost[task] = (count + 1, seconds + time.thread_time() - begun)
        return document

    def _is_costly(self, task: str) -> bool:
        """Whether the task's documents are worth it, as far as any were decoded yet."""
        count, seconds = self._cost.get(task, (0, 0.0))
        return seconds >= self._worth_seconds * max(count, 1)

    def suits(self, documents: Any) -> bool:
        """Whether a split's documents are decoded ahead. Looked at once for each split."""
        known = self._suitable.get(id(documents))
        if known is None or known[0] is not documents:
            known = self._suitable[id(documents)] = (documents, holds_images(documents))
        return known[1]

    def _take(self, place: _Place) -> _Decoded | None:
        with self._changed:
            while True:
                if waiting := self._decoded.get(place):
                    found = waiting.popleft()
                    if not waiting:
                        del self._decoded[place]
                    self._bytes -= found.size
                    self._given[place.task] = self._given.get(place.task, 0) + 1
                    self._changed.notify_all()
                    return found
                if self._in_hand != place:
                    break
                self._changed.wait()
            for entry in self._queue:  # not begun: whoever needs it now is as fast
                if entry[0] == place:
                    self._queue.remove(entry)
                    break
            return None

    def _place(self, request: Request) -> _Place | None:
        split = request.instance.metadata.get("split")
        task = request.task
        if split is None or task in self._unused or not self._is_costly(task):
            return None
        of_task = self._documents.get(task)
        if not isinstance(of_task, Mapping) or not self.suits(of_task.get(split)):
            return None
        return _Place(task, str(split), request.key.doc_id)

    def _drop(self, before: int) -> None:
        """Forget what was wanted in turns before that one.

        A task whose documents a backend never looks up is not decoded ahead any more.
        """
        while self._queue and self._queue[0][1] < before:
            self._queue.popleft()
        for place, waiting in list(self._decoded.items()):
            kept = deque(entry for entry in waiting if entry.turn >= before)
            self._bytes -= sum(entry.size for entry in waiting if entry.turn < before)
            if len(kept) < len(waiting) and not self._given.get(place.task):
                self._unused.add(place.task)
            if kept:
                self._decoded[place] = kept
            else:
                del self._decoded[place]

    def _work(self) -> None:
        while (wanted := self._next()) is not None:
            place, turn = wanted
            found: _Decoded | None = None
            try:
                documents = self._documents[place.task][place.split]
                document = self._read(place.task, documents, place.doc_id)
                found = _Decoded(document, size_of(document), turn)
            except BaseException:  # noqa: BLE001  # a panic of Rust too; the access will meet it
                found = None
            with self._changed:
                self._in_hand = None
                if found is not None and turn >= self._turn - 1 and not self._closed:
                    self._decoded.setdefault(place, deque()).append(found)
                    self._bytes += found.size
                self._changed.notify_all()

    def _next(self) -> tuple[_Place, int] | None:
        with self._changed:
            while not self._closed and (not self._queue or self._bytes >= self._max_bytes):
                self._changed.wait()
            if self._closed:
                return None
            wanted = self._queue.popleft()
            self._in_hand = wanted[0]
            return wanted


def holds_images(documents: Any) -> bool:
    """Whether looking a document up decodes images, and does nothing else of length."""
    from datasets import Dataset

    if not isinstance(documents, Dataset) or documents.format["type"] is not None:
        return False
    kinds = set(_decoded_kinds(documents.features))
    return kinds == {"Image"}


def _decoded_kinds(feature: Any) -> Iterator[str]:
    """Names of the feature types within that are decoded when a document is looked up."""
    if isinstance(feature, Mapping):
        for entry in feature.values():
            yield from _decoded_kinds(entry)
    elif isinstance(feature, list | tuple):
        for entry in feature:
            yield from _decoded_kinds(entry)
    elif hasattr(feature, "feature"):
        yield from _decoded_kinds(feature.feature)
    elif hasattr(feature, "decode_example") and getattr(feature, "decode", True):
        yield type(feature).__name__


def size_of(value: Any) -> int:
    """Bytes that a decoded document holds, near enough: those of its media."""
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    if isinstance(value, bytes | str):
        return len(value)
    if hasattr(value, "getbands"):  # an image of PIL
        width, height = value.size
        return int(width * height * len(value.getbands()))
    return int(getattr(value, "nbytes", 0))
