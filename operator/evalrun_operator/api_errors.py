"""What the API server, or the way to it, may answer instead of what was asked for."""

from __future__ import annotations


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
