"""A cluster's API server, as plain documents.

Only this and `connection` import the Kubernetes client, which takes a second or two: no command
that needs no cluster imports them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException

from evalrun_api import API_GROUP, API_VERSION, __version__
from evalrun_cli.refusals import ApiError, Asked, refusal, unanswered

Doc = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
WATCH_SECONDS = 240
"""The server ends a watch after this; a connection on which nothing came for longer is dead."""
PAGE = 500
PATIENCE = 3
"""How often a request is repeated that the server put off (429), or a list that expired (410)."""


@dataclass(frozen=True)
class Resource:
    """Where objects of a kind are found. name: as RBAC and kubectl call it."""

    base: str
    plural: str
    name: str

    def all(self, namespace: str | None) -> str:
        """The path of all objects of a namespace; None is all namespaces."""
        if namespace is None:
            return f"{self.base}/{self.plural}"
        return f"{self.base}/namespaces/{_part(namespace)}/{self.plural}"

    def one(self, namespace: str, name: str, part: str = "") -> str:
        """The path of an object, or of a part of it."""
        path = f"{self.all(namespace)}/{_part(name)}"
        return f"{path}/{part}" if part else path


def _part(name: str) -> str:
    """A name in a path. Without one the path would lead to something else: all of its kind."""
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of an object")
    return quote(name, safe="")


RUNS: Final = Resource(f"/apis/{API_VERSION}", "evaluationruns", f"evaluationruns.{API_GROUP}")
BENCHMARKS: Final = Resource(f"/apis/{API_VERSION}", "benchmarks", f"benchmarks.{API_GROUP}")
PODS: Final = Resource("/api/v1", "pods", "pods")


class Cluster:
    """Requests to one API server. Every method raises `refusals.ApiError`.

    namespace: where objects are that name none. options: those of the command line that name
    this cluster.
    """

    def __init__(
        self,
        configuration: Configuration,
        context: str,
        namespace: str,
        options: Sequence[str] = (),
    ) -> None:
        configuration.retries = False  # it would write warnings, and hide how long it waits
        configuration.keep_alive = True  # finds connections that died while nothing was said
        self._client = ApiClient(configuration)
        self._client.user_agent = f"evalrun/{__version__}"
        self.server: str = configuration.host
        self.context = context
        self.namespace = namespace
        self.options = tuple(options)

    def options_for(self, namespace: str) -> tuple[str, ...]:
        """Options that lead a command to an object of a namespace in this cluster."""
        return (*self.options, "-n", namespace)

    def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        """An object."""
        asked = self._asked("get", resource, namespace, name)
        return self._document(asked, "GET", resource.one(namespace, name))

    def list(
        self, resource: Resource, namespace: str | None, **selectors: str
    ) -> tuple[list[Doc], str]:
        """Objects of a namespace, or of all (None), and the version of the list."""
        asked = self._asked("list", resource, namespace)
        query = {**selectors, "limit": str(PAGE)}
        items: list[Doc] = []
        expired = 0
        while True:
            try:
                page = self._document(asked, "GET", resource.all(namespace), query)
            except ApiError as error:
                expired += 1
                if error.code != 410 or "continue" not in query or expired > PATIENCE:
                    raise
                items.clear()  # the pages are of one moment, which the server no longer has
                del query["continue"]
                continue
            items += page.get("items") or []
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    def apply(
        self, resource: Resource, namespace: str, body: Doc, *, force: bool, dry_run: bool
    ) -> Doc:
        """Server-side apply; returns the object as it is then."""
        name = body["metadata"]["name"]
        query = {"fieldManager": "evalrun", "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry_run else {}
        asked = self._asked("patch", resource, namespace, name)
        path, kind = resource.one(namespace, name), "application/apply-patch+yaml"
        return self._document(asked, "PATCH", path, query, body, kind)

    def merge(self, resource: Resource, namespace: str, name: str, body: Doc, manager: str) -> Doc:
        """Merge a patch into an object, on behalf of a field manager."""
        asked = self._asked("patch", resource, namespace, name)
        path, kind = resource.one(namespace, name), "application/merge-patch+json"
        return self._document(asked, "PATCH", path, {"fieldManager": manager}, body, kind)

    def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete this object and no later one of its name; what it owns follows."""
        if not uid:
            raise ValueError(f"{name} has no uid: it cannot be told from a later one of its name")
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        asked = self._asked("delete", resource, namespace, name)
        self._document(asked, "DELETE", resource.one(namespace, name), {}, body)

    def watch(
        self, resource: Resource, namespace: str, version: str, **selectors: str
    ) -> Iterator[Doc]:
        """Events since a version, until the server ends the watch."""
        query = {
            **selectors,
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        asked = self._asked("watch", resource, namespace)
        for line in self._lines(asked, resource.all(namespace), query, WATCH_SECONDS + 30):
            yield _object(asked, line)  # a line that was cut is no JSON

    def log(self, namespace: str, pod: str, **query: str) -> Iterator[bytes]:
        """The lines of a pod's log, as long as it is written with follow=true."""
        asked = self._asked("get", Resource(PODS.base, PODS.plural, "pods/log"), namespace, pod)
        silence = None if query.get("follow") == "true" else READ_SECONDS
        return self._lines(asked, PODS.one(namespace, pod, "log"), query, silence)

    def _asked(self, verb: str, resource: Resource, namespace: str | None, name: str = "") -> Asked:
        return Asked(self.server, verb, resource.name, namespace or "", name)

    def _document(
        self,
        asked: Asked,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Doc | None = None,
        content_type: str = "application/json",
    ) -> Doc:
        response = self._send(asked, method, path, query or {}, body, content_type, READ_SECONDS)
        try:
            raw: bytes = response.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unanswered(asked, error) from error
        return _object(asked, raw)

    def _lines(
        self, asked: Asked, path: str, query: Mapping[str, str], silence: float | None
    ) -> Iterator[bytes]:
        response = self._send(asked, "GET", path, query, None, "", silence)
        rest = b""
        try:
            for chunk in response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unanswered(asked, error) from error
        finally:
            response.close()
        if rest:
            yield rest

    def _send(
        self,
        asked: Asked,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Doc | None,
        content_type: str,
        silence: float | None,
    ) -> urllib3.HTTPResponse:
        """The answer, its body unread. silence: seconds for which nothing may come; None: any."""
        url = f"{self.server}{path}?{urlencode(query)}"
        for attempt in range(PATIENCE + 1):
            headers = {**self._client.default_headers, "Accept": "application/json, */*"}
            if body is not None:
                headers["Content-Type"] = content_type
            try:
                self._client.update_params_for_auth(
                    headers, [], ["BearerToken"], path, method, body
                )
                response: urllib3.HTTPResponse = self._client.rest_client.request(
                    method,
                    url,
                    headers=headers,
                    body=body,
                    _request_timeout=(CONNECT_SECONDS, silence),
                ).response
                if response.status < 400:
                    return response
                raw = response.data
            except ConfigException:  # its words may quote a credential helper or the kubeconfig
                what = "the kubeconfig's credentials cannot be renewed"
                raise unanswered(asked, ValueError(what)) from None
            except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
                raise unanswered(asked, error) from error
            wait = response.headers.get("Retry-After", "1")
            if response.status != 429 or attempt == PATIENCE:
                break
            time.sleep(min(float(wait), 10) if wait.isdigit() else 1)
        raise refusal(asked, response.status, _status(raw), raw[:300].decode(errors="replace"))


def _object(asked: Asked, raw: bytes) -> Doc:
    """A JSON object; raises `ApiError` for anything else, such as a proxy's page."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise unanswered(asked, error) from error
    if not isinstance(found, dict):
        raise unanswered(asked, ValueError("what came is no JSON object"))
    return found


def _status(raw: bytes) -> Doc | None:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == "Status" else None
