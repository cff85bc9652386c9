"""Judges within a scoring: the proxy is opened around it, and a failure of the judge ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from evalrun_api.judge import JUDGE_KEY_VARIABLE, JudgeUsage
from evalrun_api.lock import Lock
from evalrun_api.plan import RunPlan
from evalrun_runner import layout
from evalrun_runner.judges import variables

if TYPE_CHECKING:
    from evalrun_runner.judges.desk import Desk, NoDesk
    from evalrun_runner.judges.proxy import JudgeProxy
    from evalrun_runner.setting import Setting

TOLD_SECONDS = 2.0
"""How often what judging takes is written into the termination message."""
AGAIN_SECONDS = 1.0
"""How soon a task that swallowed the interruption is interrupted again."""


class JudgingFailed(BaseException):
    """Ends a scoring from which no score may come. No `Exception`: tasks swallow those."""


@dataclass(frozen=True)
class Judges:
    """The way of this process' tasks to their judge.

    proxy: None in a process that scores nothing. key: the judge's real one.
    """

    proxy: JudgeProxy | None
    key: str | None


@contextmanager
def judges_led(plan: RunPlan, step: str) -> Iterator[Judges]:
    """Lead the judges of this process' tasks: to the proxy where it scores, else to nowhere.

    To be entered before a task is imported: tasks read the variables once.
    """
    key = os.environ.get(JUDGE_KEY_VARIABLE)
    model = plan.judge.model if plan.judge else None
    proxy = None
    port, token = variables.NOWHERE, "nothing-is-judged-in-this-step"
    if step in ("score", "all"):
        from evalrun_runner.judges.proxy import JudgeProxy

        proxy = JudgeProxy(model)
        port, token = proxy.port, proxy.token
    keep = plan.is_remote and step != "score"
    try:
        with variables.led(os.environ, port, token, model, keep=keep):
            yield Judges(proxy, key)
    finally:
        if proxy is not None:
            proxy.close()


class Judging:
    """The judge of one scoring."""

    def __init__(self, desk: Desk | NoDesk) -> None:
        self._desk = desk

    def check(self) -> None:
        """Raise why no score may come of what the tasks were told. To be called after each group:
        a task may swallow the error that it got instead of a verdict, and score zero.
        """
        self._desk.check()

    @property
    def usage(self) -> JudgeUsage | None:
        """What judging took; None without a judge."""
        return self._desk.usage


@contextmanager
def scoring(setting: Setting, lock: Lock) -> Iterator[Judging]:
    """Let tasks ask the judge. Raises the judge's failure in place of what tasks made of it."""
    judges = setting.judges
    variables.forget_given(os.environ)
    with _interrupting() as interrupt, _desk(setting, lock, interrupt) as desk:
        if judges is not None and judges.proxy is not None:
            judges.proxy.desk = desk
        try:
            yield Judging(desk)
        except (JudgingFailed, Exception) as error:
            interrupt.armed = False
            if desk.failures.first is not None:
                raise desk.failures.first from error
            raise
        finally:
            interrupt.armed = False
            if judges is not None and judges.proxy is not None:
                judges.proxy.desk = None
            if (usage := desk.usage) is not None:
                setting.report.conclude(judge=usage)


@contextmanager
def _desk(setting: Setting, lock: Lock, interrupt: _Interrupt) -> Iterator[Desk | NoDesk]:
    """The desk of a scoring, over the verdicts that are in the store."""
    from evalrun_runner.judges.desk import Desk, Failures, NoDesk

    plan, store = setting.plan, setting.store
    if plan.judge is None:
        yield NoDesk(Failures(interrupt.interrupt))
        return

    from evalrun_runner.journal.writing import spool_folder
    from evalrun_runner.judges.server import JudgeServer
    from evalrun_runner.judges.verdicts import VerdictWriter, adopt_verdicts, read_verdicts

    prefix = layout.verdicts(plan.run.namespace, lock.answers)
    spool = spool_folder(setting.places.spool, f"{plan.store.endpoint} {store.uri('')}", prefix)
    adopt_verdicts(store, prefix, spool)
    recorded = read_verdicts(store, prefix, plan.run.uid)
    writer = VerdictWriter(store, prefix, spool, setting.writer)
    server = JudgeServer(plan.judge, setting.judges.key if setting.judges else None)
    told = time.monotonic()

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told > TOLD_SECONDS:
            told = time.monotonic()
            setting.report.conclude(judge=desk.usage)

    failures = Failures(interrupt.interrupt)
    desk = Desk(plan.judge, plan.run.uid, recorded, writer.keep, server, failures, tell)
    try:
        yield desk
    finally:
        with setting.stop.shielded():
            desk.close()
            writer.close()
            server.close()


class _Interrupt:
    """Interrupts the main thread, wherever it is: in a task that waits, or sleeps before a retry.

    Without it a task would go on for hours, asking for verdicts that it cannot get.
    """

    def __init__(self) -> None:
        self.armed = False
        self._raised = 0.0

    def interrupt(self) -> None:
        """May be called by any thread."""
        main = threading.main_thread().ident
        if self.armed and main is not None:
            signal.pthread_kill(main, signal.SIGUSR2)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        now = time.monotonic()
        if self.armed and now - self._raised > AGAIN_SECONDS:
            self._raised = now
            raise JudgingFailed


@contextmanager
def _interrupting() -> Iterator[_Interrupt]:
    interrupt = _Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # only the main thread can be interrupted; others end by themselves
        return
    before = signal.signal(signal.SIGUSR2, interrupt.on_signal)
    interrupt.armed = True
    try:
        yield interrupt
    finally:
        interrupt.armed = False
        # One that is on its way may not find the default, which ends the process.
        signal.signal(signal.SIGUSR2, before if callable(before) else signal.SIG_IGN)
