"""Whose Jobs and pods are: by the uid of their controller, and within one namespace.

An owner is of the namespace of what it owns, or garbage collection would not have it; so an object
of another namespace that names a run's uid is a stranger, whatever it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple


class Ref(NamedTuple):
    """An object, as another one of its namespace may name it."""

    namespace: str
    uid: str


NOBODY = Ref("", "")


class Kinship:
    """Which Jobs a run owns, and which pods a Job owns, in whatever order they are seen."""

    def __init__(self) -> None:
        self._jobs_of: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._pods_of: defaultdict[Ref, set[Ref]] = defaultdict(set)
        self._run_of: dict[Ref, Ref] = {}
        self._job_of: dict[Ref, Ref] = {}

    def runs(self) -> list[Ref]:
        """Runs that own a Job, or did while it was there; not all of them need exist."""
        return list(self._jobs_of)

    def jobs_of(self, run: Ref) -> Iterator[Ref]:
        """The Jobs of a run, also those that are gone and have pods left."""
        return iter(tuple(self._jobs_of.get(run, ())))

    def pods_of(self, job: Ref) -> Iterator[Ref]:
        """The pods of a Job."""
        return iter(tuple(self._pods_of.get(job, ())))

    def run_of_job(self, job: Ref) -> Ref:
        """The run that owns a Job; `NOBODY` if none does."""
        return self._run_of.get(job, NOBODY)

    def run_of_pod(self, pod: Ref) -> Ref:
        """The run that owns a pod's Job; `NOBODY` if none does."""
        return self.run_of_job(self._job_of.get(pod, NOBODY))

    def adopt_job(self, job: Ref, run_uid: str | None) -> None:
        """A Job has this controller, or none."""
        run = Ref(job.namespace, run_uid) if run_uid else NOBODY
        if run != self.run_of_job(job):
            self._forget_job(job)
        if run_uid:
            self._run_of[job] = run
            self._jobs_of[run].add(job)

    def adopt_pod(self, pod: Ref, job_uid: str | None, job_is_held: bool) -> None:
        """A pod has this controller, or none. job_is_held: of the Job that it had before."""
        job = Ref(pod.namespace, job_uid) if job_uid else NOBODY
        if job != self._job_of.get(pod, NOBODY):
            self.remove_pod(pod, job_is_held)
        if job_uid:
            self._job_of[pod] = job
            self._pods_of[job].add(pod)

    def job_of_pod(self, pod: Ref) -> Ref:
        """The Job that owns a pod, whether or not it is there."""
        return self._job_of.get(pod, NOBODY)

    def remove_job(self, job: Ref) -> None:
        """A Job is gone. Its pods may outlive it: whose they were is known until the last goes."""
        if not self._pods_of.get(job):
            self._forget_job(job)

    def remove_pod(self, pod: Ref, job_is_held: bool) -> None:
        """A pod is gone. job_is_held: whether its Job is still there."""
        job = self._job_of.pop(pod, NOBODY)
        pods = self._pods_of.get(job, set())
        pods.discard(pod)
        if not pods:
            self._pods_of.pop(job, None)
            if not job_is_held:
                self._forget_job(job)

    def _forget_job(self, job: Ref) -> None:
        run = self._run_of.pop(job, NOBODY)
        jobs = self._jobs_of.get(run, set())
        jobs.discard(job)
        if not jobs:
            self._jobs_of.pop(run, None)
