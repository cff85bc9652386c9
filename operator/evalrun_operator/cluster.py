"""The API server, as plain documents. Nothing else imports the Kubernetes client.

Its typed models cost a multiple of the request itself, so documents go in and out as dicts.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from evalrun_api import API_VERSION, __version__
from evalrun_api.names import FIELD_MANAGER, RUN_LABEL
from evalrun_operator.api_errors import ApiError, Unavailable, error_of
from evalrun_operator.decisions import Doc
from evalrun_operator.rate_limit import RateLimit


@dataclass(frozen=True)
class Resource:
    """Where objects of a kind are found. selector: of those that matter."""

    base: str
    plural: str
    selector: str = ""


RUNS: Final = Resource(f"/apis/{API_VERSION}", "evaluationruns")
BENCHMARKS: Final = Resource(f"/apis/{API_VERSION}", "benchmarks")
JOBS: Final = Resource("/apis/batch/v1", "jobs", RUN_LABEL)
PODS: Final = Resource("/api/v1", "pods", RUN_LABEL)
CONFIG_MAPS: Final = Resource("/api/v1", "configmaps")
EVENTS: Final = Resource("/api/v1", "events")
LEASES: Final = Resource("/apis/coordination.k8s.io/v1", "leases")

TIMEOUT = 20.0
"""Seconds for a request."""
LIST_TIMEOUT = 60.0
PAGE_PAUSES = (0.2, 0.5, 1.0)
"""Seconds before a page that failed is asked for again."""
LONGEST_PAGE_PAUSE = 5.0
PAGE_BYTES = 2 * 1024 * 1024
"""About what a page of a list should hold: parsing it takes ten times as much memory, and some 30
milliseconds in which nothing else happens."""
FOLLOW_SECONDS = 1740
"""After which the API server ends a watch of one object."""
FIRST_PAGE, LARGEST_PAGE = 250, 5000
PATIENCE = 10.0
"""Longest wait, in seconds, that a request takes on itself when the server asks for one."""
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Count = Callable[[str, str, str, float | None], None]


@dataclass(frozen=True)
class Connection:
    """Address and credentials of the API server, for the watching framework."""

    server: str
    ca_path: str | None
    insecure: bool
    token: str | None
    certificate_path: str | None
    private_key_path: str | None
    proxy: str | None


class Cluster:
    """Requests to the API server.

    fence: raises `LeadershipLost` when nothing may be written any more; asked before each write
    but those of the Lease. count: told verb, resource, code and seconds of each request; None for
    a watch, which lasts as long as there is something to tell.
    answered_at: monotonic time of the last answer, whatever it was. limit: of requests a
    second, where the API server has set one by its answers; those for the Lease have no part in it.
    """

    def __init__(
        self, configuration: Configuration, fence: Callable[[], None], count: Count
    ) -> None:
        # Proxies of the environment are for the outside; a kubeconfig may name one of its own.
        configuration.client_session_kwargs = {
            "trust_env": False,
            "cookie_jar": aiohttp.DummyCookieJar(),
        }
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._client.user_agent = f"{FIELD_MANAGER}/{__version__}"
        self._fence = fence
        self._count = count
        self.answered_at: float | None = None
        self.limit = RateLimit(time.monotonic)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def connection(self) -> Connection:
        """What it takes to reach the API server now; tokens change."""
        configuration = self._configuration
        bearer = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return Connection(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert or None,
            insecure=not configuration.verify_ssl,
            token=bearer.split(" ", 1)[-1].strip() if bearer else None,
            certificate_path=configuration.cert_file or None,
            private_key_path=configuration.key_file or None,
            proxy=configuration.proxy or None,
        )

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
                page = _document(raw)
                items: list[Doc] = page["items"]
                metadata = page["metadata"]
                fitting = len(items) * PAGE_BYTES // max(len(raw), 1)
                page_limit = max(min(fitting, LARGEST_PAGE), 10)
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
        return await self._send(
            "list", "GET", resource, namespace, query=query, timeout=LIST_TIMEOUT
        )

    async def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        """An object. Raises `NotFound`."""
        return _document(await self._send("get", "GET", resource, namespace, name))

    async def create(self, resource: Resource, namespace: str, document: Doc) -> Doc:
        """Create an object. Raises `AlreadyExists`, `Forbidden`, `Invalid`."""
        self._fence()
        return _document(
            await self._send(
                "create", "POST", resource, namespace, query=_MANAGED, body=document, fenced=True
            )
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, version: str
    ) -> Doc:
        """Delete an object and, first, what it owns, if it is still exactly this one.

        Raises `NotFound`, `Conflict`.
        """
        self._fence()
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid, "resourceVersion": version},
        }
        return _document(
            await self._send(
                "delete", "DELETE", resource, namespace, name, body=options, fenced=True
            )
        )

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
        self._fence()
        return _document(
            await self._send(
                "patch",
                "PATCH",
                resource,
                namespace,
                f"{name}/status",
                query=_MANAGED,
                body=body,
                content_type="application/merge-patch+json",
                fenced=True,
            )
        )

    async def remove_pod(self, namespace: str, name: str, uid: str, version: str) -> None:
        """Remove a pod at once, without its kubelet's word, if it is still exactly this one.

        Raises `NotFound`, `Conflict`.
        """
        self._fence()
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid, "resourceVersion": version},
        }
        await self._send("delete", "DELETE", PODS, namespace, name, body=options, fenced=True)

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
        what, code = f"watch {resource.plural} {namespace}/{name}", "0"
        path = _path(resource, namespace, "")
        try:
            answer = await self._client.rest_client.request(
                "GET",
                f"{self._configuration.host}{path}?{urlencode(query)}",
                headers=await self._headers("GET", path, None),
                _request_timeout=aiohttp.ClientTimeout(total=FOLLOW_SECONDS + TIMEOUT),
            )
            async with answer.response as response:
                code = str(response.status)
                if response.status != 200:
                    raise error_of(what, response.status, response.headers, await response.read())
                async for line in response.content:
                    self.answered_at = time.monotonic()
                    event = _document(line)
                    if event.get("type") not in ("ADDED", "MODIFIED"):
                        return
                    yield event["object"]
        except ConfigException as error:  # its words may quote credentials
            raise Unavailable(what, text="the credentials cannot be renewed") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(what, text=f"{type(error).__name__} {error}") from error
        finally:
            self._count("watch", resource.plural, code, None)

    async def write_lease(
        self, namespace: str, document: Doc, *, create: bool, timeout: float
    ) -> Doc:
        """Create or replace a Lease. It is what the fence rests on, so the fence isn't asked."""
        verb, method = ("create", "POST") if create else ("update", "PUT")
        name = "" if create else document["metadata"]["name"]
        return _document(
            await self._send(
                verb,
                method,
                LEASES,
                namespace,
                name,
                body=document,
                timeout=timeout,
                patience=0.0,  # a late renewal is worse than one that failed
            )
        )

    async def _send(
        self,
        verb: str,
        method: str,
        resource: Resource,
        namespace: str,
        name: str = "",
        *,
        query: dict[str, str] | None = None,
        body: Doc | None = None,
        content_type: str = "application/json",
        timeout: float = TIMEOUT,
        fenced: bool = False,
        patience: float = PATIENCE,
    ) -> bytes:
        """Send a request, waiting where the server asks for a short wait. The answer's body."""
        path = _path(resource, namespace, name)
        what = f"{verb} {resource.plural} {namespace}/{name}"
        waited = 0.0
        limited = resource is not LEASES  # a late renewal costs the leadership
        while True:
            if limited:
                await self._turn(fenced)
            sent_at = time.monotonic()
            status, headers, raw = await self._once(
                verb, resource.plural, method, path, query or {}, body, content_type, timeout, what
            )
            # An admission webhook may say 429 too, of one namespace. The API server names a time.
            if limited and status == 429 and "Retry-After" in headers:
                self.limit.refused(sent_at)
            elif limited:
                self.limit.taken()
            if status < 400:
                return raw
            error = error_of(what, status, headers, raw)
            pause = error.retry_after if isinstance(error, Unavailable) else None
            if status != 429 or pause is None or waited + pause > patience:
                raise error
            await asyncio.sleep(pause)
            waited += pause
            if fenced:
                self._fence()

    async def _turn(self, fenced: bool) -> None:
        """Wait for a request's turn, where there is a limit."""
        seconds = self.limit.reserve()
        if seconds <= 0:
            return
        self.limit.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.limit.waiting -= 1
        if fenced:
            self._fence()

    async def _headers(self, method: str, path: str, body: Doc | None) -> dict[str, str]:
        """With credentials that are valid now. Raises `ConfigException`."""
        headers = {
            **self._client.default_headers,
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # compressing costs more than a cluster's network
        }
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        return headers

    async def _once(
        self,
        verb: str,
        plural: str,
        method: str,
        path: str,
        query: dict[str, str],
        body: Doc | None,
        content_type: str,
        timeout: float,
        what: str,
    ) -> tuple[int, Any, bytes]:
        code, began = "0", time.monotonic()
        try:
            headers = await self._headers(method, path, body)
            if body is not None:
                headers["Content-Type"] = content_type
            async with asyncio.timeout(timeout):
                response = await self._client.rest_client.request(
                    method,
                    f"{self._configuration.host}{path}?{urlencode(query)}",
                    headers=headers,
                    body=body,
                    _request_timeout=aiohttp.ClientTimeout(total=timeout),
                )
                raw: bytes = await response.read()
        except ConfigException as error:  # its words may quote credentials
            raise Unavailable(what, text="the credentials cannot be renewed") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(what, text=f"{type(error).__name__} {error}") from error
        else:
            code = str(response.status)
            self.answered_at = time.monotonic()
            return response.status, response.headers, raw
        finally:
            self._count(verb, plural, code, time.monotonic() - began)


async def find_cluster() -> tuple[Configuration, str]:
    """How to reach the API server, and the own namespace.

    In a pod by its service account, else by KUBECONFIG or ~/.kube/config. Raises `ApiError`.
    """
    configuration = Configuration()
    namespace = os.environ.get("POD_NAMESPACE", "")
    if "KUBERNETES_SERVICE_HOST" in os.environ and (IN_CLUSTER / "token").is_file():
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException as error:
            raise ApiError("use the pod's service account", text=str(error)) from error
        if not namespace:
            namespace = (IN_CLUSTER / "namespace").read_text().strip()
        return configuration, namespace
    try:
        # Not kept in a file: a refreshed token is this process' own affair.
        await load_kube_config(client_configuration=configuration, persist_config=False)
    except Exception as error:
        what = "find a cluster: not in a pod, and no usable kubeconfig; set KUBECONFIG"
        raise ApiError(what, text=str(error)) from error
    return configuration, namespace or "default"


_MANAGED = {
    "fieldManager": FIELD_MANAGER,
    # What we send is built from the contract's own documents: having each object read twice, to
    # be warned of fields that the server does not know, costs it a tenth of the write.
    "fieldValidation": "Ignore",
}


def _path(resource: Resource, namespace: str, name: str) -> str:
    parts: Sequence[str] = (
        resource.base,
        *(("namespaces", quote(namespace)) if namespace else ()),
        resource.plural,
        *((quote(name, safe="/"),) if name else ()),
    )
    return "/".join(parts)


def _document(raw: bytes) -> Doc:
    try:
        document: Doc = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Unavailable("read an answer", text="it is no JSON") from error
    return document
