"""Which replica leads: the one that holds the Lease.

As client-go's leader election, with two differences. A replica stops by a clock that cannot be set
and well before another may take over; and what it must not do any more is asked before each write
(`Leadership.fence`) rather than assumed. Clocks of machines are never compared: a replica takes
over once it has itself seen the Lease unrenewed for its duration.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from evalrun_operator.api_errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    LeadershipLost,
    NotFound,
)
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import Doc
from evalrun_operator.resources import LEASES

log = logging.getLogger(__name__)

RENEW_FRACTION = 0.4
DEADLINE_FRACTION = 2 / 3
"""Of the Lease's duration, since the last successful renewal began: from then on no write."""
LOOK_SECONDS = 1.0
"""At least between two looks of a replica that waits, if it has not seen the Lease given back."""


def steady_clock() -> float:
    """Seconds that only grow, also while the machine is suspended."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass
class Leadership:
    """Until when this replica leads, by its own clock."""

    clock: Callable[[], float]
    deadline: float = float("-inf")

    @property
    def held(self) -> bool:
        """Whether this replica leads now."""
        return self.clock() < self.deadline

    def fence(self) -> None:
        """Raises `LeadershipLost` unless this replica leads now."""
        if not self.held:
            raise LeadershipLost("the Lease was not renewed in time; another replica may lead")


class Elector:
    """Takes the Lease, keeps it, gives it back.

    identity: of this process, unlike any other's. place: how identities of all processes begin of
    which only one can run at a time, as the containers that follow each other in a pod; "" if there
    is no such thing. duration: seconds. now: wall clock, which is written into the Lease for people
    to read.
    """

    def __init__(
        self,
        cluster: Cluster,
        leadership: Leadership,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration: int,
        now: Callable[[], datetime],
        place: str = "",
    ) -> None:
        self._cluster = cluster
        self._leadership = leadership
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._place = place
        self._duration = duration
        self._now = now
        self._lease: Doc | None = None
        self._seen: tuple[object, ...] = ()
        self._seen_at = float("-inf")
        self._watch_trouble = ""
        self.trouble = ""
        """Why this replica could never take over: the last look at the Lease failed so."""

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last read; empty for nobody."""
        return str(((self._lease or {}).get("spec") or {}).get("holderIdentity") or "")

    async def acquire(self, beat: Callable[[], None]) -> None:
        """Wait until this replica leads. `beat` is called at each look."""
        said = None
        while True:
            beat()
            try:
                leads = await self._try()
                self.trouble = ""
                if leads:
                    log.info("leading as %s", self._identity)
                    return
            except ApiError as error:
                self.trouble = str(error)
                log.warning("the Lease %s cannot be read or written: %s", self._name, error)
            if self.holder != said:
                said = self.holder
                log.info("waiting: %s leads", said or "nobody")
            await self._wait(beat)

    async def _wait(self, beat: Callable[[], None]) -> None:
        """Until the Lease may be free: it is given back, or its time is over.

        Its renewals are watched, so that waiting costs next to no requests.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        was_free = self._is_free()  # and could not be taken: then it is no news
        try:
            async with asyncio.timeout(self._seconds_left()) as patience:
                version = (self._lease or {"metadata": {}})["metadata"].get("resourceVersion", "")
                renewals = self._cluster.follow(LEASES, self._namespace, self._name, version)
                async with contextlib.aclosing(renewals):
                    async for self._lease in renewals:
                        beat()
                        self._look()
                        if self._is_free():
                            break
                        patience.reschedule(loop.time() + self._seconds_left())
        except TimeoutError:
            pass
        except ApiError as error:
            if str(error) != self._watch_trouble:
                log.warning("the Lease %s cannot be watched: %s", self._name, error)
            self._watch_trouble = str(error)
        if was_free or not self._is_free():
            await asyncio.sleep(began + LOOK_SECONDS - loop.time())

    def _seconds_left(self) -> float:
        """Until the time of the Lease is over, if nothing more is seen of it."""
        return max(self._seen_at + self._lasts() - self._leadership.clock(), 0.0) + 0.01

    async def keep(self, beat: Callable[[], None]) -> None:
        """Renew the Lease for as long as that works. Returns when leadership is lost."""
        while self._leadership.held:
            began = self._leadership.clock()
            try:
                await self._renew()
            except ApiError as error:
                log.warning("the Lease %s was not renewed: %s", self._name, error)
                if self._leadership.held and self.holder != self._identity:
                    log.error("the Lease %s was taken by %s", self._name, self.holder or "nobody")
                    self._leadership.deadline = float("-inf")
                    return
                await asyncio.sleep(min(1.0, self._duration / 15))
                continue
            beat()
            spent = self._leadership.clock() - began
            await asyncio.sleep(max(self._duration * RENEW_FRACTION - spent, 0.0))

    async def release(self) -> None:
        """Give the Lease back, so that a successor starts at once."""
        if self._lease is None or self.holder != self._identity:
            return
        self._leadership.deadline = float("-inf")
        try:
            try:
                await self._write(holder=None)
            except Conflict:
                # A renewal was ended while it was on its way, and came through.
                self._lease = await self._cluster.get(LEASES, self._namespace, self._name)
                if self.holder != self._identity:
                    return
                await self._write(holder=None)
        except ApiError as error:
            log.warning("the Lease %s was not released: %s", self._name, error)
        else:
            log.info("the Lease %s is released", self._name)

    async def _try(self) -> bool:
        """Look at the Lease, and take it if nobody holds it."""
        try:
            self._lease = await self._cluster.get(LEASES, self._namespace, self._name)
        except NotFound:
            self._lease = None
        else:
            self._look()
            if not self._is_free():
                return False
        began = self._leadership.clock()
        try:
            await self._write(holder=self._identity)
        except (AlreadyExists, Conflict):
            return False
        self._extend(began)
        return True

    def _is_free(self) -> bool:
        if self.holder in ("", self._identity) or self._has_run_out():
            return True
        # The process that ran here before this one was killed: it holds nothing any more.
        return bool(self._place) and self.holder.startswith(self._place)

    def _look(self) -> None:
        """Note when the Lease was last seen to change, by this replica's own clock."""
        lease = self._lease or {}
        spec = lease.get("spec") or {}
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._leadership.clock()

    def _has_run_out(self) -> bool:
        return self._leadership.clock() > self._seen_at + self._lasts()

    def _lasts(self) -> float:
        spec = (self._lease or {}).get("spec") or {}
        # The holder's own duration counts: it may be configured otherwise than this replica.
        return float(spec.get("leaseDurationSeconds") or self._duration)

    async def _renew(self) -> None:
        began = self._leadership.clock()
        try:
            await self._write(holder=self._identity)
        except (Conflict, NotFound):
            # Perhaps an earlier renewal succeeded and its answer was lost.
            try:
                self._lease = await self._cluster.get(LEASES, self._namespace, self._name)
            except NotFound:
                self._lease = None
            if self.holder != self._identity:
                raise
            began = self._leadership.clock()
            await self._write(holder=self._identity)
        self._extend(began)

    def _extend(self, began: float) -> None:
        self._leadership.deadline = began + self._duration * DEADLINE_FRACTION

    async def _write(self, holder: str | None) -> None:
        time = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = self._lease
        before = (old or {}).get("spec") or {}
        changes = holder != before.get("holderIdentity")
        spec: Doc = {
            # A released Lease may be taken at once, whoever looks at it.
            "leaseDurationSeconds": self._duration if holder else 1,
            "renewTime": time,
            "acquireTime": time if changes else before.get("acquireTime", time),
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + bool(holder and changes),
        }
        if holder:
            spec["holderIdentity"] = holder
        document: Doc = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            # Whoever labelled or owns the Lease keeps it so, and a replaced object keeps nothing.
            "metadata": {
                **((old or {}).get("metadata") or {}),
                "name": self._name,
                "namespace": self._namespace,
            },
            "spec": spec,
        }
        document["metadata"].pop("managedFields", None)
        self._lease = await self._cluster.write_lease(
            self._namespace, document, create=old is None, timeout=max(self._duration / 10, 1.0)
        )
