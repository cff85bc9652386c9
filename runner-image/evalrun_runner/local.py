"""The runner's public entry point: a run as a process of this machine, and its store.

Whoever starts runs without a cluster (the CLI) imports this module and no other of the runner. It
imports neither torch nor lmms-eval; the process that it starts does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from pydantic import ValidationError

from evalrun_api.judge import JUDGE_KEY_VARIABLE
from evalrun_api.plan import RunPlan
from evalrun_api.progress import Progress
from evalrun_api.termination import TerminationMessage
from evalrun_runner import layout
from evalrun_runner.data.index import DataRecord
from evalrun_runner.stores import MAX_DOCUMENT_BYTES, Store, StoredObject, open_store

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "DataRecord",
    "LocalRun",
    "RunningStep",
    "Store",
    "StoredObject",
    "arguments",
    "layout",
    "open_store",
    "start",
]

MAX_PROGRESS_BYTES = 1024 * 1024


@dataclass(frozen=True)
class LocalRun:
    """What a run needs on one machine.

    files: of custom benchmarks, by benchmark and file name.
    volumes: folder that stands for each claim.
    workspace: a folder of this run's own; plan, log, progress address and outcome appear in it.
    spool: a folder that outlives runs, in which answers wait that are not in the store yet.
    """

    plan: RunPlan
    files: Mapping[str, Mapping[str, str]]
    volumes: Mapping[str, Path]
    workspace: Path
    spool: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What the process writes, as JSON lines and whatever libraries print."""
        return self.workspace / "runner.log"

    @property
    def termination(self) -> Path:
        """The step's termination message."""
        return self.workspace / "termination.json"

    @property
    def address(self) -> Path:
        """HOST:PORT at which /progress is served."""
        return self.workspace / "address"


class RunningStep:
    """A step at work in a process of its own."""

    def __init__(self, run: LocalRun, process: subprocess.Popen[bytes]) -> None:
        self._run = run
        self._process = process
        self._opener = build_opener(ProxyHandler({}))  # loopback never goes through a proxy

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it works. Negative: ended by that signal."""
        code = self._process.poll()
        if code is not None and self._process.stdin is not None:
            self._process.stdin.close()  # which has told the step that we live
        return code

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code after waiting at most `seconds`; None if it still works."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.poll()

    def stop(self) -> None:
        """Ask it to store what is finished and end."""
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def progress(self) -> Progress | None:
        """How far it is; None while it does not serve yet, or no more."""
        try:
            address = self._run.address.read_text().strip()
            with self._opener.open(f"http://{address}/progress", timeout=2) as response:
                return Progress.model_validate_json(response.read(MAX_PROGRESS_BYTES))
        except (OSError, HTTPException, ValidationError, ValueError):
            return None

    def outcome(self) -> TerminationMessage | None:
        """The last state that the step left."""
        try:
            return TerminationMessage.model_validate_json(self._run.termination.read_bytes())
        except (OSError, ValidationError):
            return None


def arguments(run: LocalRun, step: str) -> list[str]:
    """Lay out a run's workspace; the runner's arguments for one step of it."""
    run.workspace.mkdir(parents=True, exist_ok=True)
    for stale in (run.address, run.termination):
        stale.unlink(missing_ok=True)
    plan = run.workspace / "plan.json"
    plan.write_text(json.dumps(run.plan.document(), indent=2))
    benchmarks = run.workspace / "benchmarks"
    for name, files in run.files.items():
        folder = benchmarks / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text)
    options = [step, "--plan", str(plan), "--benchmarks", str(benchmarks)]
    options += ["--work", str(run.workspace), "--spool", str(run.spool)]
    options += ["--termination-log", str(run.termination)]
    for claim, folder in run.volumes.items():
        options += ["--volume", f"{claim}={folder}"]
    return options


def start(run: LocalRun, step: str = "all") -> RunningStep:
    """Start `step` (prepare, answer, score, or all) of a run in a process group of its own.

    A group of its own, so that Ctrl-C in a terminal reaches the caller alone, which then decides.
    The step stops by itself when the caller dies: it holds the other end of the step's stdin.
    """
    command = [sys.executable, "-m", "evalrun_runner", *arguments(run, step)]
    command += ["--listen", "127.0.0.1:0", "--address-file", str(run.address), "--stop-at-eof"]
    environment = {**os.environ, **run.environment}
    judge = run.plan.judge
    if judge is not None and judge.secret is not None and "OPENAI_API_KEY" in environment:
        # What the Secret is in a cluster. A judge that names none is not sent another's key.
        environment.setdefault(JUDGE_KEY_VARIABLE, environment["OPENAI_API_KEY"])
    with run.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    return RunningStep(run, process)
