"""One run as it is judged now: what was observed, read once for all that decide about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from evalrun_api.operator_config import OperatorConfig
from evalrun_api.reasons import Reason
from evalrun_api.spec import EvaluationRun
from evalrun_api.status import Phase
from evalrun_api.termination import TerminationMessage
from evalrun_operator import usage
from evalrun_operator.attempts import Attempt, attempt_of, parse_time
from evalrun_operator.decisions import Doc, Ledger, Observed
from evalrun_operator.outcomes import is_deleting, is_finished, is_suspended
from evalrun_operator.owners import controller_uid
from evalrun_operator.progress import requests_total
from evalrun_operator.steps import StepKind, job_name
from evalrun_operator.text import tidy


@dataclass(frozen=True)
class Case:
    """A run, what is known of it, and the time."""

    observed: Observed
    run: EvaluationRun
    now: datetime
    config: OperatorConfig

    @property
    def document(self) -> Doc:
        """The run as the API server has it."""
        return self.observed.run

    @property
    def uid(self) -> str:
        """The run's uid."""
        return str(self.document["metadata"]["uid"])

    @property
    def status(self) -> Doc:
        """The status as it was last written."""
        return self.document.get("status") or {}

    @property
    def phase(self) -> Phase | None:
        """The phase as it was last written."""
        phase: Phase | None = self.status.get("phase")
        return phase

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Every pod that is there."""
        return [attempt_of(pod, self.uid) for pod in self.observed.pods]

    @cached_property
    def gone(self) -> Ledger:
        """What pods contributed that are gone: recorded, or not yet."""
        return usage.recorded(self.status).plus(self.observed.gone)

    @cached_property
    def ledger(self) -> Ledger:
        """What all pods contributed."""
        return usage.total(self.attempts, self.gone, self.now)

    @cached_property
    def requests_total(self) -> int:
        """Requests of the run; 0 before that is known."""
        known = (self.status.get("progress") or {}).get("requestsTotal") or 0
        return max(requests_total(self.attempts, self.observed.progress), known)

    def job(self, kind: StepKind) -> Doc | None:
        """The Job of a step, if there is one."""
        return self.observed.jobs.get(job_name(self.run.metadata.name, kind))

    def attempts_of(self, job: Doc) -> list[Attempt]:
        """The pods of a Job."""
        uid = job["metadata"]["uid"]
        return [
            attempt
            for attempt, pod in zip(self.attempts, self.observed.pods, strict=True)
            if controller_uid(pod, "Job") == uid
        ]

    def pods_of(self, job: Doc) -> list[Doc]:
        """The documents of a Job's pods."""
        uid = job["metadata"]["uid"]
        return [pod for pod in self.observed.pods if controller_uid(pod, "Job") == uid]

    def counted_until(self, job: Doc) -> datetime | None:
        """Up to when a Job's time is counted already: a suspension was to end it."""
        counted = self.status.get("countedJob") or {}
        return (
            parse_time(counted.get("until"))
            if counted.get("uid") == job["metadata"]["uid"]
            else None
        )

    def active_jobs(self) -> list[Doc]:
        """Jobs that may have pods at work and are not being deleted."""
        return [
            job
            for job in self.observed.jobs.values()
            if not is_finished(job) and not is_deleting(job)
        ]

    def messages(self) -> list[TerminationMessage]:
        """What the attempts left that are there, the oldest first."""
        attempts = sorted(self.attempts, key=lambda attempt: attempt.created_at)
        return [attempt.message for attempt in attempts if attempt.message is not None]

    def known(self, fields: Doc, name: str, otherwise: Any) -> Any:
        """A field of the status as it will be: decided just now (in `fields`), or as it was."""
        return fields.get(name) or self.status.get(name) or otherwise

    @property
    def is_resumed(self) -> bool:
        """Whether a person has just resumed the run: the next status will say so."""
        return self.status.get("phase") == "Suspended" and not self.run.spec.suspend

    @property
    def resumes(self) -> int:
        """How often the run was resumed, this time included."""
        return int(self.status.get("resumes") or 0) + self.is_resumed

    @property
    def is_stopped_by_a_queue(self) -> bool:
        """Whether a Job that its queue had admitted is suspended again."""
        queue, job = self._queued_job()
        stands = job is not None and is_suspended(job) and not is_finished(job)
        return stands and queue.get("state") in ("Admitted", "Evicted")

    @property
    def is_started_anew_by_a_queue(self) -> bool:
        """Whether a queue stopped and started a Job while nobody looked."""
        queue, job = self._queued_job()
        if job is None or is_suspended(job) or queue.get("state") != "Admitted":
            return False
        started = parse_time((job.get("status") or {}).get("startTime"))
        return started is not None and started != parse_time(queue.get("since"))

    def _queued_job(self) -> tuple[Doc, Doc | None]:
        """What the status says of a queue, and the Job that it speaks of, if that is there."""
        queue = self.status.get("queue") or {}
        jobs = self.observed.jobs.values()
        return queue, next((j for j in jobs if j["metadata"]["uid"] == queue.get("job")), None)

    @property
    def forgiven(self) -> int:
        """Disruptions up to the last resume, which grants as many again; also that of a queue.

        The suspension itself ends pods, which may be seen only after the resume, so those that are
        there then are counted with them: as they are seen, or as their Jobs tell of them.
        """
        recorded = int((self.status.get("gonePods") or {}).get("forgiven") or 0)
        if self.is_started_anew_by_a_queue:
            return max(self.ledger.disruptions, recorded)  # its pods had to end before that
        if not (self.is_resumed or self.is_stopped_by_a_queue):
            return recorded
        seen = sum(attempt.state in ("Waiting", "Running") for attempt in self.attempts)
        going = (job for job in self.observed.jobs.values() if not is_finished(job))
        told = sum(int((job.get("status") or {}).get("active") or 0) for job in going)
        return max(self.ledger.disruptions + max(seen, told), recorded)

    @property
    def last_disruption(self) -> str:
        """What is said of the pod that was disrupted last; empty where none is left."""
        ended = [a for a in self.attempts if a.disrupted and a.ended_at is not None]
        last = max(ended, key=lambda a: a.ended_at or self.now, default=None)
        return tidy(f"pod {last.name}: {last.disruption}", 300) if last else ""

    def is_stalled(self, reason: Reason) -> bool:
        """Whether the status says that this stalls the run."""
        return self._stalled(reason) is not None

    def stalled_seconds(self, reason: Reason) -> float:
        """For how long it has said so; 0 if it does not. The status is the only memory."""
        condition = self._stalled(reason) or {}
        since = parse_time(condition.get("lastTransitionTime"))
        return (self.now - since).total_seconds() if since else 0.0

    def _stalled(self, reason: Reason) -> Doc | None:
        for condition in self.status.get("conditions") or ():
            if condition.get("type") == "Stalled" and condition.get("status") == "True":
                return condition if condition.get("reason") == reason.name else None
        return None
