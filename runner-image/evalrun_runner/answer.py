"""Answer: the step that holds accelerators, and the only one that loads weights."""

from __future__ import annotations

import logging

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.lock import Lock, answers_digest
from evalrun_runner import weights
from evalrun_runner.setting import Setting
from evalrun_runner.share import answer_share

log = logging.getLogger(__name__)


def answer(setting: Setting) -> None:
    """Answer this shard's share of what the journal lacks, and journal it."""
    plan, report = setting.plan, setting.report
    report.enter("answer", "reading the journal")
    lock = setting.read_lock()
    source, revision = weights.locate(
        plan, setting.places, report.activity, locked=lock.model.revision
    )
    if revision != lock.model.revision:
        raise fail(
            reasons.LOCK_MISMATCH,
            "spec.model.source",
            f"the weights are {revision}, prepare locked {lock.model.revision}",
        )
    _check_versions(setting, lock)
    report.locked(lock)
    if setting.shard is None:  # a shard learns its share when the requests are built
        for task in (task for group in lock.groups for task in group.tasks):
            report.expect(task.name, task.requests)
    answer_share(setting, lock, source)


def _check_versions(setting: Setting, lock: Lock) -> None:
    """Refuse to answer with other packages, or for another plan, than the lock's."""
    from evalrun_runner.prepare import package_versions

    found = package_versions(setting.plan)
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
