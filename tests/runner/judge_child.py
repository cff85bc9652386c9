"""A score step in a process that can be killed, forked from one that has imported lmms-eval."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from typing import Any

PRELOADED = [
    "evalrun_runner.harness.evaluation",
    "evalrun_runner.score",
    "evalrun_runner.judges.server",
]


def start(arguments: list[str], environment: Mapping[str, str]) -> Any:
    """Start the runner with these arguments; the process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=run, args=(arguments, dict(environment)))
    process.start()
    return process


def run(arguments: list[str], environment: Mapping[str, str]) -> None:
    """The runner's command, in the child."""
    from evalrun_runner.main import run as run_command

    os.environ.clear()
    os.environ.update(environment)
    os._exit(run_command(arguments))
