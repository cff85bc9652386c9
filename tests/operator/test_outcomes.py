"""Why a step failed or waits, for every class of failure that a cluster has."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from evalrun_api.reasons import PERMANENT
from evalrun_operator.attempts import attempt_of, parse_message, parse_time
from evalrun_operator.outcomes import failure_of
from evalrun_operator.summary import count_indexes
from evalrun_operator.waiting import wait_of

pytestmark = pytest.mark.decisions


def pod(
    code: int | None = None,
    exit_reason: str = "Error",
    message: str = "",
    name: str = "trial-answer-0-x",
    step: str = "answer",
    disrupted: bool = False,
    ended: str = "2026-01-01T00:10:00Z",
    **status: Any,
) -> dict[str, Any]:
    states = []
    if code is not None:
        terminated = {
            "exitCode": code,
            "reason": exit_reason,
            "message": message,
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": ended,
        }
        states = [{"name": "runner", "state": {"terminated": terminated}}]
    conditions = [
        {
            "type": "PodScheduled",
            "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    if disrupted:
        conditions.append({"type": "DisruptionTarget", "status": "True"})
    return {
        "metadata": {
            "name": name,
            "uid": f"pod-{name}",
            "labels": {"lmms-eval.io/run-uid": "uid-1", "lmms-eval.io/step": step},
            "annotations": {},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "status": {
            "phase": "Failed",
            "conditions": conditions,
            "containerStatuses": states,
            **status,
        },
    }


def said(**fields: Any) -> str:
    return json.dumps(
        {
            "version": 1,
            "run": {"namespace": "team", "name": "trial", "uid": "uid-1"},
            "step": "answer",
            "outcome": "Failed",
            "reason": "InternalError",
            **fields,
        }
    )


def job(reason: str = "BackoffLimitExceeded", message: str = "too many") -> dict[str, Any]:
    entry = {"type": "Failed", "status": "True", "reason": reason, "message": message}
    return {"metadata": {"name": "trial-answer"}, "status": {"conditions": [entry]}}


CASES: list[tuple[str, list[dict[str, Any]], str, str]] = [
    ("killed for memory", [pod(137, "OOMKilled", said())], "OutOfMemory", "at step answer"),
    ("killed for memory, unheard", [pod(137, "OOMKilled")], "OutOfMemory", "want of memory"),
    ("invalid", [pod(10, message=said(reason="ModelNotFound", message="no weights"))],
     "ModelNotFound", "no weights"),
    ("denied", [pod(11, message=said(reason="AccessDenied", message="may not write"))],
     "AccessDenied", "may not write"),
    ("untrusted", [pod(12, message=said(reason="InvalidAnswers"))],
     "InvalidAnswers", "More answers are empty"),
    ("corrupt", [pod(13, message=said(reason="CorruptStore"))], "CorruptStore", "cannot be read"),
    ("store", [pod(20, message=said(reason="StoreUnavailable", message="503"))],
     "StoreUnavailable", "503"),
    ("resources", [pod(21, message=said(reason="DiskFull"))], "DiskFull", "full"),
    ("a code without a word", [pod(20)], "InternalError", "exit code 20"),
    ("a reason without a name", [pod(1, message=said(reason="Whim", message="m"))],
     "InternalError", "m"),
    ("a failure that says it is none", [pod(1, message=said(reason="Completed"))],
     "InternalError", "exit code 1"),
    ("killed", [pod(137)], "PodLost", "left no word"),
    ("killed while it ran", [pod(137, message=said(outcome="Running", reason="Completed"))],
     "PodLost", "left no word"),
    ("killed while it answered", [pod(137, message=said(outcome="Running", reason="Running"))],
     "PodLost", "while it was at step answer"),
    ("a worker killed for memory, the pod ended for another reason",
     [pod(12, "OOMKilled", said(reason="InvalidAnswers", message="all empty"))],
     "InvalidAnswers", "all empty"),
    ("a worker killed for memory too often",
     [pod(21, "OOMKilled", said(reason="OutOfMemory", message="worker 1 of shard 0"))],
     "OutOfMemory", "worker 1 of shard 0"),
    ("killed for memory while it ran",
     [pod(137, "OOMKilled", said(outcome="Running", reason="Running"))],
     "OutOfMemory", "at step answer"),
    ("segfault", [pod(139)], "WorkerFailed", "SIGSEGV"),
    ("segfault while it ran", [pod(139, message=said(outcome="Running", reason="Running"))],
     "WorkerFailed", "SIGSEGV, exit code 139) while it was at step answer"),
    ("abort of another step", [pod(134, step="score")], "InternalError", "SIGABRT"),
    ("a signal that is none of these", [pod(143)], "InternalError", "exit code 143"),
    ("stalled", [pod(1, message=said(reason="Stalled", message="worker 0"))],
     "Stalled", "worker 0"),
    ("workers died", [pod(1, message=said(reason="WorkerFailed", message="died 4 times"))],
     "WorkerFailed", "died 4 times"),
    ("judge down", [pod(20, message=said(step="score", reason="JudgeUnavailable", message="503"),
                        step="score")], "JudgeUnavailable", "503"),
    ("judge too dear", [pod(10, message=said(step="score", reason="JudgeBudgetExceeded",
                                             message="of 100 requests"), step="score")],
     "JudgeBudgetExceeded", "of 100 requests"),
    ("cannot start", [pod(128, "StartError", "exec: no such file")],
     "ContainerStartFailed", "no such file"),
    ("refused by the kubelet", [pod(None, reason="UnexpectedAdmissionError")],
     "PodLost", "left no word"),
    ("lost with its node", [pod(137, "ContainerStatusUnknown")], "PodLost", "left no word"),
    ("no pods", [], "PodLost", "too many"),
    ("all disrupted", [pod(143, disrupted=True)], "PodLost", "too many"),
    ("evicted by the kubelet", [pod(137, disrupted=True, reason="Evicted")], "PodLost", "too many"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pods", "reason", "text"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_failed_job_is_explained(
    pods: list[dict[str, Any]],
    reason: str,
    text: str,
    show_message: Callable[[object, str], None],
) -> None:
    failure = failure_of(job(), [attempt_of(pod, "uid-1") for pod in pods], None)
    assert failure.reason.name == reason
    assert text in failure.message
    show_message(reason, failure.message)


def test_a_deadline_is_told_as_such_whatever_the_pods_say() -> None:
    failure = failure_of(job("DeadlineExceeded"), [attempt_of(pod(137), "uid-1")], 60)
    assert failure.reason.name == "DeadlineExceeded"
    assert "60 s" in failure.message


def test_the_word_of_a_kubelet_that_refused_a_pod_is_passed_on() -> None:
    refused = pod(None, reason="UnexpectedAdmissionError", message="")
    refused["status"]["message"] = "Allocate failed: no healthy devices"
    failure = failure_of(job(), [attempt_of(refused, "uid-1")], None)
    assert "no healthy devices" in failure.message


def test_a_permanent_failure_tells_more_than_a_later_one() -> None:
    first = pod(12, message=said(reason="InvalidAnswers", message="empty"), name="a")
    later = pod(1, message=said(message="also"), name="b", ended="2026-01-01T00:20:00Z")
    failure = failure_of(job(), [attempt_of(p, "uid-1") for p in (first, later)], None)
    assert failure.message == "empty"


def test_pods_that_ended_with_their_job_tell_nothing() -> None:
    culprit = pod(1, message=said(reason="BackendFailed", message="it broke"), name="a")
    other = pod(137, name="b", ended="2026-01-01T00:20:00Z")
    other["metadata"]["deletionTimestamp"] = "2026-01-01T00:19:00Z"
    failure = failure_of(job(), [attempt_of(p, "uid-1") for p in (culprit, other)], None)
    assert failure.message == "it broke"


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_preemption_makes_no_failure_of_a_permanent_code(code: int) -> None:
    assert not attempt_of(pod(int(code), disrupted=True), "uid-1").counts_as_failure
    assert attempt_of(pod(int(code)), "uid-1").counts_as_failure


@pytest.mark.parametrize(
    ("since", "counts"),
    [("2026-01-01T00:09:50Z", False), ("2026-01-01T00:10:05Z", False), ("", False),
     ("2026-01-01T00:10:30Z", True)],
)  # fmt: skip
def test_a_pod_that_failed_by_itself_is_no_disruption_when_its_node_is_lost_later(
    since: str, counts: bool
) -> None:
    document = pod(137, "OOMKilled", disrupted=True, ended="2026-01-01T00:10:00Z")
    document["status"]["conditions"][-1]["lastTransitionTime"] = since
    assert attempt_of(document, "uid-1").counts_as_failure == counts


def test_a_pod_that_stopped_as_it_was_asked_counts_against_nothing() -> None:
    attempt = attempt_of(pod(30), "uid-1")
    assert attempt.stopped
    assert not attempt.counts_as_failure


def test_a_pod_that_was_deleted_before_it_began_is_no_failure() -> None:
    deleted = pod(None)
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
    assert not attempt_of(deleted, "uid-1").counts_as_failure
    assert attempt_of(pod(None), "uid-1").counts_as_failure


# Waiting


WAITS: list[tuple[str, str, str | None, bool]] = [
    ("ErrImagePull", "not found", "ImagePullFailed", True),
    ("ImagePullBackOff", "", "ImagePullFailed", True),
    ("InvalidImageName", "", "ImagePullFailed", True),
    ("CreateContainerConfigError", 'secret "s3" not found', "SecretNotFound", True),
    (
        "CreateContainerConfigError",
        "couldn't find key AWS_ACCESS_KEY_ID in Secret team/s3",
        "SecretNotFound",
        True,
    ),
    (
        "CreateContainerConfigError",
        "failed to sync secret cache: timed out waiting for the condition",
        "StartDeadlineExceeded",
        False,
    ),
    ("CreateContainerConfigError", 'configmap "x" not found', "ContainerStartFailed", True),
    ("CreateContainerError", "context deadline exceeded", "ContainerStartFailed", True),
    ("ContainerCreating", "", None, False),
    ("PodInitializing", "", None, False),
]


@pytest.mark.parametrize(("waiting", "text", "reason", "person"), WAITS)
def test_a_pod_that_waits_says_for_what(
    waiting: str, text: str, reason: str | None, person: bool
) -> None:
    entry = {"reason": waiting, "message": text}
    status = {"phase": "Pending", "containerStatuses": []}
    states: list[Any] = [{"name": "runner", "image": "x:1", "state": {"waiting": entry}}]
    found = wait_of({"metadata": {}, "status": {**status, "containerStatuses": states}})
    if reason is None:
        assert found is None
        return
    assert found is not None
    assert (found.reason.name, found.for_a_person) == (reason, person)


def test_a_pod_that_no_node_takes_waits_and_may_still_find_one() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}
    found = wait_of({"metadata": {}, "status": {"conditions": [condition]}})
    assert found is not None
    assert (found.reason.name, found.text, found.for_a_person) == (
        "Unschedulable",
        "0/3 nodes",
        False,
    )


# What is read


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no JSON",
        "null",
        "[]",
        "{}",
        said()[:-1],
        said(computed=-1),
        said(computed=float("nan")),
        said(computed=10**400),
        said(computed="many"),
        said(run={"namespace": "team", "name": "trial", "uid": "uid-2"}),
        said(surprise=1),
        said(message="x" * 5000),
        '{"a":' * 2000 + "1" + "}" * 2000,
        said(message="\\ud800"),
        7,
    ],
    ids=range(17),
)
def test_a_message_that_is_not_as_agreed_is_none(text: Any) -> None:
    if text == said(message="\\ud800"):
        assert parse_message(text, "uid-1") is not None  # a backslash, and no surrogate
        return
    assert parse_message(text, "uid-1") is None


def test_a_pod_with_another_run_s_label_is_not_believed() -> None:
    assert parse_message(said(), "uid-1", "uid-1") is not None
    assert parse_message(said(), "uid-1", "uid-2") is None


def test_times_without_a_zone_are_utc_and_nonsense_is_none() -> None:
    assert parse_time("2026-01-01T00:00:00") == datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_time("2026-01-01T00:00:00.5Z") is not None
    for text in (None, 5, "", "yesterday", "2026-13-01T00:00:00Z"):
        assert parse_time(text) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0), (None, 0), ("1", 1), ("1,3-5", 4), ("0-1023", 1024), ("x", 0), ("5-1", 0),
        ("²", 0), ("1-", 1), ("9" * 5000, 0),
    ],
)  # fmt: skip
def test_lists_of_indexes_are_counted(text: Any, count: int) -> None:
    assert count_indexes(text) == count
