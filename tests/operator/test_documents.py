"""The Jobs and pods of a run, as documents for the API server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from world_documents import configuration, run_document

from evalrun_api import reasons
from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import EvalrunError, Refused
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.plan import RunPlan
from evalrun_api.reading import read
from evalrun_operator.admission import admit, check_again, read_run
from evalrun_operator.decisions import Snapshot
from evalrun_operator.jobs import build_job, effective_plan, execution_digest
from evalrun_operator.snapshot import config_map, read_config_map
from evalrun_operator.steps import ALL, ANSWER, PREPARE, SCORE, StepKind, steps_of

pytestmark = pytest.mark.decisions

# Fields of batch/v1 JobSpec, core/v1 PodSpec and Container that are used: another is a slip.
JOB_SPEC = {
    "completions", "parallelism", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes",
    "completionMode", "podReplacementPolicy", "podFailurePolicy", "template",
    "activeDeadlineSeconds",
}  # fmt: skip
POD_SPEC = {
    "restartPolicy", "automountServiceAccountToken", "enableServiceLinks",
    "terminationGracePeriodSeconds", "securityContext", "containers", "volumes", "tolerations",
    "nodeSelector", "affinity", "priorityClassName", "serviceAccountName", "runtimeClassName",
    "schedulerName", "imagePullSecrets",
}  # fmt: skip
CONTAINER = {
    "name", "image", "command", "args", "env", "envFrom", "resources", "ports", "securityContext",
    "volumeMounts", "imagePullPolicy",
}  # fmt: skip

OPEN = {
    "policy": {
        "allowImageOverride": True,
        "allowEndpoints": True,
        "allowInlineStores": True,
        "allowCodeExecution": True,
        "serviceAccounts": ["runner"],
        "priorityClasses": ["low"],
        "schedulers": ["volcano"],
        "runtimeClasses": ["nvidia"],
    }
}
SHAPES = read(
    Benchmark,
    {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": "shapes"},
        "spec": {
            "tasks": ["shapes"],
            "files": {"shapes.yaml": "task: shapes\n", "utils.py": "LIMIT = 1\n"},
            "data": {"volume": {"claimName": "shapes-data", "path": "v1"}},
        },
    },
)


def job(kind: StepKind, config: OperatorConfig | None = None, **spec: Any) -> dict[str, Any]:
    config = config or configuration(**OPEN)
    document = run_document(**spec)
    run = read_run(document)
    custom = (
        {"shapes": SHAPES} if any("benchmarkRef" in b for b in spec.get("benchmarks", ())) else {}
    )
    snapshot, data = admit(run, "uid-1", custom, config)
    assert read_config_map(config_map(document, data)) == snapshot
    plan = effective_plan(snapshot, run)
    remaining = run.spec.active_deadline_seconds
    built = build_job(document, run, kind, plan, snapshot, config, remaining)
    check(built)
    assert json.loads(json.dumps(built)) == built
    return built


def check(built: dict[str, Any]) -> None:
    """What the API server would find, as far as it can be said without one."""
    assert set(built["spec"]) <= JOB_SPEC
    spec = pod(built)
    assert set(spec) <= POD_SPEC
    container = spec["containers"][0]
    assert set(container) <= CONTAINER
    names = [volume["name"] for volume in spec["volumes"]]
    assert len(names) == len(set(names))
    assert {mount["name"] for mount in container["volumeMounts"]} == set(names)
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert len(paths) == len(set(paths))
    variables = [entry["name"] for entry in container["env"]]
    assert len(variables) == len(set(variables))
    assert all(value for value in built["metadata"]["labels"].values())


def pod(built: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = built["spec"]["template"]["spec"]
    return found


def container(built: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(built)["containers"][0]
    return found


def environment(built: dict[str, Any]) -> dict[str, Any]:
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom"))
        for entry in container(built)["env"]
    }


def mounted(built: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in container(built)["volumeMounts"]}


def option(built: dict[str, Any], name: str) -> str:
    arguments: list[str] = container(built)["args"]
    return arguments[arguments.index(name) + 1]


@pytest.mark.parametrize("text", ["", "[", "[]", "7", "[" * 500_000], ids=lambda text: text[:2])
def test_a_snapshot_whose_paths_are_no_paths_is_damaged(text: str) -> None:
    document = run_document()
    _, data = admit(read_run(document), "uid-1", {}, configuration())
    with pytest.raises(EvalrunError) as damaged:
        read_config_map(config_map(document, {**data, "paths.json": text}))
    assert damaged.value.reason is reasons.CORRUPT_STORE


# Which steps there are


@pytest.mark.parametrize(
    ("parallelism", "kinds"),
    [
        ({}, (PREPARE, ANSWER, SCORE)),
        ({"shards": 4}, (PREPARE, ANSWER, SCORE)),
        ({"acceleratorsPerShard": 0}, (ALL,)),
        ({"acceleratorsPerShard": 0, "shards": 2}, (PREPARE, ANSWER, SCORE)),
    ],
)
def test_one_shard_without_accelerators_is_one_job(
    parallelism: dict[str, Any], kinds: tuple[StepKind, ...]
) -> None:
    run = read_run(run_document(parallelism=parallelism))
    snapshot, _ = admit(run, "uid-1", {}, configuration())
    assert steps_of(effective_plan(snapshot, run)) == kinds


# The Job


def test_only_the_answering_pods_hold_accelerators() -> None:
    for kind, held in ((PREPARE, 0), (ANSWER, 2), (SCORE, 0)):
        built = job(kind, parallelism={"acceleratorsPerShard": 2, "resourceName": "amd.com/gpu"})
        limits = container(built)["resources"]["limits"]
        assert limits.get("amd.com/gpu") == (str(held) if held else None)
        annotations = built["spec"]["template"]["metadata"]["annotations"]
        assert annotations["lmms-eval.io/accelerators"] == str(held)


def test_the_answer_job_has_a_pod_for_each_shard_and_stops_at_the_first_that_fails() -> None:
    spec = job(ANSWER, parallelism={"shards": 3}, retryLimit=5)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (5, 0)
    assert "backoffLimit" not in spec
    single = job(SCORE, retryLimit=5)["spec"]
    assert (single["completions"], single["backoffLimit"]) == (1, 5)
    assert "completionMode" not in single


def test_a_shard_knows_its_number_before_its_arguments_name_it() -> None:
    built = job(ANSWER, parallelism={"shards": 3})
    assert option(built, "--shard") == "$(JOB_COMPLETION_INDEX)"
    assert "JOB_COMPLETION_INDEX" in environment(built)
    assert "--shard" not in container(job(SCORE))["args"]


def test_what_a_failed_pod_means_is_decided_in_order() -> None:
    rules = job(ANSWER)["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob", "Ignore"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["values"] == [10, 11, 12, 13]
    assert rules[2]["onExitCodes"]["values"] == [30]


@pytest.mark.parametrize("seconds", [1, 3600, 10**15])
def test_a_deadline_fits_into_what_the_job_controller_counts_in(seconds: int) -> None:
    spec = job(ANSWER, activeDeadlineSeconds=seconds)["spec"]
    assert spec["activeDeadlineSeconds"] == min(seconds, 2**31 - 1)
    assert "activeDeadlineSeconds" not in job(ANSWER)["spec"]


def test_a_job_is_owned_by_its_run_and_named_after_it() -> None:
    built = job(ANSWER)
    assert built["metadata"]["name"] == "trial-answer"
    assert built["metadata"]["namespace"] == "team"
    (reference,) = built["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["controller"]) == ("uid-1", True)
    assert "blockOwnerDeletion" not in reference
    labels = built["spec"]["template"]["metadata"]["labels"]
    assert labels["lmms-eval.io/run"] == "trial"
    assert labels["lmms-eval.io/run-uid"] == "uid-1"
    assert labels["lmms-eval.io/step"] == "answer"


def test_the_plan_travels_in_the_pod() -> None:
    built = job(ANSWER, parallelism={"shards": 3})
    annotation = built["spec"]["template"]["metadata"]["annotations"]["lmms-eval.io/plan"]
    plan = RunPlan.model_validate_json(annotation)
    assert (plan.shards, plan.accelerators, plan.run.uid) == (3, 1, "uid-1")
    assert option(built, "--plan") == "/plan/plan.json"
    assert "/plan" in mounted(built)


# What may change while a run is suspended, and what may not


def test_how_work_is_spread_follows_the_spec_and_the_rest_the_snapshot() -> None:
    config = configuration()
    run = read_run(run_document())
    snapshot, _ = admit(run, "uid-1", {}, config)
    later = read_run(
        run_document(parallelism={"shards": 7, "acceleratorsPerShard": 4}, cache={"offline": True})
    )
    plan = effective_plan(snapshot, later)
    assert (plan.shards, plan.accelerators, plan.offline) == (7, 4, True)
    assert plan.model == snapshot.plan.model


def test_a_profile_of_a_later_release_does_not_change_the_accelerators_of_a_run() -> None:
    run = read_run(run_document())
    snapshot, data = admit(run, "uid-1", {}, configuration())
    old = Snapshot(snapshot.plan.model_copy(update={"accelerators": 3}), data, "")
    assert effective_plan(old, run).accelerators == 3


def spread(began: dict[str, Any], now: dict[str, Any], source: str = "") -> tuple[int, int, int]:
    """Shards, accelerators and workers of a run that began so, and is resumed so."""
    named = {"profile": "llava_hf", "source": {"huggingFace": {"repo": source}}}
    model = {"model": named} if source else {}
    snapshot, _ = admit(
        read_run(run_document(parallelism=began, **model)), "uid-1", {}, configuration()
    )
    plan = effective_plan(snapshot, read_run(run_document(parallelism=now, **model)))
    assert plan.asks_the_same(snapshot.plan)
    return plan.shards, plan.accelerators, plan.workers


@pytest.mark.parametrize(
    ("began", "now", "found"),
    [
        # The model of 7 B takes one accelerator: each one more is one more worker.
        ({}, {}, (1, 1, 1)),
        ({"acceleratorsPerShard": 2}, {"acceleratorsPerShard": 4}, (1, 4, 4)),
        ({"acceleratorsPerShard": 4}, {"acceleratorsPerShard": 2, "shards": 3}, (3, 2, 2)),
        ({"acceleratorsPerShard": 4}, {"acceleratorsPerShard": 4, "acceleratorsPerWorker": 2},
         (1, 4, 2)),
        ({"acceleratorsPerShard": 4, "acceleratorsPerWorker": 2},
         {"acceleratorsPerShard": 8, "acceleratorsPerWorker": 2}, (1, 8, 4)),
        # Three do not divide into workers of two: all of them are one's, as admission would say.
        ({"acceleratorsPerShard": 4, "acceleratorsPerWorker": 2},
         {"acceleratorsPerShard": 3}, (1, 3, 1)),
        ({"acceleratorsPerShard": 0, "workersPerShard": 3},
         {"acceleratorsPerShard": 0, "shards": 2, "workersPerShard": 2}, (2, 0, 2)),
        ({"acceleratorsPerShard": 0, "workersPerShard": 3}, {"acceleratorsPerShard": 0}, (1, 0, 1)),
    ],
)  # fmt: skip
def test_a_resumed_run_has_the_workers_that_its_accelerators_make(
    began: dict[str, Any], now: dict[str, Any], found: tuple[int, int, int]
) -> None:
    assert spread(began, now) == found


def test_a_model_that_needs_two_accelerators_gets_two_a_worker_when_resumed_with_more() -> None:
    large = "llava-hf/llava-v1.6-34b-hf"
    assert spread({}, {"acceleratorsPerShard": 4}, large) == (1, 4, 2)


def test_pods_read_the_workers_from_the_plan_and_a_change_makes_another_job() -> None:
    built = job(ANSWER, parallelism={"shards": 2, "acceleratorsPerShard": 4})
    annotation = built["spec"]["template"]["metadata"]["annotations"]["lmms-eval.io/plan"]
    assert RunPlan.model_validate_json(annotation).workers == 4
    before = read_run(run_document())
    for change in ({"stallSeconds": 60}, {"parallelism": {"workersPerShard": 1}}):
        assert execution_digest(read_run(run_document(**change))) != execution_digest(before)


@pytest.mark.parametrize(("each", "refused"), [(1, False), (2, True)])
def test_a_worker_is_not_given_accelerators_that_its_plan_would_leave_idle(
    each: int, refused: bool
) -> None:
    began = {"acceleratorsPerShard": 4, "acceleratorsPerWorker": 1}
    snapshot, _ = admit(read_run(run_document(parallelism=began)), "uid-1", {}, configuration())
    now = read_run(run_document(parallelism={**began, "acceleratorsPerWorker": each}))
    plan = effective_plan(snapshot, now)
    if not refused:
        check_again(now, "uid-1", snapshot.plan, plan, configuration())
        return
    with pytest.raises(Refused, match="acceleratorsPerWorker: a worker had 1 accelerator"):
        check_again(now, "uid-1", snapshot.plan, plan, configuration())


def test_stall_seconds_follow_the_spec_of_a_resumed_run() -> None:
    snapshot, _ = admit(read_run(run_document()), "uid-1", {}, configuration())
    assert effective_plan(snapshot, read_run(run_document(stallSeconds=60))).stall_seconds == 60


# The pod


@pytest.mark.parametrize(
    ("parallelism", "cpu", "memory", "threads"),
    [
        ({}, "4", "32Gi", "4"),
        ({"acceleratorsPerShard": 4}, "16", "128Gi", "4"),
        ({"acceleratorsPerShard": 4, "acceleratorsPerWorker": 4}, "16", "32Gi", "16"),
        ({"acceleratorsPerShard": 0}, "2", "32Gi", "2"),
        ({"acceleratorsPerShard": 0, "workersPerShard": 3}, "6", "96Gi", "2"),
    ],
)
def test_each_worker_has_the_cpus_and_the_memory_of_one_model(
    parallelism: dict[str, int], cpu: str, memory: str, threads: str
) -> None:
    built = job(ANSWER, parallelism=parallelism)
    resources = container(built)["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["memory"]) == (cpu, memory)
    assert environment(built)["OMP_NUM_THREADS"] == threads
    prepare = container(job(PREPARE, parallelism=parallelism))["resources"]
    assert prepare["requests"] == {"cpu": "1", "memory": "4Gi"}


def test_a_run_s_own_resources_are_of_the_pod_however_many_workers_it_has() -> None:
    built = job(
        ANSWER,
        parallelism={"acceleratorsPerShard": 4},
        answerPod={"resources": {"cpu": "6", "memory": "50Gi"}},
    )
    assert container(built)["resources"]["requests"] == {"cpu": "6", "memory": "50Gi"}
    assert environment(built)["OMP_NUM_THREADS"] == "1"


def test_pods_meet_the_restricted_standard() -> None:
    for kind in (PREPARE, ANSWER, SCORE, ALL):
        spec = pod(job(kind))
        assert spec["automountServiceAccountToken"] is False
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] != 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        inner = spec["containers"][0]["securityContext"]
        assert inner["allowPrivilegeEscalation"] is False
        assert inner["readOnlyRootFilesystem"] is True
        assert inner["capabilities"] == {"drop": ["ALL"]}
        assert not any("hostPath" in volume for volume in spec["volumes"])


@pytest.mark.parametrize(
    ("kind", "image"),
    [(PREPARE, "runner-cpu:1"), (ANSWER, "runner:1"), (SCORE, "runner-cpu:1"), (ALL, "runner:1")],
)
def test_steps_without_a_model_run_on_the_light_image(kind: StepKind, image: str) -> None:
    assert container(job(kind))["image"] == image
    bare = configuration(images={"runner": "runner:1"})
    assert container(job(kind, bare))["image"] == "runner:1"


def test_all_steps_find_the_same_lmms_eval_in_an_image_of_the_run() -> None:
    own = {"answerPod": {"image": "mine:1", "imagePullSecrets": ["pull"]}}
    for kind in (PREPARE, ANSWER, SCORE):
        built = job(kind, **own)
        assert container(built)["image"] == "mine:1"
        assert pod(built)["imagePullSecrets"] == [{"name": "pull"}]
    assert container(job(SCORE, **own, scorePod={"image": "s:1"}))["image"] == "s:1"


def test_secrets_of_the_store_are_referenced_and_never_read() -> None:
    for kind in (PREPARE, ANSWER, SCORE):
        found = environment(job(kind))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert found[name] == {"secretKeyRef": {"name": "s3", "key": name}}
    anonymous = configuration(stores={"team": {"uri": "s3://evaluations"}})
    assert "AWS_ACCESS_KEY_ID" not in environment(job(ANSWER, anonymous))


def test_a_token_of_the_hub_comes_from_its_secret() -> None:
    source = {"repo": "a/b", "tokenSecret": {"name": "hub", "key": "token"}}
    built = job(PREPARE, model={"profile": "llava_hf", "source": {"huggingFace": source}})
    assert environment(built)["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}


@pytest.mark.parametrize("secret", [None, {"name": "api", "key": "key"}])
def test_a_server_is_asked_with_its_key_or_with_none(secret: dict[str, str] | None) -> None:
    endpoint = {"url": "http://vllm:8000/v1", "model": "m"} | ({"secret": secret} if secret else {})
    built = job(ALL, model={"profile": "openai", "source": {"endpoint": endpoint}})
    expected: Any = {"secretKeyRef": secret} if secret else "none"
    assert environment(built)["OPENAI_API_KEY"] == expected
    assert "nvidia.com/gpu" not in container(built)["resources"]["limits"]


def test_the_judge_s_key_is_in_the_pod_that_scores_alone() -> None:
    judge = {
        "endpoint": "https://judge.example/v1",
        "secret": {"name": "judge", "key": "token"},
    }
    name, given = "EVALRUN_JUDGE_API_KEY", {"secretKeyRef": {"name": "judge", "key": "token"}}
    for kind in (PREPARE, ANSWER):
        assert name not in environment(job(kind, evaluation={"judge": judge}))
    cpu = {"acceleratorsPerShard": 0}
    found = [job(SCORE, evaluation={"judge": judge})]
    found.append(job(ALL, evaluation={"judge": judge}, parallelism=cpu))
    assert [environment(built)[name] for built in found] == [given, given]
    del judge["secret"]
    assert name not in environment(job(SCORE, evaluation={"judge": judge}))


def test_secrets_as_environment_come_behind_a_prefix() -> None:
    built = job(ANSWER, answerPod={"envFrom": [{"secretName": "keys"}]})
    (source,) = container(built)["envFrom"]
    assert source == {"prefix": "EVALRUN_FROM_", "secretRef": {"name": "keys"}}


def test_variables_of_a_run_do_not_displace_the_operator_s() -> None:
    source = {"endpoint": {"url": "http://x/v1", "model": "m", "secret": {"name": "k", "key": "v"}}}
    env = [{"name": name, "value": "1"} for name in ("MINE", "OMP_NUM_THREADS", "OPENAI_API_KEY")]
    spec = {"model": {"profile": "openai", "source": source}, "answerPod": {"env": env}}
    found = environment(job(ALL, **spec))
    assert found["MINE"] == found["OMP_NUM_THREADS"] == "1"
    assert found["OPENAI_API_KEY"] == {"secretKeyRef": {"name": "k", "key": "v"}}


def test_what_a_run_sets_does_not_choose_the_program_that_runs() -> None:
    assert container(job(ANSWER))["command"] == ["/opt/evalrun/bin/evalrun-runner"]
    given = {entry["name"] for entry in container(job(ANSWER))["env"]}
    free = {"OMP_NUM_THREADS"}
    for name in given - free:
        with pytest.raises(Refused, match="are reserved"):
            job(ANSWER, answerPod={"env": [{"name": name, "value": "x"}]})


def test_claims_are_mounted_where_the_runner_looks() -> None:
    built = job(
        ANSWER,
        model={
            "profile": "llava_hf",
            "source": {"volume": {"claimName": "weights", "path": "llava"}},
        },
        benchmarks=[{"benchmarkRef": {"name": "shapes"}}],
        results={"volume": {"claimName": "out", "path": "trial"}},
        cache={"volume": {"claimName": "cache", "path": "hub"}},
        security={"allowCodeExecution": True},
    )
    found = mounted(built)
    assert found["/volumes/weights"]["readOnly"] is True
    assert found["/volumes/shapes-data"]["readOnly"] is True
    assert "readOnly" not in found["/volumes/out"]
    assert found["/cache"]["subPath"] == "hub"
    assert environment(built)["HF_HOME"] == "/cache/huggingface"
    (files,) = [volume for volume in pod(built)["volumes"] if "configMap" in volume]
    paths = {item["path"] for item in files["configMap"]["items"]}
    assert paths == {"shapes/shapes.yaml", "shapes/utils.py"}
    assert "AWS_ACCESS_KEY_ID" not in environment(built)


def test_a_claim_that_is_read_and_written_is_mounted_once_and_writable() -> None:
    volume = {"claimName": "all", "path": "x"}
    built = job(
        ANSWER,
        model={"profile": "llava_hf", "source": {"volume": volume}},
        results={"volume": volume},
        cache={"volume": {"claimName": "all"}},
    )
    claims = [v for v in pod(built)["volumes"] if "persistentVolumeClaim" in v]
    assert len(claims) == 1
    assert "readOnly" not in mounted(built)["/volumes/all"]


@pytest.mark.parametrize(
    ("cpu", "threads"),
    [("500m", "1"), ("2", "2"), ("3.9", "3"), ("1k", "1000"), ("16Ki", "1024"), ("0", "1")],
)
def test_threads_follow_the_cpus_in_whatever_unit_they_are_asked_for(
    cpu: str, threads: str
) -> None:
    built = job(ANSWER, answerPod={"resources": {"cpu": cpu}})
    assert environment(built)["OMP_NUM_THREADS"] == threads
    assert container(built)["resources"]["requests"]["cpu"] == cpu


def test_what_a_run_says_of_its_pods_reaches_them() -> None:
    built = job(
        ANSWER,
        answerPod={
            "resources": {"cpu": "8", "memory": "64Gi", "ephemeralStorage": "100Gi"},
            "sharedMemory": "8Gi",
            "terminationGracePeriodSeconds": 300,
            "runAsUser": 1000,
            "fsGroup": 2000,
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}],
            "priorityClassName": "low",
            "serviceAccountName": "runner",
            "runtimeClassName": "nvidia",
            "schedulerName": "volcano",
            "imagePullPolicy": "Always",
        },
    )
    spec = pod(built)
    assert spec["terminationGracePeriodSeconds"] == 300
    assert option(built, "--grace-seconds") == "280"
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["fsGroup"]) == (
        1000,
        2000,
    )
    assert spec["nodeSelector"] == {"zone": "a"}
    assert spec["priorityClassName"] == "low"
    assert [entry["key"] for entry in spec["tolerations"]] == [
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/not-ready",
    ]
    limits = container(built)["resources"]["limits"]
    assert (limits["memory"], limits["ephemeral-storage"]) == ("64Gi", "100Gi")
    assert "cpu" not in limits
    (shm,) = [volume for volume in spec["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_labels_and_annotations_of_a_run_stand_on_its_pods() -> None:
    entries = {"team": "vision", "karpenter.sh/do-not-disrupt": "true"}
    built = job(ANSWER, answerPod={"labels": entries, "annotations": entries})
    metadata = built["spec"]["template"]["metadata"]
    assert metadata["labels"].items() >= entries.items()
    assert metadata["annotations"].items() >= entries.items()
