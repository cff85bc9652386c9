"""How this program was called, so that what it suggests can be typed as it stands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

PLUGIN = "kubectl-evalrun"


def is_plugin(program: str) -> bool:
    """Whether kubectl called it; `program` is the path that was started."""
    return Path(program).name == PLUGIN


def name_of(program: str) -> str:
    """What a person types for this program."""
    return "kubectl evalrun" if is_plugin(program) else "evalrun"


def here(*words: str) -> str:
    """A command line of this program, as it was called."""
    return f"{name_of(sys.argv[0])} {shlex.join(words)}"
