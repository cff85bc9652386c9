"""Fetching a repository of the hub, by a process of its own.

The hub's libraries decide once, when they are imported, whether they may ask the hub. Tasks may
not where the documents are there already, the weights have to; so another process fetches them.

What an interrupted one fetched is kept, file by file; within a file the library goes on after a cut
connection, but not in another process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from evalrun_api.errors import fail
from evalrun_api.reasons import INTERNAL_ERROR, REASONS
from evalrun_runner.data.amounts import Amount

WHERE = "spec.model.source.huggingFace"


@dataclass(frozen=True)
class Wanted:
    """A model's repository at a revision, without the files that match `ignore`."""

    repo: str
    revision: str
    ignore: tuple[str, ...] = ()


def fetch(wanted: Wanted, activity: Callable[[str], None]) -> Path:
    """The folder of the snapshot, in the hub's cache.

    Raises `EvalrunError`: what cannot be had, whether trying again helps, or no room on the disk.
    """
    activity(f"fetching {wanted.repo}")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    }
    process = subprocess.Popen(  # our own interpreter and module
        [sys.executable, "-m", "evalrun_runner.data.download_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    found: Path | None = None
    try:
        process.stdin.write(f"{json.dumps(asdict(wanted))}\n")
        process.stdin.flush()  # left open: it ends with this process
        for line in process.stdout:
            message = json.loads(line)
            if "total" in message:
                amount = Amount(f"fetching {wanted.repo}", message["total"])
                amount.reach(message["done"], activity)
            elif "reason" in message:
                reason = REASONS[message.pop("reason")]
                raise fail(reason, **message)
            else:
                found = Path(message["folder"])
    finally:  # also when this process is asked to stop
        if process.poll() is None and found is None:
            process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    if found is None:
        what = f"the process that fetches {wanted.repo} ended with code {process.returncode}"
        raise fail(INTERNAL_ERROR, WHERE, what)
    return found
