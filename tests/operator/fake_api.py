"""An API server of a few lines, for tests of what is done with its answers.

It keeps the promises that matter: one resourceVersion that grows, conflicts, uid preconditions.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

from evalrun_operator.api_errors import AlreadyExists, ApiError, Conflict, NotFound
from evalrun_operator.resources import Resource

Doc = dict[str, Any]


class FakeApi:
    """Objects by plural, namespace and name.

    fail_before, fail_after: errors of the next requests by verb and plural; with the latter the
    request is carried out, and only its answer is lost.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Doc] = {}
        self.version = 100
        self.requests: list[tuple[str, str, str]] = []
        self.fail_before: dict[tuple[str, str], list[ApiError]] = {}
        self.fail_after: dict[tuple[str, str], list[ApiError]] = {}
        self.patches: list[Doc] = []

    def add(self, plural: str, document: Doc) -> Doc:
        """Put an object there, as somebody else would."""
        metadata = document["metadata"]
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        metadata.setdefault("uid", f"uid-{self.version}")
        self.objects[(plural, metadata["namespace"], metadata["name"])] = document
        return copy.deepcopy(document)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        self.version += 1
        del self.objects[(plural, namespace, name)]

    def writes(self) -> list[str]:
        """What was written, as `verb plural name`, the Lease apart."""
        return [
            " ".join(request)
            for request in self.requests
            if request[0] not in ("get", "list") and request[1] != "leases"
        ]

    def _begin(self, verb: str, plural: str, name: str) -> None:
        self.requests.append((verb, plural, name))
        if errors := self.fail_before.get((verb, plural)):
            raise errors.pop(0)

    def _end(self, verb: str, plural: str) -> None:
        if errors := self.fail_after.get((verb, plural)):
            raise errors.pop(0)

    def _find(self, plural: str, namespace: str, name: str) -> Doc:
        if (plural, namespace, name) not in self.objects:
            raise NotFound("get", 404)
        return self.objects[(plural, namespace, name)]

    async def pages(
        self, resource: Resource, namespace: str = ""
    ) -> AsyncIterator[tuple[list[Doc], int]]:
        self._begin("list", resource.plural, "")
        found = [
            copy.deepcopy(document)
            for (plural, where, _), document in self.objects.items()
            if plural == resource.plural and namespace in ("", where)
        ]
        yield found[:1], self.version
        yield found[1:], self.version

    async def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        self._begin("get", resource.plural, name)
        return copy.deepcopy(self._find(resource.plural, namespace, name))

    async def create(self, resource: Resource, namespace: str, document: Doc) -> Doc:
        name = document["metadata"]["name"]
        self._begin("create", resource.plural, name)
        if (resource.plural, namespace, name) in self.objects:
            raise AlreadyExists("create", 409)
        added = copy.deepcopy(document)
        added["metadata"]["namespace"] = namespace
        created = self.add(resource.plural, added)
        self._end("create", resource.plural)
        return created

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, version: str
    ) -> Doc:
        self._begin("delete", resource.plural, name)
        found = self._find(resource.plural, namespace, name)
        if found["metadata"]["uid"] != uid or found["metadata"]["resourceVersion"] != version:
            raise Conflict("delete", 409)
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        found["kind"] = "Job"
        self._end("delete", resource.plural)
        return self.add(resource.plural, found)

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, version: str, patch: Doc
    ) -> Doc:
        self._begin("patch", resource.plural, name)
        found = self._find(resource.plural, namespace, name)
        if found["metadata"]["resourceVersion"] != version:
            raise Conflict("patch", 409)
        self.patches.append(patch)
        found["status"] = merged(found.get("status") or {}, patch)
        patched = self.add(resource.plural, found)
        self._end("patch", resource.plural)
        return patched

    async def patch_pod_status(
        self, namespace: str, name: str, uid: str, version: str, patch: Doc
    ) -> Doc:
        return await self.patch_status(Resource("/api/v1", "pods"), namespace, name, version, patch)

    async def remove_pod(self, namespace: str, name: str, uid: str, version: str) -> None:
        self._begin("delete", "pods", name)
        found = self._find("pods", namespace, name)["metadata"]
        if (found["uid"], found["resourceVersion"]) != (uid, version):
            raise Conflict("delete", 409)
        self.remove("pods", namespace, name)
        self._end("delete", "pods")

    async def follow(
        self, resource: Resource, namespace: str, name: str, version: str
    ) -> AsyncIterator[Doc]:
        self._begin("watch", resource.plural, name)
        while True:
            found = self._find(resource.plural, namespace, name)
            if found["metadata"]["resourceVersion"] != version:
                version = found["metadata"]["resourceVersion"]
                yield copy.deepcopy(found)
            await asyncio.sleep(0.001)

    async def write_lease(
        self, namespace: str, document: Doc, *, create: bool, timeout: float
    ) -> Doc:
        name = document["metadata"]["name"]
        self._begin("create" if create else "update", "leases", name)
        known = self.objects.get(("leases", namespace, name))
        if create and known is not None:
            raise AlreadyExists("create", 409)
        if not create:
            if known is None:
                raise NotFound("update", 404)
            if known["metadata"]["resourceVersion"] != document["metadata"]["resourceVersion"]:
                raise Conflict("update", 409)
        written = self.add("leases", copy.deepcopy(document))
        self._end("create" if create else "update", "leases")
        return written


def merged(document: Doc, patch: Doc) -> Doc:
    """A document after an RFC 7396 patch; what is unchanged is shared."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
