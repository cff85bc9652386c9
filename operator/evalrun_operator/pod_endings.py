"""Carries out what is decided about lost pods, with rights that not every operator has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from evalrun_operator.api_errors import Forbidden, Invalid, NotFound
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import END, Doc, FailPod, RemovePod, RunKey
from evalrun_operator.store import Store

log = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""A pod that is removed goes when its Job's controller has counted it."""
REFUSED_SECONDS = 600.0
"""After a refusal, until the next try for the same pod."""


class PodEndings:
    """Ends pods that are lost. now: wall clock in UTC."""

    def __init__(self, cluster: Cluster, store: Store, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._store = store
        self._now = now
        self._refused_until: dict[str, datetime] = {}

    async def end(
        self, key: RunKey, run: Doc, actions: Sequence[FailPod | RemovePod]
    ) -> float | None:
        """Carry them out. Seconds until the run is to be looked at again; None for no more than is.

        A refusal is told in the run's status and in the log, and is no reason to raise: the rest of
        the run goes on, and its other pods. Raises `ApiError` for anything else.
        """
        if not actions:
            return None
        now = self._now()
        self._refused_until = {uid: at for uid, at in self._refused_until.items() if at > now}
        due = [action for action in actions if action.uid not in self._refused_until]
        refused = [await self._try(key, run, action) for action in due]
        if any(refused):
            return 0.0  # for the status
        if due:
            return SETTLE_SECONDS
        again = min(self._refused_until[action.uid] for action in actions)
        return (again - now).total_seconds() + 0.1

    async def _try(self, key: RunKey, run: Doc, action: FailPod | RemovePod) -> bool:
        """Whether the API server refuses it."""
        name = f"{END}pod/{action.name}"
        try:
            await self._end(key, action)
        except NotFound:
            self._store.gone("Pod", action.uid)
        except (Forbidden, Invalid) as error:
            self._refused_until[action.uid] = self._now() + timedelta(seconds=REFUSED_SECONDS)
            log.warning("%s; again in %.0f s", error, REFUSED_SECONDS, extra=_run(key))
            self._store.put_refused(run["metadata"]["uid"], name, error.text)
            return True
        self._store.put_refused(run["metadata"]["uid"], name, None)
        return False

    async def _end(self, key: RunKey, action: FailPod | RemovePod) -> None:
        pod = (key.namespace, action.name, action.uid, action.version)
        match action:
            case FailPod():
                failed = await self._cluster.patch_pod_status(*pod, action.status)
                self._store.put("Pod", failed)
                log.info("the pod is taken for lost", extra=_pod(key, action))
            case RemovePod():
                await self._cluster.remove_pod(*pod)
                log.info("the lost pod is removed", extra=_pod(key, action))


def _run(key: RunKey) -> dict[str, str]:
    return {"run": f"{key.namespace}/{key.name}"}


def _pod(key: RunKey, action: FailPod | RemovePod) -> dict[str, str]:
    return {**_run(key), "attempt": action.uid, "pod": action.name}
