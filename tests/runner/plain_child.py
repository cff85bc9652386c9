"""Plain lmms-eval's command, several times in one process, with the test backends known to it.

Its index of 2,000 tasks of its own, of which none is asked for here, is left out: it takes seconds.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    """Run lmms-eval with each of the argument lists given as JSON."""
    import kind_backends
    from lmms_eval import __main__ as command

    kind_backends.register()
    command.TaskManager = partial(command.TaskManager, include_defaults=False)
    for call in json.loads(sys.argv[1]):
        sys.argv = ["lmms_eval", *call]
        command.cli_evaluate()


if __name__ == "__main__":
    main()
