"""The cluster around the operator, in single steps: who may act next, and what that changes.

The semantics are those of `World`; here each controller's step is one of its own, and a pod ends as
the caller chooses. Documents are copied before they change, so that states share the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from world import INDEX, REQUESTS, Conflict, Fate, World, condition, owner, stamp

from evalrun_api.names import QUEUE_LABEL, STEP_LABEL
from evalrun_api.plan import RunIdentity
from evalrun_api.reasons import ExitCode
from evalrun_api.status import Score
from evalrun_api.termination import TerminationMessage
from model_check.documents import FRESH, Doc, token

RUN = ("EvaluationRun", "trial")
NAMESPACE = "team"
STRANGER = "stranger"
"""Marks what is not the run's: nobody may touch it."""

OK = Fate()
BOUND = {"nodeName": "node-1"}
NODE_LOSS_SECONDS = 61
ENDS: Mapping[str, Fate] = {
    "fails, worth another try (exit 20)": Fate(exit_code=int(ExitCode.STORE)),
    "fails for good (exit 10)": Fate(exit_code=int(ExitCode.INVALID)),
    "is preempted": Fate(exit_code=143, disrupted=True),
    "is lost without a word": Fate(exit_code=1, lost=True),
}


MANY = 8
"""Pods: an operator that does not learn of a deletion for long may make ever more."""
RETRY_LIMIT = 1
EXCUSE = RETRY_LIMIT + 1
"""Mishaps: one more than the retry limit, and as many as a failure for good is worth."""


@dataclass
class Ghost:
    """What the check knows of a path and nobody in the cluster does.

    answered: requests whose answers are stored. prepared, scored: steps that ended well. spoilt:
    pods that did not, or are gone; `MANY` may be more. mishaps: that befell pods; after `EXCUSE`
    the run may fail. resumes: by a person. evictions: by a queue.
    """

    answered: int = 0
    prepared: bool = False
    scored: bool = False
    spoilt: int = 0
    mishaps: int = 0
    resumes: int = 0
    evictions: int = 0

    def flat(self) -> tuple[int, bool, bool, int, int, int, int]:
        """The fields, in their order."""
        return (
            self.answered,
            self.prepared,
            self.scored,
            self.spoilt,
            self.mishaps,
            self.resumes,
            self.evictions,
        )


@dataclass
class Cluster(World):
    """One state of the cluster, to be changed by one step."""

    ghost: Ghost = field(default_factory=Ghost)
    named: int = FRESH

    def own(self, key: tuple[str, str]) -> Doc:
        """A copy of the document, which takes its place and may be changed."""
        document = self.objects[key]
        fresh = {**document, "metadata": dict(document["metadata"])}
        if "status" in document:
            fresh["status"] = _copy(document["status"])
        self.objects[key] = fresh
        return fresh

    def put(self, kind: str, document: Doc) -> Doc:
        key = (kind, document["metadata"]["name"])
        if key in self.objects:
            raise Conflict("/".join(key))
        self.version += 1
        metadata = {"namespace": NAMESPACE, "uid": kind.lower(), **document["metadata"]}
        if kind == "Job" and "uid" not in document["metadata"]:
            metadata["uid"] = self.new_token()
        metadata |= {"resourceVersion": str(self.version), "generation": 1}
        metadata["creationTimestamp"] = stamp(self.now)
        self.objects[key] = {**document, "metadata": metadata}
        return self.objects[key]

    def new_token(self) -> str:
        self.named += 1
        return token(self.named)

    def remove(self, kind: str, name: str) -> None:
        """Delete an object: Jobs and pods gracefully, anything else at once."""
        if kind not in ("Job", "Pod"):
            del self.objects[(kind, name)]
        elif "deletionTimestamp" not in self.objects[(kind, name)]["metadata"]:
            document = self.own((kind, name))
            document["metadata"]["deletionTimestamp"] = stamp(self.now)
            self.touch(document)

    # A person

    def edit(self, spec: Doc) -> None:
        """Change the run's spec."""
        run = self.own(RUN)
        self.ghost.resumes += bool(run["spec"].get("suspend")) and not spec.get("suspend")
        run["spec"] = spec
        run["metadata"]["generation"] += 1
        self.touch(run)

    def annotate(self, key: tuple[str, str]) -> None:
        """Somebody else writes to an object, which changes its version and nothing that matters."""
        self.touch(self.own(key))

    def vanish(self, name: str) -> None:
        """A pod is gone by force, and nobody has seen its end."""
        del self.objects[("Pod", name)]
        self.befall()

    def befall(self, times: int = 1) -> None:
        """Something happened that the run need not survive for ever."""
        self.ghost.mishaps = min(self.ghost.mishaps + times, EXCUSE)

    def remove_by_hand(self, kind: str, name: str) -> None:
        """A person deletes an object of the run; a Job takes its pods along."""
        pods = self.pods_of(self.objects[(kind, name)]) if kind == "Job" else ()
        self.remove(kind, name)
        self.befall(max(len(pods), 1))

    # Kueue

    def admit(self, name: str) -> None:
        self._suspend(name, False)

    def evict(self, name: str) -> None:
        self._suspend(name, True)
        (self.objects[("Job", name)].get("status") or {}).pop("startTime", None)
        self.ghost.evictions = min(self.ghost.evictions + 1, MANY)

    def _suspend(self, name: str, suspend: bool) -> None:
        job = self.own(("Job", name))
        job["spec"] = {**job["spec"], "suspend": suspend}
        self.touch(job)

    # Steps of the cluster's own

    def steps(self) -> Iterator[tuple[str, Callable[[Cluster], None]]]:
        """What may happen next without anything going wrong."""
        for (kind, name), document in self.objects.items():
            if kind == "Job" and self.is_of_interest(document):
                yield f"the Job controller looks at {name}", _step("control", name)
        for (kind, name), document in self.objects.items():
            if kind == "Job" and is_queued(document) and document["spec"]["suspend"]:
                yield f"Kueue admits {name}", _step("admit", name)
        for (kind, name), document in self.objects.items():
            if kind != "Pod" or ended(document) or not self.is_kept(document):
                continue
            if "deletionTimestamp" in document["metadata"]:
                yield f"pod {name} stops", _step("stop", name)
            elif document["status"]["phase"] == "Running":
                yield f"pod {name} ends well", _step("finish", name, OK)
            elif "_stuck" not in document:
                yield f"pod {name} starts", _step("start", name)
        run = self.objects.get(RUN)
        if run is None or "deletionTimestamp" in run["metadata"]:
            yield "the garbage collector collects", Cluster.collect

    def is_of_interest(self, job: Doc) -> bool:
        """Whether the Job controller may have anything to do about a Job."""
        if STRANGER in job["metadata"]["labels"]:
            return False
        if not finished(job) or "deletionTimestamp" in job["metadata"]:
            return True
        return any(
            ended(pod) and "deletionTimestamp" in pod["metadata"] for pod in self.pods_of(job)
        )

    def mishaps(self, nodes_die: bool) -> Iterator[tuple[str, str, Callable[[Cluster], None]]]:
        """Class, label and effect of what may go wrong in the cluster."""
        for (kind, name), document in self.objects.items():
            if STRANGER in (document["metadata"].get("labels") or {}):
                continue
            deleting = "deletionTimestamp" in document["metadata"]
            if kind in ("Job", "ConfigMap") and not deleting:
                label = f"a person deletes {kind} {name}"
                yield "deleted by hand", label, _step("remove_by_hand", kind, name)
            if kind == "Job" and is_queued(document) and not document["spec"]["suspend"]:
                yield "evicted", f"Kueue stops {name}", _step("evict", name)
            if kind != "Pod":
                continue
            yield "lost without word", f"pod {name} vanishes", _step("vanish", name)
            if nodes_die and "nodeName" in document["spec"] and self.is_kept(document):
                yield "node lost", f"the node of pod {name} is lost for good", _step("die", name)
            if deleting or ended(document):
                continue
            label = f"a person deletes pod {name}"
            yield "deleted by hand", label, _step("remove_by_hand", kind, name)
            if document["status"]["phase"] == "Running":
                for words, fate in ENDS.items():
                    yield "pod ends badly", f"pod {name} {words}", _step("finish", name, fate)
            elif "_stuck" not in document:
                yield "pod never starts", f"pod {name} cannot start", _step("stick", name)

    def control(self, name: str) -> None:
        """One look of the Job controller at one Job."""
        job = self.own(("Job", name))
        self._control(job)
        if ("Job", name) not in self.objects:
            return
        status = job.get("status") or {}
        if "_counted" in status:
            uids = {pod["metadata"]["uid"] for pod in self.pods_of(job)}
            counted = sorted(uids & set(status["_counted"]))
            done = sorted(set(status["_done"]))
            if (counted, done) != (status["_counted"], status["_done"]):
                status |= {"_counted": counted, "_done": done}
                self.touch(job)

    def is_kept(self, pod: Doc) -> bool:
        return "_dead" not in pod

    def die(self, name: str) -> None:
        """No kubelet sees to the pod any more, and one at work is evicted, as far as that goes."""
        pod = self.own(("Pod", name))
        pod["_dead"] = True
        if not ended(pod):
            pod["metadata"].setdefault("deletionTimestamp", stamp(self.now))
        self.touch(pod)
        self.befall()

    def start(self, name: str) -> None:
        pod = self.own(("Pod", name))
        pod["spec"] = BOUND
        bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(self.now)}
        state = {"running": {"startedAt": stamp(self.now)}}
        entry = {"name": "runner", "image": "runner:1", "imageID": "runner@sha256:1"}
        pod["status"] |= {
            "phase": "Running",
            "conditions": [bound],
            "containerStatuses": [entry | {"state": state}],
        }
        self.touch(pod)

    def stop(self, name: str) -> None:
        """The kubelet carries out a deletion."""
        pod = self.own(("Pod", name))
        if pod["status"]["phase"] == "Pending":
            pod["status"]["phase"] = "Failed"
            self.touch(pod)
        else:
            self._end(pod, Fate(exit_code=int(ExitCode.STOPPED)))

    def finish(self, name: str, fate: Fate) -> None:
        pod = self.own(("Pod", name))
        self._end(pod, fate)
        self.touch(pod)
        if fate is not OK:
            self.befall(EXCUSE if fate.exit_code == int(ExitCode.INVALID) else 1)

    def tally(self, before: Mapping[tuple[str, str], Doc]) -> None:
        """Count the pods that were spoilt since."""
        for key, pod in before.items():
            if key[0] == "Pod" and pod["status"]["phase"] != "Failed":
                left = self.objects.get(key)
                spoilt = left is None or left["status"]["phase"] == "Failed"
                self.ghost.spoilt = min(self.ghost.spoilt + spoilt, MANY)

    def stick(self, name: str) -> None:
        pod = self.own(("Pod", name))
        pod["_stuck"] = True
        self.touch(pod)
        self.befall(EXCUSE)

    def collect(self) -> None:
        """What belongs to a run that is gone, or going with all that is its own, goes."""
        run = self.objects.get(RUN)
        uids = {d["metadata"]["uid"] for k, d in self.objects.items() if k != RUN}
        for (kind, name), document in list(self.objects.items()):
            owners = document["metadata"].get("ownerReferences") or ()
            if any(reference["uid"] not in uids for reference in owners):
                self.remove(kind, name)
        kept = [key for key, document in self.objects.items() if owner(document, "EvaluationRun")]
        if run is not None and not any(kind == "Job" for kind, _ in kept):
            del self.objects[RUN]

    # What World does otherwise

    def _make_pod(self, job: Doc, index: str) -> None:
        template = job["spec"]["template"]["metadata"]
        uid = self.new_token()
        reference = {"kind": "Job", "controller": True, "uid": job["metadata"]["uid"]}
        wanted = ("lmms-eval.io/accelerators",)
        notes = {
            key: template["annotations"][key] for key in wanted if key in template["annotations"]
        }
        metadata = {
            "name": f"{job['metadata']['name']}-{index}-{uid}",
            "uid": uid,
            "labels": template["labels"],
            "annotations": notes | {INDEX: index},
            "ownerReferences": [reference],
        }
        status = {"phase": "Pending"}
        shares = job["spec"]["completions"]
        self.put("Pod", {"metadata": metadata, "spec": {}, "status": status, "_shares": shares})

    def _message(self, pod: Doc, fate: Fate) -> str:
        command = pod["metadata"]["labels"][STEP_LABEL]
        computed = 0
        if fate.exit_code == 0:
            if command in ("answer", "all"):
                left = REQUESTS - self.ghost.answered
                computed = min(REQUESTS // pod["_shares"], left)
                self.ghost.answered += computed
            self.ghost.prepared |= command in ("prepare", "all")
            self.ghost.scored |= command in ("score", "all")
        return _said(command, fate.exit_code, computed, self.ghost.answered - computed)


def ended(pod: Doc) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def finished(job: Doc) -> bool:
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def is_queued(job: Doc) -> bool:
    """Whether Kueue has a say in a Job."""
    metadata = job["metadata"]
    over = finished(job) or "deletionTimestamp" in metadata
    return QUEUE_LABEL in metadata["labels"] and not over


@functools.cache
def _said(command: str, code: int, computed: int, before: int) -> str:
    """What the runner leaves; the least that `World` lets it say."""
    results: Doc = {}
    if command in ("score", "all") and code == 0:
        score = Score(benchmark="mme", metric="acc", value="0.5")
        results = {"scores": [score], "trusted": True}
        results |= {"results_uri": "s3://b/manifest.json", "results_digest": "d" * 64}
    message = TerminationMessage(
        run=RunIdentity(namespace=NAMESPACE, name="trial", uid="uid-1"),
        step="score" if command == "all" else command,
        outcome={0: "Succeeded", int(ExitCode.STOPPED): "Stopped"}.get(code, "Failed"),
        reason="Completed" if code == 0 else "InternalError",
        requests_total=REQUESTS,
        answered_before=before if command in ("prepare", "all") else None,
        answers_digest="a" * 64,
        computed=computed,
        **results,
    )
    return message.encode().decode()


def _step(method: str, *arguments: Any) -> Callable[[Cluster], None]:
    return lambda cluster: getattr(cluster, method)(*arguments)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_copy(entry) for entry in value]
    return value
