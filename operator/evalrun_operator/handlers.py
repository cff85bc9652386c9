"""Watches of the three kinds. Nothing else imports kopf, and of it only `on.event` is used.

Any other kind of handler would have kopf keep its state on the objects: a PATCH for each, or a
finalizer, which blocks deleting while the operator is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from evalrun_api.names import GROUP, RUN_LABEL, VERSION
from evalrun_operator.decisions import Doc
from evalrun_operator.strip import Kind
from evalrun_operator.transport import Connection

SERVER_SECONDS = 1740
"""After which the API server ends a watch, which then goes on where it was."""
TOKEN_LIFE = timedelta(minutes=10)
"""Service account tokens are replaced long before they end; kopf reads them anew so often."""

OnEvent = Callable[[Kind, str | None, Doc], None]
"""Told of kind, type (None: found by listing) and object of each event."""


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps no last-seen state: nothing is compared, so not even a copy is made of an object."""

    def build(self, **_: Any) -> Any:
        return None

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Keeps no state of handlers on the objects."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence


class _NoMemories(ResourceMemories):
    """Remembers no object: kopf's own memory of one whose end was missed would stay for ever."""

    async def recall(self, *_: Any, **__: Any) -> ResourceMemory:
        return ResourceMemory()


async def watch(
    on_event: OnEvent,
    login: Callable[[], Awaitable[Connection]],
    namespaces: Collection[str],
    started: Callable[[], None],
) -> None:
    """Watch until cancelled. Raises what kopf could not cope with.

    namespaces: that are watched; all when empty. started: called once the watches are set up; kopf
    has taken over the process' signals by then.
    """
    tasks = await kopf.spawn_tasks(
        registry=_registry(on_event, login),
        settings=_settings(),
        memories=_NoMemories(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
    )
    started()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    raise RuntimeError("the watches ended without being asked to")


def _registry(
    on_event: OnEvent, login: Callable[[], Awaitable[Connection]]
) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        found = await login()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            insecure=found.insecure,
            token=found.token,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            proxy_url=found.proxy,
            expiration=datetime.now(UTC) + TOKEN_LIFE if found.token else None,
        )

    @kopf.on.event(GROUP, VERSION, "evaluationruns", registry=registry)
    async def run_changed(event: Any, **_: Any) -> None:
        on_event("EvaluationRun", event["type"], event["object"])

    @kopf.on.event("batch", "v1", "jobs", registry=registry)
    async def job_changed(event: Any, **_: Any) -> None:
        on_event("Job", event["type"], event["object"])

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_changed(event: Any, **_: Any) -> None:
        on_event("Pod", event["type"], event["object"])

    return registry


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    # Kopf patches what it watches and carries its finalizer, to remove it. Nobody can know this
    # one; the usual one may be there for another operator, or be put there on purpose.
    settings.persistence.finalizer = f"{GROUP}/{uuid.uuid4().hex}"
    # Ending the process is our own affair.
    settings.process.ultimate_exiting_timeout = None
    settings.watching.server_timeout = SERVER_SECONDS
    settings.watching.client_timeout = SERVER_SECONDS + 60
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 200
    settings.watching.label_selectors["batch", "v1", "jobs"] = RUN_LABEL
    settings.watching.label_selectors["", "v1", "pods"] = RUN_LABEL
    # An object's worker waits so long for the next event. The queue's order is ours to keep.
    settings.queueing.idle_timeout = 0.5
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    # Kopf's own ones grow to 21 s, which is too long to be blind after an outage.
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, *[3] * 20)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return settings
