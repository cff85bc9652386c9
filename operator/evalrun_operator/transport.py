"""How the API server is reached: address, credentials, requests and their pace.

Nothing else imports the Kubernetes client. Its typed models cost a multiple of the request itself,
so only its connections and credentials are used.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from evalrun_api import __version__
from evalrun_api.names import FIELD_MANAGER
from evalrun_operator.api_errors import ApiError, Unavailable, error_of
from evalrun_operator.decisions import Doc
from evalrun_operator.rate_limit import RateLimit
from evalrun_operator.resources import LEASES, Resource

TIMEOUT: Final = 20.0
"""Seconds for a request."""
PATIENCE: Final = 10.0
"""Longest wait, in seconds, that a request takes on itself when the server asks for one."""
IN_CLUSTER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

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


@dataclass(frozen=True)
class Request:
    """What is asked of the API server. verb: in its own terms, as in its audit log.

    name: with a subresource behind a slash. timeout: seconds for each try, or for a watch as a
    whole. patience: seconds that it may wait in all where the server asks for it. fenced: only a
    leader may ask it, which is made sure of before it is sent and after each wait.
    """

    verb: str
    method: str
    resource: Resource
    namespace: str
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Doc | None = None
    content_type: str = "application/json"
    timeout: float = TIMEOUT
    patience: float = PATIENCE
    fenced: bool = False

    @property
    def path(self) -> str:
        """Without the query."""
        return self.resource.path(self.namespace, self.name)

    @property
    def is_limited(self) -> bool:
        """Whether it has to wait its turn. The Lease's have not: late, they cost the leadership."""
        return self.resource is not LEASES

    def __str__(self) -> str:
        which = self.name or self.query.get("fieldSelector", "").removeprefix("metadata.name=")
        return f"{self.verb} {self.resource.plural} {self.namespace}/{which}"


class Transport:
    """Sends requests to the API server.

    fence: raises `LeadershipLost` when nothing may be written any more. count: told verb, resource,
    code and seconds of each request; None for a watch, which lasts as long as there is something to
    tell. answered_at: monotonic time of the last answer, whatever it was. limit: of requests a
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

    async def send(self, request: Request) -> bytes:
        """Send a request, waiting where the server asks for a short wait. The answer's body.

        Raises `ApiError`, `LeadershipLost`.
        """
        if request.fenced:
            self._fence()
        waited = 0.0
        while True:
            if request.is_limited:
                await self._turn(request)
            sent_at = time.monotonic()
            status, headers, raw = await self._once(request)
            # An admission webhook may say 429 too, of one namespace. The API server names a time.
            if request.is_limited and status == 429 and "Retry-After" in headers:
                self.limit.refused(sent_at)
            elif request.is_limited:
                self.limit.taken()
            if status < 400:
                return raw
            error = error_of(str(request), status, headers, raw)
            pause = error.retry_after if isinstance(error, Unavailable) else None
            if status != 429 or pause is None or waited + pause > request.patience:
                raise error
            await asyncio.sleep(pause)
            waited += pause
            if request.fenced:
                self._fence()

    async def lines(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that goes on until the API server ends it. Raises `ApiError`.

        It is sent once, and no limit holds it back.
        """
        code = "0"
        try:
            answer = await self._ask(request)
            async with answer.response as response:
                code = str(response.status)
                if response.status != 200:
                    raw = await response.read()
                    raise error_of(str(request), response.status, response.headers, raw)
                async for line in response.content:
                    self.answered_at = time.monotonic()
                    yield line
        except ConfigException as error:
            raise _not_renewed(request) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(request, error) from error
        finally:
            self._count(request.verb, request.resource.plural, code, None)

    async def _turn(self, request: Request) -> None:
        """Wait for a request's turn, where there is a limit."""
        seconds = self.limit.reserve()
        if seconds <= 0:
            return
        self.limit.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.limit.waiting -= 1
        if request.fenced:
            self._fence()

    async def _once(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        code, began = "0", time.monotonic()
        try:
            async with asyncio.timeout(request.timeout):
                response = await self._ask(request)
                raw: bytes = await response.read()
        except ConfigException as error:
            raise _not_renewed(request) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(request, error) from error
        else:
            code = str(response.status)
            self.answered_at = time.monotonic()
            return response.status, response.headers, raw
        finally:
            self._count(request.verb, request.resource.plural, code, time.monotonic() - began)

    async def _ask(self, request: Request) -> Any:
        """With credentials that are valid now. Raises `ConfigException`."""
        path, body = request.path, request.body
        headers = {
            **self._client.default_headers,
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # compressing costs more than a cluster's network
        }
        await self._client.update_params_for_auth(
            headers, [], ["BearerToken"], path, request.method, body
        )
        if body is not None:
            headers["Content-Type"] = request.content_type
        return await self._client.rest_client.request(
            request.method,
            f"{self._configuration.host}{path}?{urlencode(request.query)}",
            headers=headers,
            body=body,
            _request_timeout=aiohttp.ClientTimeout(total=request.timeout),
        )


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


def document_of(raw: bytes) -> Doc:
    """An answer's document. Raises `Unavailable` for what is none."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Unavailable("read an answer", text="it is no JSON") from error
    if not isinstance(document, dict):
        raise Unavailable("read an answer", text="it is no object")
    return document


def _not_renewed(request: Request) -> Unavailable:
    # The client's own words may quote credentials.
    return Unavailable(str(request), text="the credentials cannot be renewed")


def _unreachable(request: Request, error: Exception) -> Unavailable:
    return Unavailable(str(request), text=f"{type(error).__name__} {error}")
