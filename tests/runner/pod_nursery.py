"""Starts runner processes as forks of one that has imported what takes long and asks no hub.

Each is still a process of its own: the hub's libraries, which decide by the environment when they
are imported, are imported by none but itself. Reads a JSON line for each, and answers with a line
when it has ended.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

SLOW = ("torch", "torchvision", "pandas", "sklearn")


def serve() -> None:
    for module in SLOW:
        importlib.import_module(module)
    imported = {"huggingface_hub.constants", "datasets", "transformers", "lmms_eval"} & {
        *sys.modules
    }
    assert not imported, f"{imported} took their settings from another process"
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become_a_runner(asked["arguments"], asked["environment"], asked["log"])
        os.waitpid(child, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


def _become_a_runner(arguments: list[str], environment: dict[str, str], log: str) -> None:
    try:
        os.environ.clear()
        os.environ.update(environment)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["evalrun-runner", *arguments]
        from evalrun_runner.main import main

        main()
    finally:
        os._exit(70)


if __name__ == "__main__":
    serve()
