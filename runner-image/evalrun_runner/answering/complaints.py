"""What a backend says of its own failures: the errors that it logs while it is asked.

Most backends of lmms-eval catch whatever happens within `generate_until`, log it and answer "". So
the log within the call is the only witness of what a missing answer died of, or that a given one
rests on less than it should (a picture that could not be read, for example).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from evalrun_runner import logs
from evalrun_runner.failures import device_is_lost, memory_ran_out, printable

MAX_KEPT = 8
MAX_LENGTH = 600
"""Of what is kept of one call: a backend may log without end."""

_NOT_THE_BACKEND = ("evalrun_", "botocore", "boto3", "s3transfer")
"""Loggers of this process that speak of the journal's store, also while a backend is asked."""


@dataclass
class Complaints:
    """The errors that were logged during one call.

    errors: how many. own: how many of them by the backend's own code.
    out_of_memory, device_lost: whether one of them says so.
    """

    errors: int = 0
    own: int = 0
    out_of_memory: bool = False
    device_lost: bool = False
    kept: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        """The first ones, each once, cut."""
        return "; ".join(dict.fromkeys(self.kept))

    def hear(self, text: str, *, own: bool) -> None:
        """Take in one error."""
        self.errors += 1
        self.own += own
        self.out_of_memory = self.out_of_memory or memory_ran_out(text)
        self.device_lost = self.device_lost or device_is_lost(text)
        if len(self.kept) < MAX_KEPT:
            self.kept.append(printable(text, MAX_LENGTH))


class Ear:
    """Hears the errors of this process, of loguru's as of `logging`'s.

    backend: module of the backend's class; what it logs, and its package, are its own.
    To be made when the model is loaded: backends set up loguru anew when they are imported, and
    another sink costs milliseconds, too much for each call.
    """

    def __init__(self, backend: str) -> None:
        from loguru import logger  # lmms-eval brings it; the other steps do not need it

        own = backend.startswith("lmms_eval.")
        self._package = "lmms_eval.models" if own else backend.partition(".")[0]
        self._heard: Complaints | None = None
        self._handler = _Handler(self._hear)
        logger.add(self._from_loguru, level="ERROR", format="{message}")

    @contextmanager
    def listening(self) -> Iterator[Complaints]:
        """Collect the errors that are logged within."""
        self._heard = found = Complaints()
        sources = _not_propagating()
        for source in sources:
            source.addHandler(self._handler)
        try:
            yield found
        finally:
            for source in sources:
                source.removeHandler(self._handler)
            self._heard = None

    def _hear(self, name: str | None, text: str) -> None:
        heard = self._heard
        if heard is not None and not (name or "").startswith(_NOT_THE_BACKEND):
            heard.hear(text, own=f"{name}.".startswith(f"{self._package}."))

    def _from_loguru(self, message: Any) -> None:
        record = message.record
        exception = record["exception"]
        told = f" ({exception.value!r})" if exception and exception.value else ""
        self._hear(record["name"], record["message"] + told)


class _Handler(logging.Handler):
    """Passes on errors that did not come by way of loguru."""

    def __init__(self, hear: Any) -> None:
        super().__init__(logging.ERROR)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if record.pathname == logs.__file__:  # heard at loguru already
            return
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  # foreign arguments that do not fit their text
            text = str(record.msg)
        told = f" ({record.exc_info[1]!r})" if record.exc_info and record.exc_info[1] else ""
        self._hear(record.name, text + told)


def _not_propagating() -> list[logging.Logger]:
    """The root logger and those that hand nothing to it, as transformers' and vLLM's do not."""
    others = list(logging.root.manager.loggerDict.values())
    apart = [each for each in others if isinstance(each, logging.Logger) and not each.propagate]
    return [logging.root, *apart]
