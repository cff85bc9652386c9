"""Trying again while a store is away, for as long as what waits is worth it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from evalrun_api.errors import EvalrunError
from evalrun_api.reasons import PERMANENT

log = logging.getLogger(__name__)

T = TypeVar("T")
PAUSE_SECONDS = 1.0


def patiently(attempt: Callable[[], T], seconds: float) -> T:
    """What `attempt` returns, tried again for so long; then its last error is raised.

    An error that no waiting mends (refused credentials, a damaged object) is raised at once.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except EvalrunError as error:
            if error.reason.exit_code in PERMANENT or time.monotonic() + PAUSE_SECONDS > end:
                raise
            log.warning("the store is tried again: %s", error)
            time.sleep(PAUSE_SECONDS)
