"""Structured logs: one JSON object a line, for the runner's own events and lmms-eval's alike."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

from evalrun_api.redaction import json_line
from evalrun_runner.given_secrets import for_people

_CHATTY = "lmms_eval.models.model_utils.gen_metrics"  # a summary for every chunk
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """A record as a JSON object: time, level, logger, message, and what `extra` added."""

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
        }
        for key, value in vars(record).items():
            if key not in _OWN_FIELDS:
                entry[key] = value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json_line(entry, for_people)


class WithoutBars(io.TextIOBase):
    """Standard error without progress bars, which libraries redraw with carriage returns, and
    without secrets.

    Progress is served at /progress; thousands of bars would bury what matters in the log. Each
    thread has a line of its own, and what it left unended is lost with it: a lock would be held for
    ever in a process forked meanwhile.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = threading.local()

    def write(self, text: str) -> int:
        """Pass whole lines on, but those that a carriage return redrew."""
        *lines, rest = (getattr(self._begun, "line", "") + text).split("\n")
        self._begun.line = rest if len(rest) <= 65536 else rest.rpartition("\r")[2][-4096:]
        for line in lines:
            if "\r" not in line.rstrip("\r"):
                self._stream.write(for_people(line.rstrip("\r")) + "\n")
        return len(text)

    def flush(self) -> None:
        """Flush what was passed on."""
        self._stream.flush()

    def fileno(self) -> int:
        """Of the stream underneath: faulthandler and child processes write there."""
        return self._stream.fileno()

    @property
    def buffer(self) -> Any:
        """Of the stream underneath, for those who write bytes."""
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute
        """Of the stream underneath."""
        return self._stream.encoding


always: dict[str, str] = {}
"""Fields of every line: which run, which step, which shard, which attempt (the pod's uid)."""


def set_up_logs() -> None:
    """Send every log of this process to standard error as JSON lines, each with `always`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(always))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("httpx", "urllib3", "botocore", "filelock", "fsspec", "matplotlib", "numba"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    sys.stderr = WithoutBars(sys.stderr)
    sys.stdout = WithoutBars(sys.stdout)  # tasks print there, secrets too


def adopt_loguru() -> None:
    """Bring lmms-eval's own logs (loguru) into the same stream. Call after importing lmms-eval."""
    from loguru import logger

    def forward(message: Any) -> None:
        record = message.record
        number = record["level"].no
        if record["name"] == _CHATTY and number < logging.WARNING:
            return
        exc_info = _exc_info(record["exception"])
        logging.getLogger(record["name"]).log(number, "%s", record["message"], exc_info=exc_info)

    logger.remove()
    logger.add(forward, level="INFO", format="{message}")


def _exc_info(exception: Any) -> Any:
    return (exception.type, exception.value, exception.traceback) if exception else None
