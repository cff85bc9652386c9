"""What a run is refused for, in words that name the field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from world_documents import configuration, run_document

from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import Refused
from evalrun_api.reading import read
from evalrun_api.spec import EvaluationRun
from evalrun_operator import admission
from evalrun_operator.admission import admit, check_again, read_run
from evalrun_operator.decisions import Observed
from evalrun_operator.jobs import effective_plan
from evalrun_operator.reconcile import reconcile

pytestmark = pytest.mark.decisions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HUB = {"huggingFace": {"repo": "a/b"}}
ENDPOINT = {"endpoint": {"url": "http://x/v1", "model": "m"}}
S3 = {"uri": "s3://mine"}

FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("image", {"answerPod": {"image": "x"}}, "spec.answerPod.image: the administrator's policy"),
    ("account", {"scorePod": {"serviceAccountName": "x"}}, "spec.scorePod.serviceAccountName: 'x'"),
    ("priority", {"preparePod": {"priorityClassName": "x"}}, "spec.preparePod.priorityClassName"),
    ("scheduler", {"answerPod": {"schedulerName": "x"}}, "spec.answerPod.schedulerName"),
    ("runtime", {"answerPod": {"runtimeClassName": "x"}}, "spec.answerPod.runtimeClassName"),
    *(
        (f"{kind} {name}", {"answerPod": {kind: {name: "x"}}}, f"spec.answerPod.{kind}: '{name}'")
        for kind in ("labels", "annotations")
        for name in ("lmms-eval.io/run-uid", "batch.kubernetes.io/x", "x.k8s.io/y", "job-name")
    ),
    ("server", {"model": {"profile": "openai", "source": ENDPOINT}}, "spec.model.source.endpoint"),
    *(
        (name, {"answerPod": {"env": [{"name": name, "value": "x"}]}}, f"answerPod.env: {name}")
        for name in ("HTTPS_PROXY", "http_proxy", "All_Proxy")
    ),
    ("inline s3", {"results": {"s3": S3}}, "spec.results: the administrator's policy"),
    ("inline volume", {"results": {"volume": {"claimName": "x"}}}, "spec.results: the adm"),
    ("remote code", {"security": {"trustRemoteCode": True}}, "spec.security.trustRemoteCode"),
    ("online", {"security": {"allowOnline": True}}, "spec.security.allowOnline"),
    ("code", {"security": {"allowCodeExecution": True}}, "spec.security.allowCodeExecution"),
    ("store", {"results": {"store": "taem"}}, "there is no store 'taem'; did you mean team?"),
    ("benchmark", {"benchmarks": [{"name": "mmee"}]}, "'mmee'"),
    ("profile", {"model": {"profile": "llava_h", "source": HUB}}, "no profile 'llava_h'"),
    ("backend", {"model": {"backend": "lava_hf", "source": HUB}}, "no backend 'lava_hf'"),
    (
        "argument",
        {"model": {"profile": "llava_hf", "source": HUB, "args": {"token": "x"}}},
        "token",
    ),
    (
        "idle accelerators",
        {
            "model": {"profile": "openai", "source": ENDPOINT},
            "parallelism": {"acceleratorsPerShard": 1},
        },
        "1 accelerators would stand idle",
    ),
]
UNREADABLE: list[tuple[str, dict[str, Any], str]] = [
    ("reserved", {"answerPod": {"env": [{"name": "HF_HOME", "value": "x"}]}}, "are reserved"),
    ("no benchmark", {"benchmarks": []}, "spec.benchmarks"),
    ("unknown field", {"paralelism": {}}, "there is no such field; did you mean parallelism?"),
    ("shards", {"parallelism": {"shards": 0}}, "spec.parallelism.shards"),
]


@pytest.mark.parametrize(
    ("spec", "text"),
    [entry[1:] for entry in FAULTS + UNREADABLE],
    ids=[entry[0] for entry in FAULTS + UNREADABLE],
)
def test_a_run_that_is_refused_fails_at_once_and_says_which_field(
    spec: dict[str, Any], text: str, show_message: Callable[[object, str], None]
) -> None:
    plan = reconcile(Observed(run_document(**spec)), NOW, configuration())
    assert plan.actions == ()
    assert plan.status is not None
    assert plan.status["phase"] == "Failed"
    (failed,) = (entry for entry in plan.status["conditions"] if entry["type"] == "Failed")
    assert text in failed["message"]
    assert plan.urgent
    assert [event.type for event in plan.events] == ["Warning"]
    show_message(failed["reason"], failed["message"])


def test_every_fault_of_a_run_is_told_at_once() -> None:
    spec = {
        "answerPod": {"image": "x"},
        "results": {"store": "none"},
        "security": {"allowOnline": True},
        "benchmarks": [{"name": "nothing"}],
    }
    with pytest.raises(Refused) as caught:
        admit(read_run(run_document(**spec)), "uid-1", {}, configuration())
    assert {fault.where for fault in caught.value.faults} >= {
        "spec.answerPod.image",
        "spec.results.store",
        "spec.security.allowOnline",
    }


def test_what_the_policy_allows_is_admitted() -> None:
    config = configuration(
        policy={"allowImageOverride": True, "serviceAccounts": ["runner"]}, defaultStore="team"
    )
    pods = {"image": "x", "serviceAccountName": "runner"}
    snapshot, _ = admit(read_run(run_document(answerPod=pods)), "uid-1", {}, config)
    assert snapshot.plan.store.uri == "s3://evaluations/team"


def test_a_run_without_a_store_is_told_which_there_are() -> None:
    config = configuration(defaultStore=None)
    with pytest.raises(Refused, match="Stores of this cluster: team"):
        admit(read_run(run_document()), "uid-1", {}, config)


def test_benchmarks_that_do_not_fit_into_a_config_map_are_refused_before_they_are_read_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "make_plan", None)  # it makes digests of them all
    files = {f"f{number}.txt": "x" * 70_000 for number in range(7)}
    customs = {
        name: read(
            Benchmark,
            {
                "apiVersion": "lmms-eval.io/v1alpha1",
                "kind": "Benchmark",
                "metadata": {"name": name},
                "spec": {"tasks": [name], "files": {**files, "task.yaml": f"task: {name}\n"}},
            },
        )
        for name in ("shapes", "colours")
    }
    spec = {"benchmarks": [{"benchmarkRef": {"name": name}} for name in customs]}
    with pytest.raises(Refused, match="fit into a run"):
        admit(read_run(run_document(**spec)), "uid-1", customs, configuration())


# Before each Job

CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("image", {"scorePod": {"image": "x"}}, "spec.scorePod.image"),
    ("accelerators", {"parallelism": {"acceleratorsPerShard": 1}}, "would stand idle"),
]


@pytest.mark.parametrize(("spec", "text"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_what_a_suspended_run_may_change_is_checked_again(spec: dict[str, Any], text: str) -> None:
    config = configuration(policy={"allowEndpoints": True})
    base = {"model": {"profile": "openai", "source": ENDPOINT}}
    run = read_run(run_document(**base))
    snapshot, _ = admit(run, "uid-1", {}, config)
    check_again(run, "uid-1", snapshot.plan, effective_plan(snapshot, run), config)
    changed = read_run(run_document(**base, **spec))
    with pytest.raises(Refused, match=text):
        check_again(changed, "uid-1", snapshot.plan, effective_plan(snapshot, changed), config)


@pytest.mark.parametrize("spread", [{"shards": 3}, {"workersPerShard": 2}])
def test_a_run_that_counts_its_tokens_is_not_spread_when_it_is_resumed(
    spread: dict[str, Any],
) -> None:
    config = configuration(policy={"allowEndpoints": True})
    model = {"profile": "openai", "source": ENDPOINT}
    base = {"model": model, "evaluation": {"maxTokens": 1000}}
    run = read_run(run_document(**base))
    snapshot, _ = admit(run, "uid-1", {}, config)
    check_again(run, "uid-1", snapshot.plan, effective_plan(snapshot, run), config)
    changed = read_run(run_document(**base, parallelism=spread))
    with pytest.raises(Refused, match=r"spec\.evaluation\.maxTokens"):
        check_again(changed, "uid-1", snapshot.plan, effective_plan(snapshot, changed), config)


@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 2)])
def test_accelerators_do_not_come_to_or_go_from_a_run_that_has_begun(
    before: int, after: int
) -> None:
    model = {"backend": "qwen2_5_vl", "source": HUB, "size": "7B"}

    def spread(number: int) -> EvaluationRun:
        parallelism = {"acceleratorsPerShard": number}
        return read_run(run_document(model=model, parallelism=parallelism))

    snapshot, _ = admit(spread(before), "uid-1", {}, configuration())
    for number in {before, 4 * before}:
        again = spread(number)
        plan = effective_plan(snapshot, again)
        check_again(again, "uid-1", snapshot.plan, plan, configuration())
    changed = spread(after)
    plan = effective_plan(snapshot, changed)
    with pytest.raises(Refused, match="not to or from 0"):
        check_again(changed, "uid-1", snapshot.plan, plan, configuration())


def test_a_store_that_is_no_longer_configured_stops_a_run_with_words() -> None:
    run = read_run(run_document())
    snapshot, _ = admit(run, "uid-1", {}, configuration())
    without = configuration(stores={"other": S3}, defaultStore="other")
    stated = read_run(run_document(results={"store": "team"}))
    with pytest.raises(Refused, match="there is no store 'team'"):
        check_again(stated, "uid-1", snapshot.plan, snapshot.plan, without)


@pytest.mark.parametrize(
    "change",
    [
        {"run": {"namespace": "team", "name": "trial", "uid": "uid-2"}},
        {"run": {"namespace": "theirs", "name": "trial", "uid": "uid-1"}},
        {"security": {"trustRemoteCode": True}},
    ],
    ids=["uid", "namespace", "security"],
)
def test_a_plan_that_somebody_else_put_into_the_config_map_is_refused(
    change: dict[str, Any],
) -> None:
    run = read_run(run_document())
    snapshot, _ = admit(run, "uid-1", {}, configuration())
    forged = type(snapshot.plan).model_validate(snapshot.plan.document() | change)
    with pytest.raises(Refused, match="a plan that is not this run's"):
        check_again(run, "uid-1", forged, forged, configuration())
