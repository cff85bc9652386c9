"""Whatever a pod reports is untrusted: nothing raises, and the CRD refuses no status."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import check_status
from world_documents import configuration, run_document

from evalrun_api.journal import ErrorClass
from evalrun_api.progress import Progress
from evalrun_operator.admission import admit, read_run
from evalrun_operator.decisions import Ledger, Observed
from evalrun_operator.reconcile import reconcile
from evalrun_operator.usage import settle

pytestmark = pytest.mark.decisions

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LONG = {"long": "x" * 70_000, "digits": "1" * 5000}
ODD = ["", "\x1b[31mred", "NaN", "-1", "1e999", *LONG]
nasty = st.text(st.sampled_from('\x00\x07\x1b\x7f\u2028\u202e\ud800é😀a\n "\\'), max_size=80) | (
    st.sampled_from(ODD).map(lambda text: LONG.get(text, text))
)
counts = st.sampled_from([-1, 0, 1, 7, 2**53, 2**53 + 1, 10**30, True, 1.5, None, "5"])
numbers = st.sampled_from([0.0, 5e-324, 1e-9, 0.5, 1e9])
maybe_counts = st.sampled_from([0, 1, 7, 2**53])
times = st.sampled_from(
    [
        None,
        "2026-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2026-01-01T00:00:00",
        "never",
        "",
    ]
)


def fields(**optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


scores = fields(
    benchmark=nasty,
    metric=nasty,
    filter=nasty,
    value=nasty | st.just("0.5"),
    stderr=nasty,
    n=counts,
    invalid=counts,
    higherIsBetter=st.booleans() | nasty,
)
plain_scores = st.lists(
    st.fixed_dictionaries(
        {"benchmark": nasty.filter(bool), "metric": nasty.filter(bool), "value": st.just("\x1b1")}
    ),
    max_size=11,
)
messages = fields(
    message=nasty,
    answersDigest=nasty | st.just("a" * 64),
    reused=counts,
    computed=counts,
    invalid=counts,
    errors=st.dictionaries(st.sampled_from([*get_args(ErrorClass), "Odd"]), counts, max_size=3)
    | nasty,
    restarts=counts,
    judge=fields(requests=counts, cost=numbers | nasty, surprise=counts) | nasty,
    scores=st.lists(scores, max_size=3) | plain_scores,
    resultsUri=nasty | st.just("s3://b/manifest.json"),
    resultsDigest=nasty | st.just("d" * 64),
    trusted=st.sampled_from([True, False, None, "yes"]),
    determinism=st.sampled_from(["Exact", "Mixed", "Perhaps", None]),
    requestsTotal=counts,
    lmmsEval=nasty,
    modelRevision=nasty,
    seconds=fields(load=counts, generate=counts, idle=counts) | fields(surprise=counts),
    outcome=st.sampled_from(["Succeeded", "Failed", "Running", "Stopped", "Fine"]),
    reason=st.sampled_from(["Completed", "InternalError", "OutOfMemory", "Whim", ""]),
    step=st.sampled_from(["prepare", "answer", "score", "all"]),
)


def dumped(values: dict[str, Any]) -> str:
    whole = {
        "version": 1,
        "run": {"namespace": "team", "name": "trial", "uid": "uid-1"},
        "step": "score",
        "outcome": "Succeeded",
        "reason": "Completed",
        **values,
    }
    return json.dumps(whole)


texts = nasty | messages.map(dumped) | st.sampled_from(["[]", "null", '{"a":' * 3000, "NaN"])
short = nasty.map(lambda text: text.replace("\ud800", "")[:300])
tasks = st.fixed_dictionaries(
    {"name": short, "requestsDone": maybe_counts, "requestsTotal": maybe_counts}
)
progress = st.fixed_dictionaries(
    {
        "step": st.sampled_from(["prepare", "answer", "score"]),
        "activity": short,
        "requestsDone": maybe_counts,
        "requestsTotal": maybe_counts,
        "computed": maybe_counts,
        "restarts": maybe_counts,
        "requestsPerSecond": numbers,
        "tasks": st.lists(tasks, max_size=4),
    }
).map(Progress.model_validate)
PHASES = ["Pending", "Running", "Succeeded", "Failed", "Unknown"]
codes = st.sampled_from([0, 1, 10, 12, 30, 137, 139, -1, 10**12, None, "0"])


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """A pod of the one Job, in any state."""
    ended = {
        "exitCode": draw(codes),
        "reason": draw(nasty),
        "message": draw(texts),
        "startedAt": draw(times),
        "finishedAt": draw(times),
    }
    state = draw(
        st.sampled_from(
            [
                {"terminated": ended},
                {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                {"waiting": {"reason": ended["reason"], "message": ended["message"]}},
                {"waiting": {"reason": "ErrImagePull", "message": ended["message"]}},
                {},
            ]
        )
    )
    conditions = [
        {
            "type": kind,
            "status": draw(st.sampled_from(["True", "False", "Unknown"])),
            "lastTransitionTime": draw(times),
            "message": draw(nasty),
            "reason": draw(nasty),
        }
        for kind in draw(st.sets(st.sampled_from(["PodScheduled", "DisruptionTarget", "Odd"])))
    ]
    name = f"p{draw(st.integers(0, 10**6))}"
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "labels": {
                "lmms-eval.io/run": "trial",
                "lmms-eval.io/run-uid": draw(st.sampled_from(["uid-1", "uid-2"])),
                "lmms-eval.io/step": draw(st.sampled_from(["answer", "all", "score", "x"])),
            },
            "annotations": {
                "batch.kubernetes.io/job-completion-index": draw(nasty | st.just("0")),
                "lmms-eval.io/accelerators": draw(nasty | st.sampled_from(["1", "999999999999"])),
            },
            "ownerReferences": [{"kind": "Job", "controller": True, "uid": "job-1"}],
            "creationTimestamp": draw(times),
            "deletionTimestamp": draw(times),
        },
        "status": {
            "phase": draw(
                st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"])
            ),
            "reason": draw(nasty),
            "message": draw(nasty),
            "conditions": conditions,
            "containerStatuses": draw(
                st.sampled_from(
                    [[{"name": "runner", "imageID": draw(nasty), "state": state}], [], None]
                )
            ),
        },
    }


@st.composite
def jobs(draw: st.DrawFn, name: str) -> dict[str, Any]:
    conditions = [
        {
            "type": kind,
            "status": "True",
            "lastTransitionTime": draw(times),
            "reason": draw(st.sampled_from(["DeadlineExceeded", "PodFailurePolicy"])),
            "message": draw(nasty),
        }
        for kind in draw(st.lists(st.sampled_from(["Complete", "Failed"]), max_size=1))
    ]
    return {
        "metadata": {"name": name, "uid": "job-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {},
        "status": {
            "startTime": draw(times),
            "active": draw(st.sampled_from([None, 0, 3])),
            "succeeded": draw(st.sampled_from([None, 0, 3])),
            "failedIndexes": draw(st.sampled_from([None, "", "0-3", "x", "9" * 30])),
            "conditions": conditions,
        },
    }


def uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])


SPECS: list[tuple[str, dict[str, Any]]] = [
    ("trial-run", {"parallelism": {"acceleratorsPerShard": 0}}),
    ("trial-prepare", {}),
    ("trial-answer", {"parallelism": {"shards": 3}}),
    ("trial-score", {"activeDeadlineSeconds": 90, "startDeadlineSeconds": 86_400 * 9}),
]
STEPS = {"trial-answer": "Answer", "trial-score": "Score"}
READY = {
    name: admit(read_run(run_document(**spec)), "uid-1", {}, configuration(policy={}))[0]
    for name, spec in SPECS
}


@given(data=st.data(), which=st.sampled_from(SPECS), suspend=st.booleans())
@settings(max_examples=300, deadline=None)
def test_nothing_a_pod_says_raises_or_makes_a_status_that_is_refused(
    data: st.DataObject, which: tuple[str, dict[str, Any]], suspend: bool
) -> None:
    name, spec = which
    config = configuration(pricePerAcceleratorHour=2.5)
    status: dict[str, Any] = {"startTime": "2026-01-01T00:00:00Z"}
    status |= {"step": STEPS[name]} if name in STEPS else {}
    gone = Ledger()
    for look in range(3):
        job = data.draw(jobs(name))
        found = data.draw(
            st.lists(pods(), max_size=3, unique_by=lambda pod: pod["metadata"]["uid"])
        )
        document = {**run_document(**spec, suspend=suspend and look == 2), "status": status}
        observed = Observed(
            document,
            jobs={name: job},
            pods=found,
            progress={
                pod["metadata"]["uid"]: data.draw(progress)
                for pod in found
                if data.draw(st.booleans())
            },
            snapshot=READY[name],
            gone=gone,
        )
        now = NOW + timedelta(seconds=40 * look)
        plan = reconcile(observed, now, config)
        gone = Ledger()
        if plan.status is not None:
            check_status(status, plan.status)
            assert len(json.dumps(plan.status)) < 100_000
            status = plan.status
        assert reconcile(observed, now, config) == plan
        for event in plan.events:
            assert event.message.isprintable() or "\n" in event.message
            assert len(event.message) <= 1000
        for pod in found:
            gone = gone.plus(settle(pod, now))
        if status.get("completionTime"):
            break


@given(text=nasty)
def test_what_stands_in_a_status_is_fit_for_a_terminal(text: str) -> None:
    said = dumped(
        {
            "scores": [{"benchmark": "b", "metric": f"m{text[:50]}", "value": "1"}],
            "resultsUri": "s3://b/m.json",
            "resultsDigest": "d" * 64,
            "lmmsEval": text[:60],
            "trusted": True,
        }
    )
    ended = {"terminated": {"exitCode": 0, "message": said}}
    pod = {
        "metadata": {
            "name": "p",
            "uid": "p",
            "labels": {"lmms-eval.io/run-uid": "uid-1", "lmms-eval.io/step": "all"},
            "annotations": {},
            "ownerReferences": [{"kind": "Job", "controller": True, "uid": "job-1"}],
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [{"name": "runner", "imageID": text, "state": ended}],
        },
    }
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    job = {"metadata": {"name": "trial-run", "uid": "job-1"}, "status": {"conditions": [complete]}}
    observed = Observed(
        run_document(**SPECS[0][1]), {"trial-run": job}, [pod], snapshot=READY["trial-run"]
    )
    plan = reconcile(observed, NOW, configuration())
    assert plan.status is not None
    check_status({}, plan.status)
    for word in strings(plan.status):
        assert word.replace("\n", "").isprintable(), word


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for entry in value.values() for word in strings(entry)]
    if isinstance(value, list):
        return [word for entry in value for word in strings(entry)]
    return [value] if isinstance(value, str) else []
