"""The API server, as plain documents: what the operator asks of it, and on what terms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Final

from evalrun_api.names import FIELD_MANAGER
from evalrun_operator.api_errors import Unavailable
from evalrun_operator.decisions import Doc
from evalrun_operator.resources import LEASES, PODS, Resource
from evalrun_operator.transport import TIMEOUT, Request, Transport, document_of

LIST_TIMEOUT: Final = 60.0
PAGE_PAUSES = (0.2, 0.5, 1.0)
"""Seconds before a page that failed is asked for again."""
LONGEST_PAGE_PAUSE: Final = 5.0
PAGE_BYTES: Final = 2 * 1024 * 1024
"""About what a page of a list should hold: parsing it takes ten times as much memory, and some 30
milliseconds in which nothing else happens."""
FIRST_PAGE, SMALLEST_PAGE, LARGEST_PAGE = 250, 10, 5000
FOLLOW_SECONDS: Final = 1740
"""After which the API server ends a watch of one object."""
MANAGED: Final = {
    "fieldManager": FIELD_MANAGER,
    # What we send is built from the contract's own documents: having each object read twice, to
    # be warned of fields that the server does not know, costs it a tenth of the write.
    "fieldValidation": "Ignore",
}

_Write = partial(Request, fenced=True)


class Cluster:
    """Objects of the API server, as plain documents.

    All writes but those of the Lease raise `LeadershipLost` when another replica may lead.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def pages(
        self, resource: Resource, namespace: str = ""
    ) -> AsyncIterator[tuple[list[Doc], int]]:
        """A list, page by page, each with the version of the whole list.

        Pages hold about `PAGE_BYTES`. Raises `ApiError`, also when the list expired half-way.
        """
        query = {"labelSelector": resource.selector} if resource.selector else {}

        def ask(limit: int, token: str) -> asyncio.Task[bytes]:
            asked = {**query, "limit": str(limit), "continue": token}
            return asyncio.create_task(self._page(resource, namespace, asked))

        page_limit = FIRST_PAGE
        coming: asyncio.Task[bytes] | None = ask(page_limit, "")
        try:
            while coming is not None:
                raw = await coming
                page = document_of(raw)
                items: list[Doc] = page["items"]
                metadata = page["metadata"]
                fitting = len(items) * PAGE_BYTES // max(len(raw), 1)
                page_limit = max(min(fitting, LARGEST_PAGE), SMALLEST_PAGE)
                token = metadata.get("continue") or ""
                # The server makes the next page while this one is taken in.
                coming = ask(page_limit, token) if token else None
                yield items, int(metadata["resourceVersion"])
        finally:
            if coming is not None:
                coming.cancel()

    async def _page(self, resource: Resource, namespace: str, query: dict[str, str]) -> bytes:
        """One page. One that fails is asked for again, or all before it would be read anew."""
        for pause in PAGE_PAUSES:
            try:
                return await self._list(resource, namespace, query)
            except Unavailable as error:
                await asyncio.sleep(max(pause, min(error.retry_after or 0.0, LONGEST_PAGE_PAUSE)))
        return await self._list(resource, namespace, query)

    async def _list(self, resource: Resource, namespace: str, query: dict[str, str]) -> bytes:
        request = Request("list", "GET", resource, namespace, query=query, timeout=LIST_TIMEOUT)
        return await self.transport.send(request)

    async def _answer(self, request: Request) -> Doc:
        return document_of(await self.transport.send(request))

    async def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        """An object. Raises `NotFound`."""
        return await self._answer(Request("get", "GET", resource, namespace, name))

    async def create(self, resource: Resource, namespace: str, document: Doc) -> Doc:
        """Create an object. Raises `AlreadyExists`, `Forbidden`, `Invalid`."""
        request = _Write("create", "POST", resource, namespace, query=MANAGED, body=document)
        return await self._answer(request)

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, version: str
    ) -> Doc:
        """Delete an object and, first, what it owns, if it is still exactly this one.

        Raises `NotFound`, `Conflict`.
        """
        options = _delete_options(uid, version, propagationPolicy="Foreground")
        return await self._answer(
            _Write("delete", "DELETE", resource, namespace, name, body=options)
        )

    async def remove_pod(self, namespace: str, name: str, uid: str, version: str) -> None:
        """Remove a pod at once, without its kubelet's word, if it is still exactly this one.

        Raises `NotFound`, `Conflict`.
        """
        options = _delete_options(uid, version, gracePeriodSeconds=0)
        request = _Write("delete", "DELETE", PODS, namespace, name, body=options)
        await self.transport.send(request)

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, version: str, patch: Doc
    ) -> Doc:
        """Merge a patch into the status of this version of an object. Raises `Conflict`."""
        body = {"metadata": {"resourceVersion": version}, "status": patch}
        return await self._patch_status(resource, namespace, name, body)

    async def patch_pod_status(
        self, namespace: str, name: str, uid: str, version: str, patch: Doc
    ) -> Doc:
        """The same of exactly this pod."""
        body = {"metadata": {"uid": uid, "resourceVersion": version}, "status": patch}
        return await self._patch_status(PODS, namespace, name, body)

    async def _patch_status(self, resource: Resource, namespace: str, name: str, body: Doc) -> Doc:
        request = _Write(
            "patch",
            "PATCH",
            resource,
            namespace,
            f"{name}/status",
            query=MANAGED,
            body=body,
            content_type="application/merge-patch+json",
        )
        return await self._answer(request)

    async def follow(
        self, resource: Resource, namespace: str, name: str, version: str
    ) -> AsyncGenerator[Doc, None]:
        """What becomes of one object after a version, until the API server ends it or it is gone.

        Raises `ApiError`.
        """
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(FOLLOW_SECONDS),
        }
        timeout = FOLLOW_SECONDS + TIMEOUT
        request = Request("watch", "GET", resource, namespace, query=query, timeout=timeout)
        async with aclosing(self.transport.lines(request)) as lines:
            async for line in lines:
                event = document_of(line)
                if event.get("type") not in ("ADDED", "MODIFIED"):
                    return
                yield event["object"]

    async def write_lease(
        self, namespace: str, document: Doc, *, create: bool, timeout: float
    ) -> Doc:
        """Create or replace a Lease. It is what the fence rests on, so the fence isn't asked."""
        verb, method = ("create", "POST") if create else ("update", "PUT")
        name = "" if create else document["metadata"]["name"]
        patience = 0.0  # a late renewal is worse than one that failed
        return await self._answer(
            Request(
                verb,
                method,
                LEASES,
                namespace,
                name,
                body=document,
                timeout=timeout,
                patience=patience,
            )
        )


def _delete_options(uid: str, version: str, **how: object) -> Doc:
    """To delete nothing but this version of this object."""
    return {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": uid, "resourceVersion": version},
        **how,
    }
