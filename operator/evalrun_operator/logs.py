"""Log lines as JSON objects, one a line."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from evalrun_api.redaction import json_line

FIELDS = ("run", "shard", "attempt", "pod")
"""What a line may be about, as the runner's lines have it: attempt is the uid of the pod."""


class JsonFormatter(logging.Formatter):
    """time, level, logger, message; what it is about (`FIELDS`) and error where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            if value := getattr(record, name, None):
                line[name] = value
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json_line(line)


class RetriesAreWarnings(logging.Filter):
    """Kopf tells of each request of a watch that it repeats as of an error.

    So it would be after each upgrade of the CRD, when the API server begins its watches anew.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass, as what it is."""
        watching = record.name.startswith("kopf._c")
        if watching and record.levelno == logging.ERROR and "will retry" in record.getMessage():
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def set_up(level: str) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(RetriesAreWarnings())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if level != "DEBUG":
        logging.getLogger("kopf").setLevel(logging.WARNING)


def flush() -> None:
    """Write what is buffered, before the process is ended the hard way."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stderr.flush()
