"""How deep a document may be nested: as deep as the API server lets it be.

Fields of a run that take any value (model.args, generation.extra, affinity) are nested by its
author, and Python refuses to read a list in which one document goes deeper than its own stack may.
So one run would keep the operator and `evalrun list` from all the others. Once it is read, it is
refused.
"""

from __future__ import annotations

import sys

API_SERVER_LEVELS = 10_000
"""Levels of a JSON document that the API server reads at most."""
FRAMES = 5 * API_SERVER_LEVELS // 2
"""Of Python's stack: two for each level, and some. Its C code needs 3 MiB of the thread's own stack
for a document of the API server's, and overflows none of the usual 8 MiB before it stops here."""


def allow() -> None:
    """Let documents be read that are as deep as they come."""
    sys.setrecursionlimit(max(FRAMES, sys.getrecursionlimit()))
