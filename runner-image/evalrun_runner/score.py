"""Score: lmms-eval's own evaluation on the journal's answers. No weights, no accelerator."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from evalrun_api import reasons
from evalrun_api.digests import canonical_json, digest
from evalrun_api.errors import fail
from evalrun_api.lock import GroupLock, Lock
from evalrun_api.manifest import (
    AnswerCounts,
    Determinism,
    Manifest,
    Provenance,
    TaskAnswers,
)
from evalrun_api.plan import RunPlan, SettingsGroup
from evalrun_api.status import StageSeconds
from evalrun_runner import layout
from evalrun_runner.answers import Answers, answer_to, read_answers
from evalrun_runner.failures import describe
from evalrun_runner.request_list import keyed
from evalrun_runner.results import headline_scores, store_results
from evalrun_runner.setting import Setting
from evalrun_runner.share import verify

log = logging.getLogger(__name__)


def score(setting: Setting) -> Manifest:
    """Score the run and write its results, the manifest last."""
    plan, store, report = setting.plan, setting.store, setting.report
    report.enter("score", "reading the journal")
    lock = setting.read_lock()
    report.locked(lock)
    segments = layout.segments(plan.run.namespace, lock.answers)
    if [group.name for group in lock.groups] != [group.name for group in plan.groups]:
        raise fail(reasons.LOCK_MISMATCH, "plan.json", "the lock belongs to another plan")
    invalid: Counter[str] = Counter()
    groups, scores = [], []
    for group, locked in zip(plan.groups, lock.groups, strict=True):
        report.activity(f"scoring {', '.join(group.tasks)}")
        with setting.stage("score"):
            submissions = setting.evaluator.submissions
            shutil.rmtree(submissions, ignore_errors=True)
            # Read for each group anew, so that memory holds the answers of one.
            answers = read_answers(store, segments, {task.name for task in locked.tasks})
            results = replay(setting, group, locked, answers, invalid)
            del answers
            scores += headline_scores(results, locked, invalid)
            groups.append(store_results(store, plan, group, results, submissions))
    trusted = are_trusted(plan, lock, invalid)
    manifest = Manifest(
        run=plan.run,
        plan=digest(plan.document()),
        answers_digest=lock.answers,
        completed_at=datetime.now(UTC),
        groups=groups,
        scores=scores,
        answers=_counts(setting, lock, invalid),
        trusted=trusted,
        provenance=Provenance(
            versions=lock.versions,
            model_revision=lock.model.revision,
            determinism=determinism(plan, lock),
        ),
        seconds=StageSeconds.model_validate(
            {
                name: round(setting.seconds.get(name, 0.0))
                for name in ("start", "load", "generate", "score")
            }
        ),
    )
    data = canonical_json(manifest.document())
    key = layout.manifest(plan.run)
    store.put(key, data)
    report.conclude(
        scores=scores[:10],
        invalid=sum(invalid.values()),
        answers_digest=lock.answers,
        results_uri=store.uri(key),
        results_digest=hashlib.sha256(data).hexdigest(),
        trusted=trusted,
        determinism=manifest.provenance.determinism,
    )
    log.info("scored", extra={"manifest": store.uri(key), "trusted": trusted})
    return manifest


def replay(
    setting: Setting,
    group: SettingsGroup,
    locked: GroupLock,
    answers: Answers,
    invalid: Counter[str],
) -> dict[str, Any]:
    """lmms-eval's results for the journal's answers; counts the invalid ones by task."""
    from evalrun_runner.outputs import decode

    documents: dict[str, Any] = {}

    def respond(request_type: str, instances: list[Any]) -> list[Any]:
        requests = keyed(group.name, request_type, instances)
        verify(requests, locked, documents)
        missing = [request for request in requests if answer_to(answers, request) is None]
        if missing:
            first = ", ".join(f"{r.task} document {r.key.doc_id}" for r in missing[:3])
            raise fail(
                reasons.MISSING_ANSWERS,
                f"benchmarks {', '.join(group.tasks)}",
                f"{len(missing)} of {len(requests)} requests have no answer (first: {first})",
            )
        outputs = []
        for request in requests:
            found = answers[request.key, request.fingerprint]
            invalid[request.task] += found.error is not None
            try:
                outputs.append(decode(found.response, found.usage))
            except (TypeError, ValueError, AttributeError) as error:
                where = f"answer of {request.task} to document {request.key.doc_id}"
                what = f"it cannot be read back ({describe(error)})"
                raise fail(reasons.CORRUPT_JOURNAL, where, what) from error
        return outputs

    return setting.evaluator.score(group, respond, share_task_dict=documents)


def are_trusted(plan: RunPlan, lock: Lock, invalid: Counter[str]) -> bool:
    """Whether every task's answers support its score; fails the run if the plan says so."""
    allowed = plan.integrity.max_invalid_fraction
    trusted = True
    for task in (task for group in lock.groups for task in group.tasks):
        count = invalid[task.name]
        all_invalid = count == task.requests
        if count <= allowed * task.requests and not all_invalid:
            continue
        # A benchmark without one answer has no score to mark.
        if plan.integrity.on_violation == "Fail" or all_invalid:
            raise fail(
                reasons.INVALID_ANSWERS,
                f"benchmark {task.name}",
                f"{count} of {task.requests} answers are empty or failed; "
                f"integrity.maxInvalidFraction is {allowed:g}",
            )
        trusted = False
    return trusted


def determinism(plan: RunPlan, lock: Lock) -> Determinism:
    """What could still move an answer of this run."""
    if plan.is_remote:
        return "Remote"
    if any(task.sampled for group in lock.groups for task in group.tasks):
        return "Sampled"
    return "Exact" if plan.batch_size == 1 else "Batched"


def _counts(setting: Setting, lock: Lock, invalid: Counter[str]) -> AnswerCounts:
    reused, computed = setting.report.counts
    tasks = [
        TaskAnswers(task=task.name, requests=task.requests, invalid=invalid[task.name])
        for group in lock.groups
        for task in group.tasks
    ]
    total = lock.requests_total
    return AnswerCounts(
        total=total,
        # A score step of its own has computed nothing: all it scores was there before.
        reused=total - computed if reused + computed < total else reused,
        computed=computed,
        invalid=sum(invalid.values()),
        tasks=tasks,
    )
