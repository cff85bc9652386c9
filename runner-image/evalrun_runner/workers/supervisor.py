"""The answer step's parent: it starts the workers, watches them, and speaks for them.

It imports neither torch nor lmms-eval and holds no accelerator's memory, so what kills a worker
does not kill it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evalrun_api.errors import EvalrunError, Fault
from evalrun_api.lock import Lock
from evalrun_api.plan import RunPlan
from evalrun_api.reasons import Reason
from evalrun_runner import layout
from evalrun_runner.journal.writing import adopt, spool_folder
from evalrun_runner.setting import Setting
from evalrun_runner.workers import cgroup
from evalrun_runner.workers.accelerators import worker_environment
from evalrun_runner.workers.endings import Ending
from evalrun_runner.workers.mailbox import Mailbox
from evalrun_runner.workers.merging import merge
from evalrun_runner.workers.worker import Launch, Worker

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
FLUSH_SECONDS = 30.0
"""How long workers may store what they have, after the patience for the chunk in hand."""


class WorkerError(EvalrunError):
    """A worker's own reason and words, as the step's."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, Fault("worker", message, reason.remedy))
        self._message = message

    def __str__(self) -> str:
        return self._message


def supervise(setting: Setting, lock: Lock, weights: str) -> None:
    """Have the plan's workers answer this shard's share of what the journal lacks.

    Raises `EvalrunError` when a worker fails for good, and `Stopped` when all were asked to stop.
    """
    crew = _Crew(setting, weights)
    with setting.stop.shielded():  # a signal is passed on, and interrupts nothing here
        try:
            failure = crew.work()
        finally:
            crew.end()
        unstored = _store_what_is_left(setting, lock)
    if failure := failure or unstored:
        raise failure
    setting.stop.raise_if_asked()


class _Crew:
    """The workers of a pod."""

    def __init__(self, setting: Setting, weights: str) -> None:
        self._setting = setting
        self._spent_before = dict(setting.seconds)
        self._kills = cgroup.memory_kills()
        self._passed_on = 0
        self._stopping_since: float | None = None
        setting.report.activity("starting the workers")
        self._all = [
            Worker(number, mailbox_of(setting, number), _launch(setting, weights, number))
            for number in range(setting.plan.workers)
        ]
        self._alive = list(self._all)

    def work(self) -> EvalrunError | None:
        """Watch the workers to their end; why the step fails, if it does."""
        failure: EvalrunError | None = None
        patience = self._setting.stop.patience_seconds + FLUSH_SECONDS
        while self._alive:
            time.sleep(LOOK_SECONDS)
            for worker in list(self._alive):
                found = self._look_after(worker)
                failure = failure or found
            self._tell()
            if self._setting.stop.asked > self._passed_on:
                self._passed_on = self._setting.stop.asked
                self._stop()
            elif failure is not None and self._stopping_since is None:
                self._stop()
            since = self._stopping_since
            if since is not None and time.monotonic() - since > patience:
                log.error("workers do not end; they are killed")
                self.end()
                break
        return failure

    def end(self) -> None:
        """Kill whoever is still there."""
        for worker in self._alive:
            worker.kill()
            worker.look()
        self._alive = []
        self._tell()

    def _stop(self) -> None:
        self._stopping_since = self._stopping_since or time.monotonic()
        for worker in self._alive:
            worker.stop()

    def _look_after(self, worker: Worker) -> EvalrunError | None:
        """See how a worker is; start it anew if it died. An error if it failed for good."""
        code = worker.poll()
        if code is None:
            worker.look()
            return None
        kills = cgroup.memory_kills()
        memory_killed, self._kills = kills > self._kills, kills
        found = worker.ended(code, memory_killed=memory_killed)
        stopping = self._stopping_since is not None
        if found.kind == "stopped" and not stopping:  # somebody asked the worker, not this process
            self._setting.stop.ask()
        if found.kind == "died" and not stopping and worker.may_live_again():
            log.warning(
                "worker %d is started anew: %s",
                worker.number,
                found.what,
                extra={"reason": found.reason.name, "restarts": worker.restarts + 1},
            )
            worker.live_again()
            self._setting.report.restarted()
            return None
        self._alive.remove(worker)
        if found.kind in ("done", "stopped") or (found.kind == "died" and stopping):
            return None
        error = _failure(worker, found)
        log.error("%s", error, extra={"reason": error.reason.name})
        return error

    def _tell(self) -> None:
        setting = self._setting
        sums = merge([worker.lives for worker in self._all])
        seconds = {name: spent for name, spent in sums.seconds.items() if name != "idle"}
        for name, spent in seconds.items():
            seconds[name] = setting.seconds[name] = self._spent_before.get(name, 0.0) + spent
        setting.report.adopt(replace(sums, seconds=seconds))
        setting.count_idle()


def _failure(worker: Worker, found: Ending) -> EvalrunError:
    who = f"worker {worker.number}"
    if found.kind == "failed" or found.blame is None:
        return WorkerError(found.reason, found.what)
    message = f"{who}: {found.what}; it was started anew {worker.restarts} times."
    if words := worker.last_words():
        message += f" Its log says:\n{words}"
    return WorkerError(found.reason, f"{message}\n{found.reason.remedy}")


def mailbox_of(setting: Setting, number: int) -> Mailbox:
    """The folder of a worker's own."""
    return Mailbox(setting.places.work / "workers" / str(number))


def _launch(setting: Setting, weights: str, number: int) -> Launch:
    plan, places = setting.plan, setting.places
    folder = mailbox_of(setting, number).folder
    options = {
        "--plan": _write_plan(setting),
        "--benchmarks": places.benchmarks,
        "--work": folder,
        "--spool": places.spool,
        "--writer": f"{setting.writer}-w{number}",
        "--grace-seconds": setting.stop.patience_seconds,
        "--worker": number,
        "--mailbox": folder,
        "--weights": weights,
    }
    if setting.shard is not None:
        options["--shard"] = setting.shard
    command = ["answer", *(str(part) for option in options.items() for part in option)]
    for claim, path in places.volumes.items():
        command += ["--volume", f"{claim}={path}"]
    return Launch([*command, "--stop-at-eof"], _environment(os.environ, plan, number))


def _environment(given: Mapping[str, str], plan: RunPlan, number: int) -> dict[str, str]:
    cpus = cgroup.processors()
    changes = worker_environment(given, number, plan.workers, plan.accelerators, cpus)
    return {**given, **changes}


def _write_plan(setting: Setting) -> Path:
    """The plan for the workers. A run that is not sharded is one shard, whatever it asked for."""
    plan = setting.plan
    if setting.shard is None:
        plan = plan.spread(plan.execution._replace(shards=1))
    path = setting.places.work / "workers" / "plan.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan.document()))
    return path


def _store_what_is_left(setting: Setting, lock: Lock) -> EvalrunError | None:
    """Store the finished answers that a worker left in the spool when it died; why that fails."""
    plan, store = setting.plan, setting.store
    prefix = layout.segments(plan.run.namespace, lock.answers)
    spool = spool_folder(setting.places.spool, f"{plan.store.endpoint} {store.uri('')}", prefix)
    try:
        adopt(store, prefix, spool)
    except EvalrunError as error:
        log.warning("finished answers wait in the spool: %s", error)
        return error
    return None
