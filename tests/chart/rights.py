"""Rights that Roles grant, and rights that were used, by the API server's audit log. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Doc = dict[str, Any]

FORBIDDEN_RESOURCES = ("secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "*")
FORBIDDEN_VERBS = ("*", "bind", "escalate", "impersonate")


@dataclass(frozen=True, order=True)
class Grant:
    """One verb on one resource. namespace: of a Role, or "". name: of the only object, or ""."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        named = f" {self.name}" if self.name else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}{named}{where}"

    def covers(self, request: Request) -> bool:
        """Whether it allows a request."""
        return (
            (self.group, self.resource, self.verb)
            == (request.group, request.resource, request.verb)
            and self.namespace in ("", request.namespace)
            and self.name in ("", request.name)
        )


@dataclass(frozen=True, order=True)
class Request:
    """What was asked of the API server. allowed: whether RBAC let it through."""

    group: str
    resource: str
    verb: str
    namespace: str
    name: str
    allowed: bool


def granted(documents: Iterable[Doc], account: str) -> set[Grant]:
    """What the Roles among some documents grant a service account, through their bindings."""
    roles, bindings = {}, []
    for document in documents:
        place = (document["kind"], document["metadata"].get("namespace", ""))
        if document["kind"] in ("Role", "ClusterRole"):
            roles[*place, document["metadata"]["name"]] = document["rules"]
        elif document["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            bindings.append(document)
    found: set[Grant] = set()
    for binding in bindings:
        if account not in {subject["name"] for subject in binding["subjects"]}:
            continue
        kind, namespace = binding["roleRef"]["kind"], binding["metadata"].get("namespace", "")
        rules = roles[kind, namespace if kind == "Role" else "", binding["roleRef"]["name"]]
        found |= set(_of_rules(rules, namespace))
    return found


def _of_rules(rules: list[Doc], namespace: str) -> Iterator[Grant]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Grant(group, resource, verb, namespace, name)


def asked(audit: Iterable[str], user: str) -> tuple[set[Request], set[str]]:
    """A user's requests by the lines of an audit log: of resources, and the paths of all others."""
    requests, paths = set(), set()
    for line in audit:
        event = json.loads(line)
        if event["user"].get("username") != user:
            continue
        reference = event.get("objectRef")
        if reference is None:
            paths.add(event["requestURI"].partition("?")[0])
            continue
        what = [reference["resource"], reference.get("subresource", "")]
        requests.add(
            Request(
                reference.get("apiGroup", ""),
                "/".join(filter(None, what)),
                event["verb"],
                reference.get("namespace", ""),
                reference.get("name", ""),
                event.get("annotations", {}).get("authorization.k8s.io/decision") == "allow",
            )
        )
    return requests, paths


def unused(grants: set[Grant], requests: set[Request]) -> list[Grant]:
    """What is granted and nobody asked for."""
    return sorted(
        grant for grant in grants if not any(grant.covers(request) for request in requests)
    )


def lacking(grants: set[Grant], requests: set[Request]) -> list[Request]:
    """What was asked for and is not granted, or was refused."""
    return sorted(
        request
        for request in requests
        if not request.allowed or not any(grant.covers(request) for grant in grants)
    )


def excessive(grants: set[Grant]) -> list[Grant]:
    """What no part of the chart may grant anybody."""
    return sorted(
        grant
        for grant in grants
        if grant.resource in FORBIDDEN_RESOURCES or grant.verb in FORBIDDEN_VERBS
    )
