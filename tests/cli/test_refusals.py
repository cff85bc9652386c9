"""What an API server answers, and what a person is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from evalrun_cli.exits import Exit, exit_of
from evalrun_cli.refusals import Asked, refusal, unanswered

pytestmark = pytest.mark.contract

RUNS = "evaluationruns.lmms-eval.io"
ASKED = Asked("https://server:6443", "patch", RUNS, "team", "shapes")


@dataclass(frozen=True)
class Case:
    """An answer, and what the message has to hold."""

    id: str
    code: int
    where: str
    what: str
    remedy: str
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    asked: Asked = ASKED
    is_status: bool = True
    exit_code: Exit = Exit.REFUSED


CASES = [
    Case("expired", 401, "https://server:6443", "expired", "Log in again", exit_code=Exit.STORE),
    Case(
        "forbidden",
        403,
        "patch evaluationruns.lmms-eval.io/shapes in namespace team",
        'user "jo" may not patch evaluationruns.lmms-eval.io in namespace team',
        "role edit",
        message=f'{RUNS} "shapes" is forbidden: User "jo" cannot patch resource "evaluationruns" '
        'in API group "lmms-eval.io" in the namespace "team"',
        exit_code=Exit.STORE,
    ),
    Case(
        "forbidden-everywhere",
        403,
        "list evaluationruns.lmms-eval.io",
        "in all namespaces",
        "Name a namespace with -n",
        message=f'{RUNS} is forbidden: User "jo" cannot list resource "evaluationruns" in '
        'API group "lmms-eval.io" at the cluster scope',
        asked=Asked("https://server:6443", "list", RUNS),
        exit_code=Exit.STORE,
    ),
    Case(
        "quota",
        403,
        "patch",
        "exceeded quota",
        "Do what the message asks for",
        message=f'{RUNS} "shapes" is forbidden: exceeded quota: runs',
        exit_code=Exit.STORE,
    ),
    Case(
        "no-crds",
        404,
        "https://server:6443",
        "the CRDs are not installed",
        "kubectl apply --server-side -k config/default",
        message="404 page not found",
        is_status=False,
        exit_code=Exit.STORE,
    ),
    Case(
        "no-namespace",
        404,
        "--namespace",
        "no namespace 'team'",
        "kubectl create namespace team",
        message='namespaces "team" not found',
        details={"kind": "namespaces", "name": "team"},
    ),
    Case(
        "cel",
        422,
        "evaluationrun/shapes: spec",
        "model cannot change once the run exists",
        "Delete the run and apply it again",
        details={
            "causes": [
                {
                    "field": "spec",
                    "message": "Invalid value: model cannot change once the run exists; delete the "
                    "run and apply it again: finished answers are reused",
                }
            ]
        },
    ),
    Case(
        "cel-of-older-servers",
        422,
        "evaluationrun/shapes: spec.model",
        "set profile or backend",
        "Correct the value",
        details={
            "causes": [
                {
                    "field": "spec.model",
                    "message": 'Invalid value: "object": set profile or backend',
                }
            ]
        },
    ),
    Case(
        "wrong-type",
        422,
        "evaluationrun/shapes: spec.retryLimit",
        "must be of type integer",
        "Correct the value",
        details={
            "causes": [
                {
                    "field": "spec.retryLimit",
                    "message": 'Invalid value: "string": spec.retryLimit in body must be of type '
                    'integer: "string"',
                }
            ]
        },
    ),
    Case(
        "undeclared",
        500,
        "evaluationrun/shapes: spec.model.profle",
        "the cluster's release has no such field",
        "update the operator",
        message="failed to create typed patch object (team/shapes; lmms-eval.io/v1alpha1, "
        "Kind=EvaluationRun): .spec.model.profle: field not declared in schema",
    ),
    Case(
        "conflict",
        409,
        "evaluationrun/shapes: spec.suspend",
        "last set by kubectl-patch",
        "--force-conflicts",
        details={
            "causes": [
                {
                    "reason": "FieldManagerConflict",
                    "field": ".spec.suspend",
                    "message": 'conflict with "kubectl-patch" using lmms-eval.io/v1alpha1',
                }
            ]
        },
    ),
    Case(
        "breaks",
        503,
        "https://server:6443",
        "HTTP 503: etcd leader changed",
        "Try again",
        message="etcd leader changed",
        exit_code=Exit.STORE,
    ),
    Case(
        "a-proxys-page",
        502,
        "https://server:6443",
        "HTTP 502: <html>Bad gateway</html>",
        "Try again",
        message="<html>Bad\n gateway\x1b[2J</html>",
        is_status=False,
        exit_code=Exit.STORE,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_refusal_names_field_fault_and_remedy(
    case: Case, show_message: Callable[[object, str], None]
) -> None:
    status = {"kind": "Status", "message": case.message, "details": case.details}
    error = refusal(case.asked, case.code, status if case.is_status else None, case.message)
    show_message(f"exit {int(exit_of(error.reason))}", str(error))
    (fault,) = error.faults
    assert case.where in fault.where
    assert case.what in fault.what
    assert case.remedy in fault.remedy
    assert "\x1b" not in str(error)
    assert exit_of(error.reason) == case.exit_code


def test_all_causes_are_told_each_once() -> None:
    cause = {"field": "spec.model", "message": "Invalid value: no"}
    status = {"details": {"causes": [cause, {**cause, "field": "spec"}, cause]}}
    assert len(refusal(ASKED, 422, status, "").faults) == 2


def test_every_field_that_does_not_fit_the_schema_is_told() -> None:
    message = (
        "failed to create typed patch object (team/shapes; lmms-eval.io/v1alpha1, "
        "Kind=EvaluationRun): errors:\n  .spec.benchmarks[0].limit: expected numeric (int or "
        "float), got string\n  .spec.ofTomorrow: field not declared in schema"
    )
    faults = refusal(ASKED, 500, {"message": message}, "").faults
    assert [(fault.where, fault.what) for fault in faults] == [
        (
            "evaluationrun/shapes: spec.benchmarks[0].limit",
            "expected numeric (int or float), got string",
        ),
        ("evaluationrun/shapes: spec.ofTomorrow", "the cluster's release has no such field"),
    ]


@pytest.mark.parametrize(
    ("code", "passes"),
    [(401, False), (403, False), (410, True), (422, False), (429, True), (500, True)],
)
def test_only_what_may_pass_is_tried_again(code: int, passes: bool) -> None:
    assert refusal(ASKED, code, {}, "").passes is passes


def test_no_answer_is_told_without_the_clients_inner_names() -> None:
    error = OSError("<urllib3.connection.HTTPSConnection object at 0x7f00>, Connection refused")
    told = unanswered(ASKED, error)
    assert told.passes
    assert told.faults[0].what == "the cluster's API server does not answer: Connection refused"
