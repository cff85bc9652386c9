"""Reading an EvaluationRun of a cluster: plain documents in, what they mean out.

Tolerant, since the cluster may have another release: a field that is missing or of another form
is as good as not there. Texts are made harmless where they are taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from evalrun_api.progress import Progress, StepName, TaskProgress
from evalrun_api.status import Score
from evalrun_cli.durations import moment
from evalrun_cli.plain_text import one_line

Doc = Mapping[str, Any]
Outcome = Literal["Complete", "Failed"]

MANY = 3
NO_STATUS = "no operator has looked at the run yet"


def block(document: Doc, *path: str) -> dict[str, Any]:
    """An object inside a document; empty where there is none."""
    found: Any = document
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def entries(holder: Doc, name: str) -> list[dict[str, Any]]:
    """The objects of a list inside a document."""
    found = holder.get(name)
    return [dict(entry) for entry in found or () if isinstance(entry, Mapping)]


def count(holder: Doc, name: str) -> int:
    """A number of things; 0 where there is none."""
    found = holder.get(name)
    return found if isinstance(found, int) and found >= 0 else 0


def name_of(run: Doc) -> str:
    """Its name."""
    return one_line(block(run, "metadata").get("name"))


def namespace_of(run: Doc) -> str:
    """Its namespace."""
    return one_line(block(run, "metadata").get("namespace"))


def uid_of(run: Doc) -> str:
    """Its uid: another run of the same name has another one."""
    return one_line(block(run, "metadata").get("uid"))


def created(run: Doc) -> datetime | None:
    """When it was created."""
    return moment(block(run, "metadata").get("creationTimestamp"))


def condition(run: Doc, kind: str) -> dict[str, Any]:
    """One condition; empty where the status has none of the kind."""
    return next(
        (
            entry
            for entry in entries(block(run, "status"), "conditions")
            if entry.get("type") == kind
        ),
        {},
    )


def holds(run: Doc, kind: str) -> bool:
    """Whether a condition is True."""
    return condition(run, kind).get("status") == "True"


def outcome(run: Doc) -> Outcome | None:
    """How the run ended; None while it has not."""
    if holds(run, "Failed"):
        return "Failed"
    return "Complete" if holds(run, "Complete") else None


def seen(run: Doc) -> bool:
    """Whether the status speaks of the spec as it is now."""
    observed = block(run, "status").get("observedGeneration")
    return observed is not None and observed == block(run, "metadata").get("generation", observed)


def phase(run: Doc) -> str:
    """One word for people."""
    return one_line(block(run, "status").get("phase")) or "Pending"


def why(run: Doc) -> tuple[str, str]:
    """Reason and message of the condition that explains the state: why it failed, or waits."""
    for kind in ("Failed", "Stalled", "Suspended", "Complete", "Reconciling"):
        found = condition(run, kind)
        if found.get("status") == "True":
            return one_line(found.get("reason")), one_line(found.get("message"))
    found = condition(run, "Reconciling")
    return one_line(found.get("reason")), one_line(found.get("message"))


def model(run: Doc) -> str:
    """The model, as the operator names it, or as the spec does before there is a status."""
    if named := block(run, "status").get("model"):
        return one_line(named)
    source = block(run, "spec", "model", "source")
    volume = block(source, "volume")
    found = (
        block(source, "huggingFace").get("repo")
        or block(source, "endpoint").get("model")
        or "/".join(str(volume[key]) for key in ("claimName", "path") if volume.get(key))
    )
    return one_line(found or block(run, "spec", "model").get("profile"))


def benchmarks(run: Doc) -> str:
    """The benchmarks, likewise."""
    if named := block(run, "status").get("benchmarks"):
        return one_line(named)
    names = [
        str(entry.get("name") or block(entry, "benchmarkRef").get("name", ""))
        for entry in entries(block(run, "spec"), "benchmarks")
    ]
    more = len(names) - MANY
    return one_line(",".join(names[:MANY]) + (f" +{more}" if more > 0 else ""))


def activity(run: Doc) -> str:
    """What the run does now, and why it waits if it does."""
    reason, message = why(run)
    text = phase(run).lower()
    if not block(run, "status"):
        return f"{text}: {NO_STATUS}"
    if not seen(run):
        return f"{text}: the operator has not seen the last change yet"
    if holds(run, "Stalled"):
        text += f", stalled ({reason})"
    if shards := shards_text(run):
        text += f", {shards}"
    return f"{text}: {message}" if message else text


def shards_text(run: Doc) -> str:
    """Shards that ended, of a run that has several, and restarts wherever there were any.

    How many are at work is what the operator's own message says.
    """
    found = block(run, "status", "shards")
    parts = []
    if count(found, "total") > 1:
        for key, text in (("succeeded", "done"), ("failed", "failed")):
            if count(found, key):
                parts.append(f"{count(found, key):,} {text}")
    for key, text in (("restarts", "restarts"), ("ignoredRestarts", "disruptions")):
        if number := count(found, key):
            parts.append(f"{number:,} {text if number > 1 else text.removesuffix('s')}")
    return ", ".join(parts)


def progress(run: Doc) -> Progress:
    """The run's progress as the display takes it."""
    status = block(run, "status")
    told = block(status, "progress")
    eta = told.get("etaSeconds")
    answers = block(status, "answers")
    steps: dict[str, StepName] = {"Prepare": "prepare", "Score": "score"}
    return Progress(
        step=steps.get(str(status.get("step")), "answer"),
        activity=one_line(activity(run), 300),
        requests_done=count(told, "requestsDone"),
        requests_total=count(told, "requestsTotal"),
        reused=count(answers, "reused"),
        computed=count(answers, "computed"),
        requests_per_second=_rate(told.get("requestsPerSecond")),
        eta_seconds=float(eta) if isinstance(eta, int) and eta >= 0 else None,
        tasks=[
            TaskProgress(
                name=one_line(entry.get("name"), 300),
                requests_done=count(entry, "requestsDone"),
                requests_total=count(entry, "requestsTotal"),
            )
            for entry in entries(told, "benchmarks")
        ],
    )


def _rate(text: object) -> float:
    try:
        rate = float(str(text))
    except ValueError:
        return 0.0
    return rate if 0 <= rate <= 1e9 else 0.0


def scores(run: Doc) -> list[Score]:
    """The headline scores."""
    known = {field.alias or name for name, field in Score.model_fields.items()}
    found = []
    for entry in entries(block(run, "status"), "scores"):
        kept = {key: value for key, value in entry.items() if key in known and value is not None}
        texts = {key: one_line(value) for key, value in kept.items() if isinstance(value, str)}
        if {"benchmark", "metric", "value"} <= texts.keys():
            found.append(Score.model_construct(**_pythonic({**kept, **texts})))
    return found


def _pythonic(values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.alias or name: name for name, field in Score.model_fields.items()}
    return {names[key]: value for key, value in values.items()}
