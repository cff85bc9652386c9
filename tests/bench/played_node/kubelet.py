"""Plays the kubelet for every pod that the scheduler binds to the node."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bench.api_client import ApiAnswerError, ApiClient, Doc
from bench.played_node import statuses
from bench.played_node.fates import End, Odds, draw
from bench.played_node.node import NODE
from bench.played_node.statuses import Journal, Work
from evalrun_api.names import RUN_LABEL, RUN_UID_LABEL

FIRST_ADDRESS: Final = ipaddress.IPv4Address("127.16.0.1")
ADDRESSES: Final = 2**22
"""All of loopback, where one server answers on every address."""


@dataclass
class Figures:
    """What it did. late: seconds from a pod's event until it was written that it runs."""

    seen: int = 0
    ended: Counter[End] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)


class Kubelet:
    """One for the node. works: the pods that run, by their address.

    requests: of a run, over all shards.
    """

    def __init__(self, api: ApiClient, odds: Odds, requests: int) -> None:
        self.figures = Figures()
        self.works: dict[str, Work] = {}
        self._api = api
        self._odds = odds
        self._requests = requests
        self._attempts: Counter[tuple[str, str, str]] = Counter()
        self._journals: dict[str, Journal] = {}
        self._pods: dict[str, Doc] = {}
        self._stopping: dict[str, asyncio.Event] = {}
        self._addresses = itertools.cycle(range(ADDRESSES))

    async def run(self) -> None:
        """Until cancelled."""
        query = {"fieldSelector": f"spec.nodeName={NODE}", "labelSelector": RUN_LABEL}
        async with asyncio.TaskGroup() as group:
            async for event in self._api.watch("/api/v1/pods", query):
                pod, uid = event.object, event.object["metadata"]["uid"]
                if event.type == "DELETED":
                    self._stop(uid)
                    self._pods.pop(uid, None)
                    continue
                is_new = uid not in self._pods
                self._pods[uid] = pod
                if pod["metadata"].get("deletionTimestamp"):
                    self._stop(uid)
                if _is_over(pod):
                    if _waits_for_its_kubelet(pod) and uid not in self._stopping:
                        group.create_task(self._remove(pod))
                elif is_new:
                    self.figures.seen += 1
                    self._stopping[uid] = asyncio.Event()
                    group.create_task(self._keep(pod))

    def _stop(self, uid: str) -> None:
        if uid in self._stopping:
            self._stopping[uid].set()

    async def _keep(self, pod: Doc) -> None:
        """The life of one pod."""
        uid = pod["metadata"]["uid"]
        stopping = self._stopping[uid]
        try:
            if pod["metadata"].get("deletionTimestamp"):
                await self._write(pod, statuses.never_started(pod, _now()))
                await self._remove(pod)
            else:
                await self._live(pod, stopping)
        except ApiAnswerError as error:
            self.figures.refused[error.code] += 1  # 404: it was deleted by force
        finally:
            del self._stopping[uid]

    async def _live(self, pod: Doc, stopping: asyncio.Event) -> None:
        work, end = self._begin(pod)
        clock = asyncio.get_running_loop().time
        begun = clock()
        await self._write(pod, statuses.running(work))
        self.figures.late.append(clock() - begun)
        self.works[work.address] = work
        try:
            async with asyncio.timeout(work.seconds):
                await stopping.wait()
            end = "stopped"
        except TimeoutError:
            pass
        finally:
            del self.works[work.address]
        self.figures.ended[end] += 1
        now = _now()
        work.pod = self._pods.get(pod["metadata"]["uid"], pod)  # by whom it is stopped
        await self._write(pod, statuses.ended(work, end, now))
        if work.step in ("answer", "all"):
            done = work.share if end == "succeeds" else work.done(now)
            work.journal.answered = min(work.journal.answered + done, work.journal.total)
        if end in ("stopped", "preempted") or stopping.is_set():
            await self._remove(pod)

    def _begin(self, pod: Doc) -> tuple[Work, End]:
        """Draw its fate."""
        step, shard = statuses.step_of(pod), statuses.shard_of(pod)
        metadata = pod["metadata"]
        run = metadata["labels"][RUN_UID_LABEL]
        named = f"{metadata['namespace']}/{metadata['labels'][RUN_LABEL]}/{shard}"
        attempt = self._attempts[(run, step, shard)]
        self._attempts[(run, step, shard)] += 1
        fate = draw(self._odds, step, named, attempt, metadata["annotations"])
        work = Work(
            pod=pod,
            step=step,
            shard=shard,
            plan=statuses.plan_of(pod),
            journal=self._journals.setdefault(run, Journal(self._requests)),
            address=str(FIRST_ADDRESS + next(self._addresses)),
            started_at=_now(),
            seconds=fate.seconds,
        )
        return work, fate.end

    async def _write(self, pod: Doc, status: Doc) -> None:
        await self._api.merge(f"{_path(pod)}/status", {"status": status})

    async def _remove(self, pod: Doc) -> None:
        """The last act of a kubelet: the pod may go."""
        with suppress(ApiAnswerError):  # it is gone
            await self._api.request("DELETE", _path(pod), {"gracePeriodSeconds": 0})


def _path(pod: Doc) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _is_over(pod: Doc) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _waits_for_its_kubelet(pod: Doc) -> bool:
    """Whether it was deleted just before its end was written. Afterwards it goes by itself."""
    return bool(pod["metadata"].get("deletionGracePeriodSeconds"))


def _now() -> datetime:
    return datetime.now(UTC)
