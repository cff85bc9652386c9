"""Answer: the step that holds accelerators, and the only one that loads weights."""

from __future__ import annotations

import logging

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.lock import Lock, answers_digest
from evalrun_runner.data import ladder, weights
from evalrun_runner.setting import Setting
from evalrun_runner.workers.watchdog import Stalled, Watchdog, end_process

log = logging.getLogger(__name__)


def answer(setting: Setting, *, supervised: bool) -> None:
    """Answer this shard's share of what the journal lacks, and journal it.

    supervised: in worker processes of their own, one of which can die without the others, rather
    than in this process.
    """
    plan, report = setting.plan, setting.report
    report.enter("answer", "reading the journal")
    lock = setting.read_lock()
    with setting.holding_accelerators():
        if setting.weights is None:  # for a worker its supervisor has
            ladder.obtain(setting)
        source = setting.weights or _checked_weights(setting, lock)
        report.locked(lock)
        if setting.shard is None and setting.worker is None:
            # Otherwise the share is known when the requests are built.
            for task in (task for group in lock.groups for task in group.tasks):
                report.expect(task.name, task.requests)
        if supervised:
            from evalrun_runner.workers.supervisor import supervise

            log.info("starting workers", extra={"workers": plan.workers})
            supervise(setting, lock, source)
        else:
            _answer_here(setting, lock, source)


def _answer_here(setting: Setting, lock: Lock, source: str) -> None:
    """Answer in this process, under the watch over a stall."""
    from evalrun_runner.answering.share import answer_share

    def end(error: EvalrunError) -> None:
        reason = error.reason
        setting.report.conclude(outcome="Failed", reason=reason.name, message=str(error)[:2048])
        end_process(reason.exit_code)

    watchdog = setting.watchdog = Watchdog(setting.plan.stall_seconds, end)
    try:
        with watchdog.watching():
            answer_share(setting, lock, source)
    except Stalled:
        assert watchdog.error is not None
        raise watchdog.error from None
    finally:
        setting.watchdog = None


def _checked_weights(setting: Setting, lock: Lock) -> str:
    """Where the weights are, once they and the packages are known to be the locked ones."""
    source, revision = weights.locate(
        setting.plan,
        setting.places,
        setting.report.activity,
        locked=lock.model.revision,
        store=setting.store,
    )
    if revision != lock.model.revision:
        raise fail(
            reasons.LOCK_MISMATCH,
            "spec.model.source",
            f"the weights are {revision}, prepare locked {lock.model.revision}",
        )
    _check_versions(setting, lock)
    return source


def _check_versions(setting: Setting, lock: Lock) -> None:
    """Refuse to answer with other packages, or for another plan, than the lock's.

    A package that prepare's image lacked is not in the lock, and may have any version.
    """
    from evalrun_runner.prepare import package_versions

    here = package_versions(setting.plan)
    found = {name: version for name, version in here.items() if name in lock.versions}
    if found != lock.versions:
        differing = ", ".join(
            f"{name} {found.get(name)} (locked {lock.versions.get(name)})"
            for name in sorted(found.keys() | lock.versions)
            if found.get(name) != lock.versions.get(name)
        )
        raise fail(
            reasons.LOCK_MISMATCH,
            "packages of this image",
            f"they are not those that prepare locked: {differing}",
            "Use one image for prepare and answer",
        )
    same_groups = len(setting.plan.groups) == len(lock.groups)
    if not same_groups or lock.answers != answers_digest(
        setting.plan, lock.model, lock.versions, lock.groups
    ):
        raise fail(reasons.LOCK_MISMATCH, "plan.json", "the lock belongs to another plan")
