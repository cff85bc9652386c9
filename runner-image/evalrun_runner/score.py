"""Score: lmms-eval's own evaluation on the journal's answers. No weights, no accelerator."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from evalrun_api import reasons
from evalrun_api.digests import canonical_json, digest
from evalrun_api.errors import fail
from evalrun_api.lock import GroupLock
from evalrun_api.manifest import Manifest, Provenance
from evalrun_api.plan import SettingsGroup
from evalrun_api.status import StageSeconds
from evalrun_runner import layout
from evalrun_runner.answering.share import verify
from evalrun_runner.answering.trust import (
    Tally,
    answer_counts,
    are_trusted,
    determinism,
    is_trusted,
)
from evalrun_runner.failures import describe
from evalrun_runner.harness import egress
from evalrun_runner.harness.results import headline_scores, store_results
from evalrun_runner.journal.reading import Answers, answer_to, read_answers
from evalrun_runner.journal.request_list import keyed
from evalrun_runner.journal.segments import read_records
from evalrun_runner.journal.visual_thought import KeptImages
from evalrun_runner.judges.judging import scoring
from evalrun_runner.setting import Setting

log = logging.getLogger(__name__)

SCORE_MESSAGE = "score"
"""Of the log line that tells a score; the rest of the line's fields are the score's."""


def score(setting: Setting) -> Manifest:
    """Score the run and write its results, the manifest last."""
    plan, store, report = setting.plan, setting.store, setting.report
    report.enter("score", "reading the journal")
    lock = setting.read_lock()
    report.locked(lock)
    segments = layout.segments(plan.run.namespace, lock.answers)
    if [group.name for group in lock.groups] != [group.name for group in plan.groups]:
        raise fail(reasons.LOCK_MISMATCH, "plan.json", "the lock belongs to another plan")
    images = KeptImages(store, plan.run.namespace, lock.answers, setting.places.work / "images")
    tally = Tally()
    groups, scores = [], []

    def said(task: str) -> str | None:
        return words_of_failure(setting, segments, task)

    evaluator = setting.evaluator  # imported before the network is closed
    with scoring(setting, lock) as judging, egress.closed(plan) as gate:
        for group, locked in zip(plan.groups, lock.groups, strict=True):
            report.activity(f"scoring {', '.join(group.tasks)}")
            with setting.stage("score"):
                submissions = evaluator.submissions
                shutil.rmtree(submissions, ignore_errors=True)
                # Read for each group anew, so that memory holds the answers of one.
                answers = read_answers(store, segments, {task.name for task in locked.tasks})
                results = replay(setting, group, locked, answers, tally, said, images)
                del answers
                judging.check()
                gate.check()
                if not plan.predict_only:  # then lmms-eval's numbers stand for nothing
                    scores += headline_scores(results, locked, tally.invalid, submissions)
                groups.append(store_results(store, plan, group, results, submissions))
    # Before they are judged: a run that fails for them has to say how many there are.
    report.conclude(invalid=tally.invalid.total(), errors=tally.by_class)
    trusted = are_trusted(plan, lock, tally, said)
    manifest = Manifest(
        run=plan.run,
        plan=digest(plan.document()),
        answers_digest=lock.answers,
        completed_at=datetime.now(UTC),
        groups=groups,
        scores=scores,
        answers=answer_counts(lock, tally, *report.counts),
        trusted=trusted,
        provenance=Provenance(
            versions=lock.versions,
            model_revision=lock.model.revision,
            determinism=determinism(plan, lock, tally),
            circumstances=tally.circumstances,
        ),
        judge=judging.usage,
        seconds=StageSeconds.model_validate(
            {
                name: round(setting.seconds.get(name, 0.0))
                for name in ("start", "load", "decode", "generate", "score")
            }
        ),
    )
    data = canonical_json(manifest.document())
    key = layout.manifest(plan.run)
    store.put(key, data)
    report.conclude(
        scores=scores[:10],
        invalid=tally.invalid.total(),
        errors=tally.by_class,
        answers_digest=lock.answers,
        results_uri=store.uri(key),
        results_digest=hashlib.sha256(data).hexdigest(),
        trusted=trusted,
        determinism=manifest.provenance.determinism,
    )
    for each in scores:
        log.info(SCORE_MESSAGE, extra=each.document())
    log.info("scored", extra={"manifest": store.uri(key), "trusted": trusted})
    return manifest


def replay(
    setting: Setting,
    group: SettingsGroup,
    locked: GroupLock,
    answers: Answers,
    tally: Tally,
    said: Callable[[str], str | None],
    images: KeptImages,
) -> dict[str, Any]:
    """lmms-eval's results for the journal's answers, which are counted in `tally`.

    Answers that cannot support a score are refused before they are scored: many scorers fail on
    them, and a judge would be paid for nothing.
    """
    from evalrun_runner.harness.outputs import UNREADABLE, decode

    documents: dict[str, Any] = {}
    asked: Counter[str] = Counter()

    def respond(request_type: str, instances: list[Any]) -> list[Any]:
        setting.stop.raise_if_asked()
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
            tally.take(request.task, found)
            try:
                outputs.append(decode(images.give_back(found), found.usage))
            except UNREADABLE as error:
                where = f"answer of {request.task} to document {request.key.doc_id}"
                what = f"it cannot be read back ({describe(error)})"
                raise fail(reasons.CORRUPT_JOURNAL, where, what) from error
        counts = Counter(request.task for request in requests)
        asked.update(counts)
        for task in locked.tasks:
            if counts[task.name] == task.requests:
                is_trusted(setting.plan, task, tally, said)
        return outputs

    results = setting.evaluator.score(group, respond, share_task_dict=documents)
    # A few scorers catch everything, a request to stop too, and give the worst score instead.
    setting.stop.raise_if_asked()
    for task in locked.tasks:
        if asked[task.name] != task.requests:
            what = f"it asks {asked[task.name]} requests, prepare locked {task.requests}"
            raise fail(reasons.LOCK_MISMATCH, f"benchmark {task.name}", what)
    return cast("dict[str, Any]", images.with_first_names(results))


def words_of_failure(setting: Setting, segments: str, task: str) -> str | None:
    """What the backend said of a failed answer of a task, for the message of a run that failed."""
    for record in read_records(setting.store, segments):
        if record.task == task and record.error is not None and record.said:
            return record.said
    return None
