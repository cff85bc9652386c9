"""The statuses that a kubelet writes, and the runner's last word in them. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.played_node.fates import EXIT_CODES, End
from evalrun_api.names import CONTAINER, PLAN_ANNOTATION, STEP_LABEL
from evalrun_api.plan import RunPlan
from evalrun_api.progress import Progress, TaskProgress
from evalrun_api.reasons import STORE_UNAVAILABLE, UNKNOWN_BENCHMARK
from evalrun_api.status import Score, StageSeconds
from evalrun_api.termination import TerminationMessage

Doc = dict[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
INVALID_ANNOTATION = "bench.example/invalid"
"""Of a pod: a JSON object of the invalid answers that it tells of, by class."""
IMAGE_ID = "registry.example.com/runner@sha256:" + "1" * 64


@dataclass
class Journal:
    """How many of a run's requests are answered: what its pods find in the store."""

    total: int
    answered: int = 0


@dataclass
class Work:
    """A pod at work, as the node remembers it.

    step: prepare, answer, score or all. shard: its index. share: requests that are its own.
    """

    pod: Doc
    step: str
    shard: str
    plan: RunPlan
    journal: Journal
    address: str
    started_at: datetime
    seconds: float
    share: int = field(init=False)

    def __post_init__(self) -> None:
        self.share = -(-self.journal.total // self.plan.shards)

    def done(self, now: datetime) -> int:
        """Requests answered so far, at an even pace."""
        part = (now - self.started_at).total_seconds() / max(self.seconds, 1e-3)
        return int(self.share * min(max(part, 0.0), 1.0))


def step_of(pod: Doc) -> str:
    """What the runner in it is told to do."""
    return str(pod["metadata"]["labels"].get(STEP_LABEL, ""))


def shard_of(pod: Doc) -> str:
    """Its index."""
    return str((pod["metadata"].get("annotations") or {}).get(INDEX, "0"))


def plan_of(pod: Doc) -> RunPlan:
    """What it is to work on."""
    return RunPlan.model_validate_json(pod["metadata"]["annotations"][PLAN_ANNOTATION])


def running(work: Work) -> Doc:
    """Its container runs."""
    since = _stamp(work.started_at)
    state = {"running": {"startedAt": since}}
    return {
        "phase": "Running",
        "podIP": work.address,
        "podIPs": [{"ip": work.address}],
        "startTime": since,
        "conditions": _conditions(work.pod, ready=True, since=since),
        "containerStatuses": [_container(work.pod, state, ready=True)],
    }


def ended(work: Work, end: End, now: datetime) -> Doc:
    """Its container has ended, and the runner has left its word."""
    code, at = EXIT_CODES[end], _stamp(now)
    state = {
        "terminated": {
            "exitCode": code,
            "reason": "OOMKilled" if end == "killed" else "Error" if code else "Completed",
            "startedAt": _stamp(work.started_at),
            "finishedAt": at,
            "message": message(work, end, now).encode().decode(),
        }
    }
    conditions = _conditions(work.pod, ready=False, since=at)
    status: Doc = {"phase": "Failed" if code else "Succeeded"}
    if end in ("preempted", "evicted"):
        by = "PreemptionByScheduler" if end == "preempted" else "TerminationByKubelet"
        target = {"type": "DisruptionTarget", "status": "True", "reason": by}
        conditions = [c for c in conditions if c["type"] != "DisruptionTarget"]
        conditions.append({**target, "lastTransitionTime": at})
    if end == "evicted":
        status |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
    return status | {
        "conditions": conditions,
        "containerStatuses": [_container(work.pod, state, ready=False)],
    }


def never_started(pod: Doc, now: datetime) -> Doc:
    """It was deleted before its container began."""
    conditions = _conditions(pod, ready=False, since=_stamp(now))
    return {"phase": "Failed", "conditions": conditions}


def message(work: Work, end: End, now: datetime) -> TerminationMessage:
    """What the runner leaves. A step that ends well has answered all of its share."""
    well = end == "succeeds"
    asked = end in ("preempted", "stopped")
    reason = UNKNOWN_BENCHMARK if end == "fails_for_good" else STORE_UNAVAILABLE
    answering = work.step in ("answer", "all")
    computed = work.share if well else work.done(now)
    worked = round((now - work.started_at).total_seconds())
    said = TerminationMessage(
        run=work.plan.run,
        step="score" if work.step == "all" else work.step,
        outcome="Succeeded" if well else "Stopped" if asked else "Failed",
        reason="Completed" if well else "Stopped" if asked else reason.name,
        message="" if well else "played",
        requests_total=work.journal.total,
        answered_before=work.journal.answered if work.step in ("prepare", "all") else None,
        answers_digest="a" * 64,
        computed=min(computed, work.journal.total - work.journal.answered) if answering else 0,
        seconds=StageSeconds(generate=worked) if answering else None,
    )
    if end in ("killed", "evicted"):  # ended by force: what it had written last
        return said.model_copy(update={"outcome": "Running", "reason": "Completed"})
    if well and work.step in ("score", "all"):
        uri = f"s3://evaluations/{work.plan.run.namespace}/{work.plan.run.name}/manifest.json"
        score = Score(benchmark="mme", metric="acc", value="0.5")
        found = {"results_uri": uri, "results_digest": "d" * 64, "trusted": True}
        return said.model_copy(update={"scores": [score], **found})
    return said


def progress(work: Work, now: datetime) -> Progress:
    """What the runner serves at /progress."""
    answering = work.step in ("answer", "all")
    done = work.done(now) if answering else 0
    elapsed = max((now - work.started_at).total_seconds(), 1e-3)
    invalid = (work.pod["metadata"].get("annotations") or {}).get(INVALID_ANNOTATION, "{}")
    return Progress(
        step="answer" if work.step == "all" else work.step,
        activity=f"answering {done} of {work.share}" if answering else "working",
        requests_done=done,
        requests_total=work.share if answering else 0,
        computed=done,
        errors=json.loads(invalid),
        requests_per_second=done / elapsed,
        elapsed_seconds=elapsed,
        tasks=[TaskProgress(name="mme", requests_done=done, requests_total=work.share)]
        if answering
        else [],
    )


def _conditions(pod: Doc, *, ready: bool, since: str) -> list[Doc]:
    """The pod's conditions: the scheduler's own stay as they are."""
    found = (pod.get("status") or {}).get("conditions") or ()
    kept = [entry for entry in found if entry["type"] in ("PodScheduled", "DisruptionTarget")]
    state = {"status": "True" if ready else "False", "lastTransitionTime": since}
    return [*kept, *({"type": kind, **state} for kind in ("Ready", "ContainersReady"))]


def _container(pod: Doc, state: Doc, *, ready: bool) -> Doc:
    image = pod["spec"]["containers"][0]["image"]
    entry = {"name": CONTAINER, "image": image, "imageID": IMAGE_ID, "restartCount": 0}
    return {**entry, "ready": ready, "state": state}


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
