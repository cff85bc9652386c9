"""Which Jobs wait in a queue now, and what was last heard of why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from evalrun_operator.decisions import Doc, RunKey, Word
from evalrun_operator.job_queues import queue_label
from evalrun_operator.outcomes import is_deleting, is_finished, is_suspended


class WaitingJob(NamedTuple):
    """A Job that waits: its namespace, and the run to look at when something is heard of it."""

    namespace: str
    run: RunKey


class WaitingJobs:
    """Memory of the Jobs of runs that wait in a queue, by uid."""

    def __init__(self) -> None:
        self._jobs: dict[str, WaitingJob] = {}
        self._words: dict[str, Word] = {}

    def all(self) -> Mapping[str, WaitingJob]:
        """Those that wait."""
        return self._jobs

    def words(self, uids: Collection[str]) -> dict[str, Word]:
        """What was last heard of some."""
        return {uid: self._words[uid] for uid in uids if uid in self._words}

    def see(self, run: RunKey, job: Doc) -> None:
        """A version of a run's Job. What was heard of an earlier wait is none about the next."""
        metadata = job["metadata"]
        over = is_finished(job) or is_deleting(job)
        if is_suspended(job) and queue_label(job) is not None and not over:
            self._jobs[metadata["uid"]] = WaitingJob(metadata["namespace"], run)
        else:
            self.forget(metadata["uid"])

    def forget(self, uid: str) -> None:
        """The Job is gone, or waits no more."""
        self._jobs.pop(uid, None)
        self._words.pop(uid, None)

    def hear(self, uid: str, word: Word | None) -> RunKey | None:
        """Remember a word about a Job. Returns its run if that is news."""
        job = self._jobs.get(uid)
        if job is None or word is None or self._words.get(uid) == word:
            return None
        self._words[uid] = word
        return job.run
