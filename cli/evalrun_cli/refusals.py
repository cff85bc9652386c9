"""What an API server's refusal means for the person who asked: fields, faults, remedies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.reasons import Reason
from evalrun_cli.plain_text import one_line

INSTALL = (
    "An administrator installs lmms-eval-operator with "
    "kubectl apply --server-side -k config/default"
)

UNTYPED = "failed to create typed patch object"
"""How server-side apply refuses what does not fit the schema: with a 500, and no causes."""
_UNTYPED_FIELD = re.compile(r"\.([\w.\[\]]+): (.+?)(?= \.\w[\w.\[\]]*: |$)")
NO_ANSWER = 0
"""The code of a request that got no answer."""


@dataclass(frozen=True)
class Asked:
    """A request. verb: as RBAC calls it. resource: such as evaluationruns.lmms-eval.io."""

    server: str
    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        target = f"{self.resource}/{self.name}" if self.name else self.resource
        place = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {target}{place}"


class ApiError(EvalrunError):
    """A request that was not fulfilled. code: the HTTP status."""

    def __init__(self, reason: Reason, code: int, *faults: Fault) -> None:
        EvalrunError.__init__(self, reason, *faults)
        self.code = code

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.code in (NO_ANSWER, 410, 429) or self.code >= 500


class ApiRefusal(ApiError, Refused):  # noqa: N818 - a verdict, as Refused is
    """A request that is refused for what it says: the same request is refused again."""


def refusal(asked: Asked, code: int, status: Mapping[str, Any] | None, text: str) -> ApiError:
    """What to tell of a refused request.

    status: the API server's Status document; None where the answer was none. text: that answer.
    """
    told = one_line((status or {}).get("message") or text) or f"HTTP {code}"
    details = (status or {}).get("details") or {}
    if code == 401:
        what = f"the server does not know these credentials, or they have expired ({told})"
        remedy = "Log in again, or choose another context with --context"
        return ApiError(reasons.CREDENTIALS_REFUSED, code, Fault(asked.server, what, remedy))
    if code == 403:
        return ApiError(reasons.ACCESS_DENIED, code, _forbidden(asked, told))
    if code == 404:
        return _not_found(asked, details, status is None, told)
    if code == 409:
        return ApiRefusal(reasons.INVALID_SPEC, code, *_conflicts(asked, details, told))
    if code in (400, 413, 415, 422) or UNTYPED in told:
        return ApiRefusal(reasons.INVALID_SPEC, code, *_invalid(asked, details, told))
    what = f"the request ({asked}) failed with HTTP {code}: {told}"
    remedy = "Try again; if it stays so, ask the cluster's administrator"
    return ApiError(reasons.CLUSTER_UNAVAILABLE, code, Fault(asked.server, what, remedy))


def unanswered(asked: Asked, error: BaseException) -> ApiError:
    """What to tell of a request that got no answer."""
    what = f"the cluster's API server does not answer: {_cause(error)}"
    remedy = "Check the network and the address in the kubeconfig (kubectl cluster-info)"
    return ApiError(reasons.CLUSTER_UNAVAILABLE, NO_ANSWER, Fault(asked.server, what, remedy))


def _cause(error: BaseException) -> str:
    """The innermost cause in a few words; urllib3 wraps it in pools and object addresses."""
    text = one_line(getattr(error, "reason", None) or error)
    text = re.sub(
        r"<[\w.]+ object at 0x[0-9a-f]+>(, )?|HTTPS?Connection(Pool)?\([^)]*\): ", "", text
    )
    return text.strip(" :(") or type(error).__name__


def _forbidden(asked: Asked, told: str) -> Fault:
    who = re.search(r'User "([^"]*)" cannot', told)
    if who is None:  # a quota, an admission policy, a namespace that is going away
        return Fault(str(asked), told, "Do what the message asks for, or ask the administrator")
    what = f'user "{who[1]}" may not {asked.verb} {asked.resource}'
    what += f" in namespace {asked.namespace}" if asked.namespace else " in all namespaces"
    role = "view" if asked.verb in ("get", "list", "watch") else "edit"
    remedy = f"Ask the administrator for the role {role} there, which includes lmms-eval-{role}"
    if not asked.namespace:
        remedy = "Name a namespace with -n, or ask the administrator for a ClusterRole"
    return Fault(str(asked), what, remedy)


def _not_found(asked: Asked, details: Mapping[str, Any], foreign: bool, told: str) -> ApiError:
    if foreign and asked.resource.endswith(".lmms-eval.io"):
        what = "the cluster does not know evaluation runs: the CRDs are not installed"
        return ApiError(reasons.CLUSTER_UNAVAILABLE, 404, Fault(asked.server, what, INSTALL))
    if details.get("kind") == "namespaces":
        what = f"there is no namespace {asked.namespace!r}"
        remedy = f"Create it with kubectl create namespace {asked.namespace}, or choose one with -n"
        return ApiRefusal(reasons.INVALID_SPEC, 404, Fault("--namespace", what, remedy))
    return ApiRefusal(reasons.INVALID_SPEC, 404, Fault(str(asked), told, "Correct the name"))


def _conflicts(asked: Asked, details: Mapping[str, Any], told: str) -> list[Fault]:
    faults = []
    for cause in details.get("causes") or ():
        if cause.get("reason") == "FieldManagerConflict":
            owner = re.search(r'conflict with "([^"]*)"', str(cause.get("message")))
            what = f"it was last set by {one_line(owner[1] if owner else cause.get('message'))}"
            remedy = "Leave the field out of the manifest, or take it over with --force-conflicts"
            faults.append(Fault(_field(asked, cause), what, remedy))
    remedy = "Somebody changed it at the same time: try again"
    return faults or [Fault(str(asked), told, remedy)]


def _invalid(asked: Asked, details: Mapping[str, Any], told: str) -> list[Fault]:
    faults = []
    for cause in details.get("causes") or ():
        text = one_line(cause.get("message"))
        text = re.sub(r'^Invalid value: (("object"|"array"|null|\{.*\}): )?', "", text)
        what, separator, remedy = text.partition("; ")  # as our CEL rules are written
        remedy = f"{remedy[:1].upper()}{remedy[1:]}" if separator else "Correct the value"
        faults.append(Fault(_field(asked, cause), what, remedy))
    if faults:
        return list(dict.fromkeys(faults))
    if UNTYPED in told:
        faults = [_untyped(asked, *found) for found in _UNTYPED_FIELD.findall(told)]
    return faults or [Fault(str(asked), told, "Correct the manifest")]


def _untyped(asked: Asked, field: str, what: str) -> Fault:
    if what == "field not declared in schema":
        what = "the cluster's release has no such field"
        return Fault(_place(asked, field), what, "Leave it out, or update the operator")
    return Fault(_place(asked, field), what, "Correct the value")


def _field(asked: Asked, cause: Mapping[str, Any]) -> str:
    return _place(asked, one_line(cause.get("field")).lstrip("."))


def _place(asked: Asked, field: str) -> str:
    kind = asked.resource.partition(".")[0].removesuffix("s")
    return f"{kind}/{asked.name}: {field or 'object'}" if asked.name else field or str(asked)
