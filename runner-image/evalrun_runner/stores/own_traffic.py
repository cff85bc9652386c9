"""Marks what a thread does as the store's own traffic, where benchmarks' is refused.

With whom a store talks is not known beforehand: identity services and addresses of the cloud's
metadata are asked for credentials, in the middle of anything.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


def is_own() -> bool:
    """Whether this thread is at work for the store."""
    return getattr(_here, "depth", 0) > 0


@contextmanager
def own_traffic() -> Iterator[None]:
    """Within, this thread is at work for the store."""
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1
