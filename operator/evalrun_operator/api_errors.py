"""What the API server, or the way to it, may answer instead of what was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping


class ApiError(Exception):
    """A request that was not fulfilled.

    code: HTTP status; 0 when there was no answer. text: the API server's message.
    """

    def __init__(self, what: str, code: int = 0, text: str = "") -> None:
        super().__init__(f"{what}: {code or 'no answer'} {text}".rstrip())
        self.code = code
        self.text = text


class NotFound(ApiError):  # noqa: N818 - an answer, not a mishap
    """There is no such object."""


class AlreadyExists(ApiError):  # noqa: N818
    """An object of that name is there already."""


class Conflict(ApiError):  # noqa: N818
    """The object is no longer the one, or in the version, that the request speaks of."""


class Forbidden(ApiError):  # noqa: N818
    """Not allowed: by RBAC, a quota, or a namespace that is going away."""


class Invalid(ApiError):  # noqa: N818
    """Refused for what it says; it would be refused again."""


class Unavailable(ApiError):  # noqa: N818
    """No answer, or none that tells whether the request was carried out.

    retry_after: seconds that the server asked to wait.
    """

    def __init__(
        self, what: str, code: int = 0, text: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(what, code, text)
        self.retry_after = retry_after


class LeadershipLost(Exception):  # noqa: N818 - a state
    """Another replica may lead by now: nothing may be written."""


def error_of(what: str, code: int, headers: Mapping[str, str], raw: bytes) -> ApiError:
    """What an answer of 400 or more says.

    That an object is not there counts only in the API server's own words. A proxy on the way, or a
    path that is not served while a CRD is exchanged, answers 404 as well.
    """
    reason, text = "", raw[:300].decode(errors="replace")
    try:
        answer = json.loads(raw)
        if answer.get("kind") == "Status":
            reason = str(answer.get("reason") or "")
        text = str(answer.get("message") or text)
    except (ValueError, AttributeError, RecursionError):
        pass  # a proxy's page, not the API server's answer
    if code == 404 and reason == "NotFound":
        return NotFound(what, code, text)
    if code == 409:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
        return kind(what, code, text)
    if code == 403:
        return Forbidden(what, code, text)
    if code in (400, 405, 413, 415, 422):
        return Invalid(what, code, text)
    return Unavailable(what, code, text, _retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
