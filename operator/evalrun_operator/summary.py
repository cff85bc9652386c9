"""What a status says of a run for people: its table columns, counts and conclusions."""

from __future__ import annotations

from collections.abc import Iterable

from evalrun_api.spec import EvaluationRunSpec
from evalrun_api.status import Score
from evalrun_api.termination import TerminationMessage
from evalrun_operator.attempts import Attempt
from evalrun_operator.decisions import MAX_COUNT, Doc, Ledger
from evalrun_operator.steps import ANSWERING
from evalrun_operator.text import tidy

MANY = 3


def model_text(spec: EvaluationRunSpec) -> str:
    """The model, for the table."""
    source = spec.model.source
    if source.hugging_face is not None:
        return source.hugging_face.repo
    if source.endpoint is not None:
        return source.endpoint.model
    assert source.volume is not None
    return "/".join(part for part in (source.volume.claim_name, source.volume.path) if part)


def benchmarks_text(spec: EvaluationRunSpec) -> str:
    """The benchmarks, for the table."""
    names = [
        entry.name or (entry.benchmark_ref.name if entry.benchmark_ref else "")
        for entry in spec.benchmarks
    ]
    more = len(names) - MANY
    return ",".join(names[:MANY]) + (f" +{more}" if more > 0 else "")


def headline(scores: Iterable[Score]) -> str | None:
    """The first score, for the table."""
    first = next(iter(scores), None)
    return f"{first.metric} {first.value}" if first else None


def shards_status(
    job: Doc | None,
    attempts: Iterable[Attempt],
    total: int,
    ledger: Ledger,
    before: Doc,
    worker_restarts: int = 0,
) -> Doc:
    """status.shards. job: the one that answers, while there is one.

    worker_restarts: of pods at work; those of the others are in the ledger.
    """
    found = {
        "total": total,
        "active": sum(attempt.command in ANSWERING and attempt.at_work for attempt in attempts),
        "succeeded": before.get("succeeded", 0),
        "failed": before.get("failed", 0),
        # Pods that went unseen take their count with them; what was told stays.
        "restarts": max(ledger.failures, before.get("restarts", 0)),
        "ignoredRestarts": max(ledger.disruptions, before.get("ignoredRestarts", 0)),
    }
    restarted = max(ledger.worker_restarts + worker_restarts, before.get("workerRestarts", 0))
    if restarted:
        found["workerRestarts"] = min(restarted, MAX_COUNT)
    if job is not None:
        status = job.get("status") or {}
        found["succeeded"] = int(status.get("succeeded") or 0)
        found["failed"] = min(count_indexes(status.get("failedIndexes")), MAX_COUNT)
    return found


def count_indexes(text: object) -> int:
    """How many indexes a list such as 1,3-5 names."""
    if not isinstance(text, str) or not text:
        return 0
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last.isdecimal() or not last) and len(part) < 40:
            count += max(int(last or first) - int(first) + 1, 0)
    return count


def answers_status(before: Doc, messages: Iterable[TerminationMessage], done: int) -> Doc | None:
    """status.answers; None before the run is locked.

    messages: in the order in which the pods were made. done: requests that have an answer. What was
    there when the run was first locked stands; all else has been computed for it. Which answers are
    invalid is what the score step found: a shard that is tried again asks failed ones once more.
    """
    digest, reused = before.get("digest"), before.get("reused")
    invalid, errors = before.get("invalid", 0), before.get("errors")
    for message in messages:
        if digest is None and _is_digest(message.answers_digest or ""):
            digest = message.answers_digest
        if reused is None:
            reused = message.answered_before
        if message.step == "score" and (message.invalid or message.errors):
            invalid = max(message.invalid, min(sum(message.errors.values()), MAX_COUNT))
            errors = {kind: count for kind, count in sorted(message.errors.items()) if count}
    if digest is None or reused is None:
        return before or None
    computed = max(done - reused, before.get("computed", 0), 0)
    counts = {"digest": digest, "reused": reused, "computed": computed, "invalid": invalid}
    return {**counts, "errors": errors} if errors else counts


def invalid_text(message: TerminationMessage) -> str:
    """How many answers are invalid, by class, in words; empty where none is."""
    total = max(message.invalid, sum(message.errors.values()))
    if not total:
        return ""
    by_class = ", ".join(
        f"{count} {kind}" for kind, count in sorted(message.errors.items()) if count
    )
    return f"{total} answers are empty or failed" + (f" ({by_class})" if by_class else "")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def results_status(message: TerminationMessage, uri: str) -> Doc | None:
    """status.results; None unless the message says that there are results, and gives their digest.

    uri: where the run's manifest is. The pod's own word for it is not taken.
    """
    if not message.results_uri or not message.results_digest:
        return None
    if not _is_digest(message.results_digest):
        return None
    return {"uri": uri, "digest": message.results_digest}


def scores_status(message: TerminationMessage) -> list[Doc]:
    """status.scores, fit for a terminal."""
    told = []
    for score in message.scores:
        entry = score.document()
        for name in ("benchmark", "metric", "filter", "value", "stderr"):
            if name in entry:
                entry[name] = tidy(entry[name]) or "?"
        told.append(entry)
    return told


def provenance_status(
    before: Doc, messages: Iterable[TerminationMessage], image: str | None
) -> Doc | None:
    """status.provenance, as far as it is known."""
    found = dict(before)
    if image:
        found["image"] = tidy(image)
    for message in messages:
        said = {
            "lmmsEval": tidy(message.lmms_eval or ""),
            "modelRevision": tidy(message.model_revision or ""),
            "determinism": message.determinism,
        }
        found |= {name: value for name, value in said.items() if value}
    return found or None
