"""A cluster's API server, as plain documents. Nothing else imports the Kubernetes client.

The client takes a second or two to import, so only commands that ask a cluster import this module.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3
import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.config.kube_config import KubeConfigMerger

from evalrun_api import API_GROUP, API_VERSION, __version__, reasons
from evalrun_api.errors import fail
from evalrun_cli.cluster_choice import SERVICE_ACCOUNT, ClusterChoice
from evalrun_cli.plain_text import one_line
from evalrun_cli.refusals import Asked, refusal, unanswered

Doc = dict[str, Any]

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
WATCH_SECONDS = 240
"""The server ends a watch after this; a connection on which nothing came for longer is dead."""
PAGE = 500
PATIENCE = 3
"""How often a request is repeated that the server put off (429)."""
_UNUSABLE = (
    ConfigException,
    yaml.YAMLError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What the client raises on kubeconfigs of the wrong form."""


@dataclass(frozen=True)
class Resource:
    """Where objects of a kind are found. name: as RBAC and kubectl call it."""

    base: str
    plural: str
    name: str

    def path(self, namespace: str | None, name: str = "", part: str = "") -> str:
        """The path of an object, or of all; namespace None is all namespaces."""
        parts = [self.base]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [self.plural, quote(name, safe=""), part]
        return "/".join(entry for entry in parts if entry)


RUNS: Final = Resource(f"/apis/{API_VERSION}", "evaluationruns", f"evaluationruns.{API_GROUP}")
BENCHMARKS: Final = Resource(f"/apis/{API_VERSION}", "benchmarks", f"benchmarks.{API_GROUP}")
PODS: Final = Resource("/api/v1", "pods", "pods")


class Cluster:
    """Requests to one API server. Every method raises `refusals.ApiError`.

    options: those of the command line that name this cluster and namespace.
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

    def get(self, resource: Resource, namespace: str, name: str) -> Doc:
        """An object."""
        asked = self._asked("get", resource, namespace, name)
        return self._document(asked, "GET", resource.path(namespace, name))

    def list(
        self, resource: Resource, namespace: str | None, **selectors: str
    ) -> tuple[list[Doc], str]:
        """Objects of a namespace, or of all (None), and the version of the list."""
        asked = self._asked("list", resource, namespace)
        query = {**selectors, "limit": str(PAGE)}
        items: list[Doc] = []
        while True:
            page = self._document(asked, "GET", resource.path(namespace), query)
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
        path, kind = resource.path(namespace, name), "application/apply-patch+yaml"
        return self._document(asked, "PATCH", path, query, body, kind)

    def merge(self, resource: Resource, namespace: str, name: str, body: Doc, manager: str) -> Doc:
        """Merge a patch into an object, on behalf of a field manager."""
        asked = self._asked("patch", resource, namespace, name)
        path, kind = resource.path(namespace, name), "application/merge-patch+json"
        return self._document(asked, "PATCH", path, {"fieldManager": manager}, body, kind)

    def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete this object and no later one of its name; what it owns follows."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        asked = self._asked("delete", resource, namespace, name)
        self._document(asked, "DELETE", resource.path(namespace, name), {}, body)

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
        for line in self._lines(asked, resource.path(namespace), query, WATCH_SECONDS + 30):
            yield json.loads(line)

    def log(self, namespace: str, pod: str, **query: str) -> Iterator[bytes]:
        """The lines of a pod's log, as long as it is written with follow=true."""
        asked = self._asked("get", Resource(PODS.base, PODS.plural, "pods/log"), namespace, pod)
        silence = None if query.get("follow") == "true" else READ_SECONDS
        return self._lines(asked, PODS.path(namespace, pod, "log"), query, silence)

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
            found: Doc = json.loads(response.data)
        except ValueError as error:  # a proxy's page
            raise unanswered(asked, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unanswered(asked, error) from error
        return found

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
            except (urllib3.exceptions.HTTPError, ApiException, OSError) as error:
                raise unanswered(asked, error) from error
            wait = response.headers.get("Retry-After", "1")
            if response.status != 429 or attempt == PATIENCE:
                break
            time.sleep(min(float(wait), 10) if wait.isdigit() else 1)
        raise refusal(asked, response.status, _status(raw), raw[:300].decode(errors="replace"))


def _status(raw: bytes) -> Doc | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("kind") == "Status" else None


def connect(choice: ClusterChoice) -> Cluster:
    """The cluster that the command line and the environment name. Raises `EvalrunError`.

    A kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config) comes first, as with kubectl; without
    one, a pod's service account.
    """
    configuration = Configuration()
    if not choice.has_kubeconfig and choice.context is None and choice.is_findable:
        load_incluster_config(client_configuration=configuration)
        own = (SERVICE_ACCOUNT / "namespace").read_text().strip()
        return Cluster(
            configuration, "the pod's service account", choice.namespace or own, choice.options
        )
    if not choice.has_kubeconfig:
        what = f"there is no kubeconfig: {choice.looked_at} does not exist"
        remedy = "Name one with --kubeconfig or KUBECONFIG; evalrun run works without a cluster"
        raise fail(reasons.CLUSTER_UNAVAILABLE, "--kubeconfig", what, remedy)
    try:
        merged = KubeConfigMerger(choice.kubeconfig).config.value
        found = [node.value for node in merged["contexts"]]
        known = {entry["name"]: entry.get("context") or {} for entry in found}
        name = choice.context or merged.get("current-context") or ""
        if name in known:
            load_kube_config(choice.kubeconfig, name, client_configuration=configuration)
    except _UNUSABLE as error:
        known_words = isinstance(error, ConfigException | yaml.YAMLError | OSError)
        told = one_line(error) if known_words else "it is no kubeconfig"
        what = f"the kubeconfig cannot be used: {told}"
        remedy = "Correct it, or name another with --kubeconfig (kubectl config view shows it)"
        raise fail(reasons.CLUSTER_UNAVAILABLE, choice.looked_at, what, remedy) from error
    if name not in known:
        raise choice.unknown_context(name, sorted(known))
    own = known[name].get("namespace") or "default"
    return Cluster(configuration, name, choice.namespace or own, choice.options)
