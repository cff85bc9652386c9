"""A small world to run the operator's decisions in: an API server, a Job controller, a kubelet.

Plain dicts with the semantics that the loop rests on: uids and resourceVersions, 409 for a name
that is taken, foreground deletion, a status that is refused by the CRD's schema or its transition
rules, pods by index and podFailurePolicy, garbage collection by owner. Time stands still but in
`tick`. Nothing is random, so that every state can be explored.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from evalrun_api.names import PLAN_ANNOTATION, STEP_LABEL
from evalrun_api.plan import RunPlan
from evalrun_api.reasons import ExitCode
from evalrun_api.status import EvaluationRunStatus, Score
from evalrun_api.termination import TerminationMessage

Doc = dict[str, Any]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
REQUESTS = 120
INDEX = "batch.kubernetes.io/job-completion-index"


class Crashed(Exception):  # noqa: N818
    """The operator's process ended here."""


class Forbidden(Exception):  # noqa: N818
    """403: a quota, a webhook or a right is against it."""


class Conflict(Exception):  # noqa: N818
    """409: the name is taken, or the version is not the last one."""


class Missing(Exception):  # noqa: N818
    """404."""


class LostReply(Exception):  # noqa: N818
    """The request was carried out, and its answer never came."""


class Refused(AssertionError):  # noqa: N818
    """422: the API server would refuse this status, and the run would be stuck."""


@dataclass(frozen=True)
class Fate:
    """What becomes of a pod.

    waiting: reason and message for which its container never starts. works: ticks at work.
    message: raw termination message; the runner's own when None. lost: its node is gone, so that it
    ends without a word. endless: it works until it is asked to stop.
    """

    exit_code: int = 0
    exit_reason: str = ""
    reason: str = ""
    text: str = ""
    message: str | None = None
    disrupted: bool = False
    waiting: tuple[str, str] | None = None
    unschedulable: bool = False
    works: int = 2
    endless: bool = False
    lost: bool = False


FINE = Fate()
STUCK = Fate(endless=True)


def stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def owner(document: Doc, kind: str) -> str | None:
    for reference in document["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference["kind"] == kind:
            return str(reference["uid"])
    return None


def condition(document: Doc, kind: str) -> Doc | None:
    for entry in (document.get("status") or {}).get("conditions") or ():
        if entry["type"] == kind and entry["status"] == "True":
            found: Doc = entry
            return found
    return None


@dataclass
class World:
    """The cluster.

    fates: of the pods of a step (prepare, answer, score, all), in the order in which they are
    created; when they run out, all goes well. crash_after, lose_after: the write after which the
    operator crashes, or misses the answer. refuse_pods: a quota forbids new pods. behind: the Job
    controller has yet to look at Jobs that have not begun. dead: pods whose node is. forbidden:
    kinds that the operator may not create now.
    """

    now: datetime = BEGIN
    objects: dict[tuple[str, str], Doc] = field(default_factory=dict)
    fates: dict[str, list[Fate]] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)
    crash_after: int | None = None
    lose_after: int | None = None
    refuse_pods: bool = False
    behind: bool = False
    dead: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    answered: int = 0
    version: int = 0
    history: list[Doc] = field(default_factory=list)
    jobs_alive: int = 0
    created: Counter[str] = field(default_factory=Counter)

    # The API server

    def put(self, kind: str, document: Doc) -> Doc:
        """Create an object, as anyone may."""
        name = document["metadata"]["name"]
        if (kind, name) in self.objects:
            raise Conflict(f"{kind}/{name}")
        self.version += 1
        stored = copy.deepcopy(document)
        stored["metadata"] |= {
            "uid": stored["metadata"].get("uid") or f"{kind.lower()}-{self.version}",
            "resourceVersion": str(self.version),
            "generation": 1,
            "creationTimestamp": stamp(self.now),
        }
        stored["metadata"].setdefault("namespace", "team")
        self.objects[(kind, name)] = stored
        self.created[kind] += 1
        return copy.deepcopy(stored)

    def touch(self, document: Doc) -> None:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)

    def get(self, kind: str, name: str) -> Doc:
        if (kind, name) not in self.objects:
            raise Missing(f"{kind}/{name}")
        return copy.deepcopy(self.objects[(kind, name)])

    def all(self, kind: str) -> list[Doc]:
        """The objects of a kind, as they are kept: whoever changes one changes the world."""
        return [document for (found, _), document in self.objects.items() if found == kind]

    @property
    def run(self) -> Doc:
        (found,) = self.all("EvaluationRun")
        return found

    @property
    def status(self) -> Doc:
        found: Doc = self.run.get("status") or {}
        return found

    def edit_run(self, **spec: Any) -> None:
        """A person edits the spec."""
        self.run["spec"] |= spec
        self.run["metadata"]["generation"] += 1
        self.touch(self.run)

    def remove(self, kind: str, name: str) -> None:
        """A person deletes an object; Jobs and pods go as gracefully as ever."""
        document = self.objects[(kind, name)]
        if kind in ("Job", "Pod"):
            document["metadata"].setdefault("deletionTimestamp", stamp(self.now))
            self.touch(document)
        else:
            del self.objects[(kind, name)]

    # Writes of the operator

    def create(self, kind: str, document: Doc) -> Doc:
        if kind in self.forbidden:
            raise Forbidden(f"exceeded quota: count/{kind.lower()}s")
        found = self.put(kind, document)
        if kind == "Job":
            alive = [job for job in self.all("Job") if owner(job, "EvaluationRun")]
            self.jobs_alive = max(self.jobs_alive, len([j for j in alive if not _over(j)]))
        self.wrote(f"create {kind} {document['metadata']['name']}")
        return found

    def write_status(self, run: Doc, status: Doc, urgent: bool) -> Doc:
        metadata = run["metadata"]
        stored = self.objects.get(("EvaluationRun", metadata["name"]))
        if stored is None or stored["metadata"]["uid"] != metadata["uid"]:
            raise Missing
        if stored["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise Conflict
        check_status(stored.get("status") or {}, status)
        stored["status"] = copy.deepcopy(status)
        self.touch(stored)
        self.history.append(stored["status"])
        self.wrote("status" if urgent else "progress")
        return copy.deepcopy(stored)

    def delete_job(self, name: str, uid: str, version: str) -> None:
        self._exactly("Job", name, uid, version)
        self.remove("Job", name)
        self.wrote(f"delete {name}")

    def fail_pod(self, name: str, uid: str, version: str, status: Doc) -> None:
        pod = self._exactly("Pod", name, uid, version)
        pod["status"] = {**pod["status"], **copy.deepcopy(status)}
        self.touch(pod)
        self.wrote(f"fail {name}")

    def remove_pod(self, name: str, uid: str, version: str) -> None:
        self._exactly("Pod", name, uid, version)
        del self.objects[("Pod", name)]
        self.wrote(f"remove {name}")

    def _exactly(self, kind: str, name: str, uid: str, version: str) -> Doc:
        found = self.objects.get((kind, name))
        if found is None:
            raise Missing
        if (found["metadata"]["uid"], found["metadata"]["resourceVersion"]) != (uid, version):
            raise Conflict
        return found

    def is_kept(self, pod: Doc) -> bool:
        """Whether a kubelet sees to a pod."""
        return pod["metadata"]["name"] not in self.dead

    def wrote(self, what: str) -> None:
        self.writes.append(what)
        if self.crash_after == len(self.writes):
            raise Crashed
        if self.lose_after == len(self.writes):
            raise LostReply

    @property
    def counted_writes(self) -> list[str]:
        """Without the writes of progress, which have a budget of their own."""
        return [what for what in self.writes if what != "progress"]

    # The rest of the cluster

    def tick(self, seconds: float = 5) -> None:
        """A moment in which everybody but the operator works."""
        self.now += timedelta(seconds=seconds)
        for job in list(self.all("Job")):
            self._control(job)
        for pod in list(self.all("Pod")):
            self._keep(pod)
        for job in list(self.all("Job")):
            self._control(job)
        self._collect()

    def _collect(self) -> None:
        uids = {document["metadata"]["uid"] for document in self.objects.values()}
        for (kind, name), document in list(self.objects.items()):
            owners = document["metadata"].get("ownerReferences") or ()
            if any(reference["uid"] not in uids for reference in owners):
                if kind in ("Job", "Pod"):
                    self.remove(kind, name)
                else:
                    del self.objects[(kind, name)]

    def pods_of(self, job: Doc) -> list[Doc]:
        uid = job["metadata"]["uid"]
        return [pod for pod in self.all("Pod") if owner(pod, "Job") == uid]

    # Kueue

    def admit(self, name: str) -> None:
        """There is quota for a Job."""
        job = self.objects[("Job", name)]
        job["spec"]["suspend"] = False
        self.touch(job)

    def evict(self, name: str) -> None:
        """Its quota is taken back."""
        job = self.objects[("Job", name)]
        job["spec"]["suspend"] = True
        job.setdefault("status", {}).pop("startTime", None)
        self.touch(job)

    # The Job controller

    def _control(self, job: Doc) -> None:
        before = json.dumps(job.get("status"))
        if self.behind and "startTime" not in (job.get("status") or {}):
            return
        if job["metadata"].get("deletionTimestamp"):
            for pod in self.pods_of(job):
                self.remove("Pod", pod["metadata"]["name"])
                if _ended(pod) and self.is_kept(pod):
                    del self.objects[("Pod", pod["metadata"]["name"])]
            if not self.pods_of(job):
                del self.objects[("Job", job["metadata"]["name"])]
            return
        if not _over(job):
            if job["spec"].get("suspend"):
                self._stand_still(job)
            else:
                self._work(job)
        for pod in self.pods_of(job):  # its finalizer goes once it is counted
            if _ended(pod) and pod["metadata"].get("deletionTimestamp") and self.is_kept(pod):
                del self.objects[("Pod", pod["metadata"]["name"])]
        if json.dumps(job.get("status")) != before:
            self.touch(job)

    def _stand_still(self, job: Doc) -> None:
        status = job.setdefault("status", {})
        if condition(job, "Suspended") is None:
            _conclude(status, "Suspended", "JobSuspended", "Job suspended", self.now)
        for pod in self.pods_of(job):
            if not _ended(pod):
                self.remove("Pod", pod["metadata"]["name"])
        status["active"] = 0

    def _work(self, job: Doc) -> None:
        spec, status = job["spec"], job.setdefault("status", {})
        if condition(job, "Suspended"):
            status["conditions"] = []
            status["startTime"] = stamp(self.now)
        status.setdefault("startTime", stamp(self.now))
        pods, done = self.pods_of(job), status.setdefault("_done", [])
        failures, counted = status.setdefault("_failures", {}), status.setdefault("_counted", [])
        verdict: tuple[str, str] | None = None
        for pod in pods:
            uid, index = pod["metadata"]["uid"], pod["metadata"]["annotations"].get(INDEX, "0")
            if uid in counted or not _ended(pod):
                continue
            counted.append(uid)
            if pod["status"]["phase"] == "Succeeded":
                done.append(index)
                continue
            action = _policy(spec, pod)
            if action == "FailJob":
                verdict = ("PodFailurePolicy", f"{pod['metadata']['name']} matched FailJob rule")
            elif action == "Count":
                failures[index] = failures.get(index, 0) + 1
        limit = spec.get("backoffLimitPerIndex", spec.get("backoffLimit", 6))
        failed = [index for index, count in failures.items() if count > limit]
        if failed and verdict is None:
            status["failedIndexes"] = ",".join(failed)
            verdict = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        begun = datetime.fromisoformat(status["startTime"])
        deadline = spec.get("activeDeadlineSeconds")
        if deadline is not None and (self.now - begun).total_seconds() >= deadline:
            verdict = ("DeadlineExceeded", "Job was active longer than specified deadline")
        if verdict is not None:
            status["_verdict"] = verdict
        status["succeeded"] = len(done)
        busy = [pod for pod in pods if not _ended(pod)]
        if "_verdict" in status:
            for pod in busy:
                self.remove("Pod", pod["metadata"]["name"])
            if not busy:
                reason, message = status["_verdict"]
                _conclude(status, "Failed", reason, message, self.now)
        elif len(done) >= spec["completions"]:
            _conclude(status, "Complete", "CompletionsReached", "", self.now)
        else:
            taken = {pod["metadata"]["annotations"].get(INDEX, "0") for pod in busy}
            for number in range(spec["completions"]):
                index = str(number)
                if index not in done and index not in taken and not self.refuse_pods:
                    self._make_pod(job, index)
        status["active"] = len([pod for pod in self.pods_of(job) if not _ended(pod)])

    def _make_pod(self, job: Doc, index: str) -> None:
        template = job["spec"]["template"]
        annotations = dict(template["metadata"]["annotations"])
        if job["spec"].get("completionMode") == "Indexed":
            annotations[INDEX] = index
        reference = {"kind": "Job", "controller": True, "uid": job["metadata"]["uid"]}
        pod = self.put(
            "Pod",
            {
                "metadata": {
                    "name": f"{job['metadata']['name']}-{index}-{self.version}",
                    "namespace": job["metadata"]["namespace"],
                    "labels": dict(template["metadata"]["labels"]),
                    "annotations": annotations,
                    "ownerReferences": [reference],
                },
                "spec": {},
                "status": {"phase": "Pending"},
            },
        )
        command = pod["metadata"]["labels"][STEP_LABEL]
        fates = self.fates.get(command) or []
        stored = self.objects[("Pod", pod["metadata"]["name"])]
        stored["_fate"] = fates.pop(0) if fates else FINE
        stored["_worked"] = 0

    # The kubelet

    def _keep(self, pod: Doc) -> None:
        if _ended(pod) or not self.is_kept(pod):
            return
        fate: Fate = pod["_fate"]
        status = pod["status"]
        deleted = pod["metadata"].get("deletionTimestamp")
        if deleted and status["phase"] == "Pending":
            status |= {"phase": "Failed"}
        elif deleted:
            said = fate.message if fate.endless else None
            self._end(pod, Fate(exit_code=int(ExitCode.STOPPED), message=said))
        elif fate.unschedulable:
            status["conditions"] = [_bound("False", self.now, fate.text or "0/3 nodes fit")]
        elif status["phase"] == "Pending":
            status["conditions"] = [_bound("True", self.now)]
            pod["spec"] = {"nodeName": "node-1"}
            state: Doc = {"running": {"startedAt": stamp(self.now)}}
            if fate.waiting:
                state = {"waiting": {"reason": fate.waiting[0], "message": fate.waiting[1]}}
            else:
                status["phase"] = "Running"
            entry = {"name": "runner", "image": "runner:1", "imageID": "runner@sha256:1"}
            status["containerStatuses"] = [entry | {"state": state}]
        elif pod["_worked"] < fate.works or fate.endless:
            pod["_worked"] += 1
            return
        else:
            self._end(pod, fate)
        self.touch(pod)

    def _end(self, pod: Doc, fate: Fate) -> None:
        status = pod["status"]
        status["phase"] = "Failed" if fate.exit_code or fate.disrupted else "Succeeded"
        if fate.reason:
            status |= {"reason": fate.reason, "message": fate.text}
        if fate.disrupted:
            entry = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
            }
            status["conditions"].append(entry)
        if fate.lost:
            status["containerStatuses"] = []
            return
        message = fate.message if fate.message is not None else self._message(pod, fate)
        running = status["containerStatuses"][0]["state"].get("running") or {}
        status["containerStatuses"][0]["state"] = {
            "terminated": {
                "exitCode": fate.exit_code,
                "reason": fate.exit_reason or ("Error" if fate.exit_code else "Completed"),
                "startedAt": running.get("startedAt") or stamp(self.now),
                "finishedAt": stamp(self.now),
                "message": message,
            }
        }
        self.touch(pod)

    def _message(self, pod: Doc, fate: Fate) -> str:
        """What the runner would leave: it works on what is not answered yet."""
        plan = RunPlan.model_validate_json(pod["metadata"]["annotations"][PLAN_ANNOTATION])
        command = pod["metadata"]["labels"][STEP_LABEL]
        message = TerminationMessage(
            run=plan.run,
            step="score" if command == "all" else command,
            outcome={0: "Succeeded", 30: "Stopped"}.get(fate.exit_code, "Failed"),
            reason="Completed" if fate.exit_code == 0 else "InternalError",
            requests_total=REQUESTS,
            answered_before=self.answered if command in ("prepare", "all") else None,
            answers_digest="a" * 64,
        )
        if command in ("answer", "all"):
            share = REQUESTS // plan.shards
            computed = min(share if fate.exit_code == 0 else share // 4, REQUESTS - self.answered)
            self.answered += computed
            message = replace_message(message, computed=computed)
        if command in ("score", "all") and fate.exit_code == 0:
            score = Score(benchmark="mme", metric="acc", value="0.5")
            found = {"results_uri": "s3://b/manifest.json", "results_digest": "d" * 64}
            message = replace_message(message, scores=[score], trusted=True, **found)
        return message.encode().decode()


def replace_message(message: TerminationMessage, **fields: Any) -> TerminationMessage:
    return message.model_copy(update=fields)


def _over(job: Doc) -> bool:
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def _ended(pod: Doc) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _bound(status: str, now: datetime, text: str = "") -> Doc:
    entry = {"type": "PodScheduled", "status": status, "lastTransitionTime": stamp(now)}
    return entry | ({"message": text} if text else {})


def _conclude(status: Doc, kind: str, reason: str, message: str, now: datetime) -> None:
    status["conditions"] = [
        {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": stamp(now),
        }
    ]


def _policy(spec: Doc, pod: Doc) -> str:
    """What the first podFailurePolicy rule that fits says."""
    for rule in spec["podFailurePolicy"]["rules"]:
        for wanted in rule.get("onPodConditions") or ():
            if condition(pod, wanted["type"]):
                return str(rule["action"])
        codes = rule.get("onExitCodes")
        for container in pod["status"].get("containerStatuses") or ():
            code = (container["state"].get("terminated") or {}).get("exitCode")
            if codes and code in codes["values"]:
                return str(rule["action"])
    return "Count"


NEVER_FALL: tuple[tuple[str, ...], ...] = (
    ("resumes",),
    ("activeSeconds",),
    ("usage", "gpuSeconds"),
    ("usage", "gpuIdleSeconds"),
    ("usage", "cost"),
    ("usage", "judgeRequests"),
    ("usage", "judgeCost"),
    ("time", "start"),
    ("time", "generate"),
    ("time", "idle"),
    ("shards", "workerRestarts"),
    ("progress", "requestsDone"),
    ("progress", "requestsTotal"),
    ("answers", "computed"),
    ("shards", "restarts"),
    ("shards", "ignoredRestarts"),
    ("gonePods", "failures"),
    ("gonePods", "disruptions"),
)


def check_status(before: Doc, after: Doc) -> None:
    """Refuse what the CRD's schema and transition rules would, and counters that fall."""
    EvaluationRunStatus.model_validate_json(json.dumps(after), strict=True)
    for path in ("conditions", "progress.benchmarks"):
        entries: Any = after
        for part in path.split("."):
            entries = (entries or {}).get(part)
        keys = [entry.get("type") or entry.get("name") for entry in entries or ()]
        if len(keys) != len(set(keys)):
            raise Refused(f"{path}: {keys}")
    if before.get("completionTime"):
        same = {k: v for k, v in after.items() if k != "observedGeneration"}
        if same != {k: v for k, v in before.items() if k != "observedGeneration"}:
            raise Refused("a finished run changed")
    if before.get("startTime") not in (None, after.get("startTime")):
        raise Refused("startTime changed")
    for path_parts in NEVER_FALL:
        old, new = _at(before, path_parts), _at(after, path_parts)
        if old is not None and (new is None or float(new) < float(old)):
            raise Refused(f"{'.'.join(path_parts)} fell from {old} to {new}")


def _at(status: Doc, path: tuple[str, ...]) -> Any:
    found: Any = status
    for part in path:
        found = (found or {}).get(part)
    return found
