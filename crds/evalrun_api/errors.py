"""Errors that a person reads: the field, the fault, the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evalrun_api import reasons
from evalrun_api.reasons import Reason


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    where: path of the field (spec.model.profile), address of an object, or name of a file.
    what: what is wrong with it.
    remedy: what to do.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        stop = "" if self.what.endswith(("?", "!", ".")) else "."
        return f"{self.where}: {self.what}{stop} {self.remedy}"


class EvalrunError(Exception):
    """An outcome with a reason. Its text is for the user."""

    def __init__(self, reason: Reason, *faults: Fault) -> None:
        self.reason = reason
        self.faults = faults or (Fault(reason.name, reason.meaning, reason.remedy),)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Refused(EvalrunError):  # noqa: N818 - a verdict on a document, not a mishap
    """A manifest or plan is refused; every fault found is listed."""

    def __init__(self, faults: Iterable[Fault], reason: Reason = reasons.INVALID_SPEC) -> None:
        super().__init__(reason, *faults)


def fail(reason: Reason, where: str, what: str, remedy: str | None = None) -> EvalrunError:
    """An error with one fault; the remedy is the reason's own unless a closer one is given."""
    return EvalrunError(reason, Fault(where, what.rstrip("."), remedy or reason.remedy))
