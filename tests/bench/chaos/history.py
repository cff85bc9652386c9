"""What a watch at the API server itself saw of runs and Jobs, in the order of their versions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from bench.api_client import WatchEvent
from evalrun_api.names import EXECUTION_ANNOTATION, STEP_LABEL

Doc = dict[str, Any]


@dataclass(frozen=True)
class RunVersion:
    """A run as it was from this version on. gone: it was deleted with it."""

    version: int
    suspend: bool
    status: Doc
    gone: bool = False

    @property
    def ended(self) -> bool:
        """Whether it has its outcome."""
        return "completionTime" in self.status


@dataclass(frozen=True)
class JobVersion:
    """A Job as it was from this version on. condition: Complete or Failed, where it has ended."""

    version: int
    condition: str = ""
    deleting: bool = False
    gone: bool = False


@dataclass
class RunRecord:
    """A run, from its creation on. jobs: that it owned, by uid."""

    namespace: str
    name: str
    uid: str
    versions: list[RunVersion] = field(default_factory=list)
    jobs: dict[str, JobRecord] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} ({self.uid[:8]})"

    @property
    def last(self) -> RunVersion | None:
        """As it is now, or was last."""
        return self.versions[-1] if self.versions else None


@dataclass
class JobRecord:
    """A Job, from its creation on. step: the label. execution: digest of the run's execution fields
    that it was made from. by_hand: somebody deleted it.
    """

    name: str
    uid: str
    step: str
    execution: str = ""
    versions: list[JobVersion] = field(default_factory=list)
    by_hand: bool = False

    @property
    def created(self) -> int:
        """Version with which it was created."""
        return self.versions[0].version

    @property
    def over(self) -> int | None:
        """Version from which on it starts no pod any more; None while it may."""
        return next((v.version for v in self.versions if v.condition or v.gone), None)

    @property
    def completed(self) -> bool:
        """Whether it ended well."""
        return any(version.condition == "Complete" for version in self.versions)


@dataclass
class History:
    """All of it. by_uid: of runs. gaps: how often the watch had to begin anew and may have missed
    something, so that nothing can be said for sure.
    """

    by_uid: dict[str, RunRecord] = field(default_factory=dict)
    gaps: int = 0
    _jobs: dict[str, JobRecord] = field(default_factory=dict)
    _waiting: defaultdict[str, dict[str, JobRecord]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def run(self, event: WatchEvent) -> RunRecord:
        """A run changed."""
        document, metadata = event.object, event.object["metadata"]
        uid = metadata["uid"]
        if uid not in self.by_uid:
            jobs = self._waiting.pop(uid, {})
            record = RunRecord(metadata["namespace"], metadata["name"], uid, jobs=jobs)
            self.by_uid[uid] = record
        record = self.by_uid[uid]
        record.versions.append(
            RunVersion(
                version=int(metadata["resourceVersion"]),
                suspend=bool(document["spec"].get("suspend")),
                status=document.get("status") or {},
                gone=event.type == "DELETED",
            )
        )
        return record

    def job(self, event: WatchEvent) -> None:
        """A Job changed."""
        document, metadata = event.object, event.object["metadata"]
        uid, owner = metadata["uid"], metadata["ownerReferences"][0]["uid"]
        if uid not in self._jobs:
            found = JobRecord(
                metadata["name"],
                uid,
                metadata["labels"][STEP_LABEL],
                (metadata.get("annotations") or {}).get(EXECUTION_ANNOTATION, ""),
            )
            self._jobs[uid] = found
            run = self.by_uid.get(owner)
            (run.jobs if run is not None else self._waiting[owner])[uid] = found
        conditions = (document.get("status") or {}).get("conditions") or ()
        self._jobs[uid].versions.append(
            JobVersion(
                version=int(metadata["resourceVersion"]),
                condition=next(
                    (
                        entry["type"]
                        for entry in conditions
                        if entry["type"] in ("Complete", "Failed") and entry["status"] == "True"
                    ),
                    "",
                ),
                deleting="deletionTimestamp" in metadata,
                gone=event.type == "DELETED",
            )
        )

    def by_hand(self, job_uid: str) -> None:
        """Somebody deleted a Job."""
        if job_uid in self._jobs:
            self._jobs[job_uid].by_hand = True
