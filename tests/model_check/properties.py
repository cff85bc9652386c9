"""What has to hold, each under a name by which a counterexample is reported."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from world import INDEX, REQUESTS, Refused, check_status, condition

from evalrun_api.reasons import PERMANENT, ExitCode
from model_check.cluster import (
    EXCUSE,
    MANY,
    NODE_LOSS_SECONDS,
    RETRY_LIMIT,
    RUN,
    STRANGER,
    Cluster,
    Ghost,
    ended,
    finished,
)
from model_check.documents import Doc

ONE_JOB = "one Job at a time"
ORDER = "steps in order"
TERMINAL = "nothing terminal changes"
COUNTERS = "counters never fall, schema holds"
MANIFEST = "no success without a manifest"
COMPLETE = "a success tells all"
CAUSE = "no failure without a cause"
BUDGET = "budgets are reset by a person's resume, or a queue's stop, alone"
ONCE = "nothing is counted twice"
STRANGERS = "nobody else's objects are touched"
SUSPENDED = "nothing is created for a suspended run"
ENDED = "nothing is created after the end or a deletion"
STOPPED = "a suspended run has stopped when it says so"
RETRIES = "retries are as many as allowed"
LIMIT = "a deadline is of all work"
PATIENCE = "no pod is given up before its time"
DEFECT = "no defect"
QUIET = "one more look does nothing"
SETTLES = "it comes to rest"
OUTCOME = "it rests at an end"

PROPERTIES = (
    *(ONE_JOB, ORDER, TERMINAL, COUNTERS, MANIFEST, COMPLETE, CAUSE, BUDGET, ONCE, STRANGERS),
    *(SUSPENDED, ENDED, STOPPED, RETRIES, LIMIT, PATIENCE, DEFECT, QUIET, SETTLES, OUTCOME),
)

STEP_OF = {"prepare": 1, "Answering": 2, "answer": 2, "Scoring": 3, "score": 3}
LAST = 3

Objects = Mapping[tuple[str, str], Doc]


class Violation(Exception):  # noqa: N818
    """A property does not hold."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


def on_create(seen: Doc, cluster: Cluster, kind: str, name: str) -> None:
    """The operator has created an object. seen: the run as it saw it."""
    if (seen.get("status") or {}).get("completionTime"):
        raise Violation(ENDED, f"{kind} {name} is created for a run that has ended")
    if seen["metadata"].get("deletionTimestamp"):
        raise Violation(ENDED, f"{kind} {name} is created for a run that is being deleted")
    if kind != "Job":
        return
    if seen["spec"].get("suspend"):
        raise Violation(SUSPENDED, f"Job {name} is created for a suspended run")
    ghost = cluster.ghost
    if name.endswith("-answer") and not ghost.prepared:
        raise Violation(ORDER, f"Job {name} is created before the run is prepared")
    if name.endswith("-score") and ghost.answered < REQUESTS:
        raise Violation(ORDER, f"Job {name} is created with {ghost.answered} answers")
    phase = str((seen.get("status") or {}).get("phase"))
    if STEP_OF.get(name.rpartition("-")[2], LAST) < STEP_OF.get(phase, 0):
        raise Violation(ORDER, f"Job {name} is created again in phase {phase}")
    deadline = seen["spec"].get("activeDeadlineSeconds")
    if deadline is not None:
        left = deadline - ((seen.get("status") or {}).get("activeSeconds") or 0)
        given = cluster.objects[(kind, name)]["spec"].get("activeDeadlineSeconds")
        if given is None or given > left:
            raise Violation(LIMIT, f"Job {name} may work for {given} s, and {left} s are left")
    # One that is being deleted has pods until it is gone.
    live = [job for job in jobs_of_the_run(cluster.objects) if not finished(job)]
    if len(live) > 1:
        raise Violation(ONE_JOB, " and ".join(job["metadata"]["name"] for job in live))


def on_status(ghost: Ghost, before: Doc, after: Doc, jobs: Iterable[Doc]) -> None:
    """The operator has written a status. jobs: that it knows of."""
    if condition({"status": after}, "Suspended") and not all(map(finished, jobs)):
        raise Violation(STOPPED, "it says so while Jobs are at work or going")
    fault = _refusal(json.dumps(before), json.dumps(after))
    if fault is not None:
        raise Violation(TERMINAL if before.get("completionTime") else COUNTERS, fault)
    if after.get("phase") == "Succeeded":
        results = after.get("results") or {}
        if not (results.get("uri") and results.get("digest")):
            raise Violation(MANIFEST, f"results: {results}")
        if not ghost.scored or ghost.answered < REQUESTS:
            raise Violation(MANIFEST, "nobody has written one")
        done = (after.get("progress") or {}).get("requestsDone")
        if done != REQUESTS and not ghost.mishaps:
            raise Violation(COMPLETE, f"requestsDone is {done}")
    evictions = (after.get("queue") or {}).get("evictions", 0)
    # A queue may stop and start a Job while nobody looks: then what it ended counts as a mishap.
    unseen = max(ghost.evictions - evictions, 0)
    if after.get("phase") == "Failed" and ghost.mishaps + unseen < EXCUSE:
        raise Violation(CAUSE, _ready(after))
    resumes = int(after.get("resumes") or 0)
    if resumes > ghost.resumes:
        raise Violation(BUDGET, f"{resumes} resumes, of which a person did {ghost.resumes}")
    told = resumes > int(before.get("resumes") or 0)
    if _forgiven(after) > _forgiven(before) and not (told or ghost.evictions):
        raise Violation(BUDGET, f"{_forgiven(after)} disruptions are forgiven without a resume")
    if evictions > ghost.evictions and ghost.evictions < MANY:
        raise Violation(ONCE, f"{evictions} evictions are counted of {ghost.evictions}")
    shards = after.get("shards") or {}
    counted = shards.get("restarts", 0) + shards.get("ignoredRestarts", 0)
    if counted > ghost.spoilt and ghost.spoilt < MANY:
        raise Violation(ONCE, f"{counted} restarts are counted of {ghost.spoilt} pods")


def on_pods(cluster: Cluster, job: Doc) -> None:
    """The Job controller has started a pod."""
    failed: dict[str, int] = {}
    for pod in cluster.pods_of(job):
        if pod["status"]["phase"] != "Failed" or condition(pod, "DisruptionTarget"):
            continue
        index = pod["metadata"]["annotations"][INDEX]
        for entry in pod["status"].get("containerStatuses") or [{"state": {}}]:
            code = (entry["state"].get("terminated") or {}).get("exitCode")
            if code in PERMANENT:
                raise Violation(
                    RETRIES, f"{job['metadata']['name']} goes on after exit code {code}"
                )
            failed[index] = failed.get(index, 0) + (code != ExitCode.STOPPED)
    if any(times > RETRY_LIMIT for times in failed.values()):
        raise Violation(RETRIES, f"{job['metadata']['name']} starts a pod after {failed} failures")


def on_delete(cluster: Cluster, kind: str, name: str) -> None:
    """The operator is about to delete an object."""
    if STRANGER in (cluster.objects[(kind, name)]["metadata"].get("labels") or {}):
        raise Violation(STRANGERS, f"{kind} {name} is deleted")


def on_given_up(cluster: Cluster, name: str) -> None:
    """The operator is about to say of a pod that it has failed, or to remove it."""
    metadata = cluster.objects[("Pod", name)]["metadata"]
    due = metadata.get("deletionTimestamp")
    if due is None:
        raise Violation(PATIENCE, f"nobody has deleted pod {name}")
    age = (cluster.now - datetime.fromisoformat(due)).total_seconds()
    if age < NODE_LOSS_SECONDS:
        raise Violation(PATIENCE, f"pod {name} should have ended {age:.0f} s ago")


def at_rest(objects: Objects) -> None:
    """Nobody has anything to do any more, and no time is set for it."""
    run = objects.get(RUN)
    own = [(kind, name) for (kind, name), doc in objects.items() if is_ours(doc) and kind != RUN[0]]
    if run is None or run["metadata"].get("deletionTimestamp"):
        if own or run is not None:
            raise Violation(OUTCOME, f"the run is deleted, and these stay: {own}")
        return
    status = run.get("status") or {}
    working = [job["metadata"]["name"] for job in jobs_of_the_run(objects) if not finished(job)]
    working += [name for (kind, name), doc in objects.items() if kind == "Pod" and not ended(doc)]
    suspended = run["spec"].get("suspend") and condition(run, "Suspended")
    if not status.get("completionTime") and not suspended:
        raise Violation(OUTCOME, f"phase {status.get('phase')}: {_ready(status)}")
    if working:
        raise Violation(OUTCOME, f"{status['phase']}, and these work: {working}")
    has_ttl = run["spec"].get("ttlSecondsAfterFinished") is not None
    if has_ttl and status.get("completionTime") and any(kind == "Job" for kind, _ in own):
        raise Violation(OUTCOME, "its Jobs stay though their time is over")
    if status.get("observedGeneration") != run["metadata"]["generation"]:
        raise Violation(OUTCOME, "the last edit is not seen")


def is_ours(document: Doc) -> bool:
    return STRANGER not in (document["metadata"].get("labels") or {})


def jobs_of_the_run(objects: Objects) -> Iterable[Doc]:
    return (doc for (kind, _), doc in objects.items() if kind == "Job" and is_ours(doc))


def _ready(status: Doc) -> str:
    for entry in status.get("conditions") or ():
        if entry["type"] == "Ready":
            return f"{entry['reason']}: {entry['message']}"
    return "no condition"


def _forgiven(status: Doc) -> int:
    return int((status.get("gonePods") or {}).get("forgiven") or 0)


@functools.lru_cache(maxsize=100_000)
def _refusal(before: str, after: str) -> str | None:
    """Why the API server, or a reader who trusts counters, would refuse a status."""
    try:
        check_status(json.loads(before), json.loads(after))
    except (Refused, ValueError) as error:
        return str(error)
    return None
