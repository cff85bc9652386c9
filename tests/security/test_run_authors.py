"""A hostile run author: somebody who may create runs and Benchmarks in a namespace, and more.

At a real API server, with the operator beside it and the policy that allows nothing. All runs are
applied at once; each test looks at what became of one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from attacks import AUTHOR, Gets, attack
from siege import CONFIG, Place, run_document

from cluster.access import until

pytestmark = pytest.mark.integration

KEY = "sk-proj-0123456789abcdefghijklmnop"
TOKEN = "hf_0123456789abcdefghijklmnopqrstuv"
ENDPOINT = {"endpoint": {"url": "http://collector.example.com/v1", "model": "m"}}
S3 = {"s3": {"uri": "s3://evaluations/team-b", "secretName": "mine"}}
CODE = {"task.yaml": "task: mine\ndoc_to_text: !funct%69on mine.text\n", "mine.py": "x = 1\n"}
RUNS: dict[str, dict[str, Any]] = {
    "remote-code": {"security": {"trustRemoteCode": True}},
    "online": {"security": {"allowOnline": True}},
    "code": {
        "security": {"allowCodeExecution": True},
        "benchmarks": [{"benchmarkRef": {"name": "mine"}}],
    },
    "one-key": {"benchmarks": [{"benchmarkRef": {"name": "mine"}}]},
    "executes": {"benchmarks": [{"name": "auxsolidmath_easy"}]},
    "args": {
        "model": {
            **run_document("x")["spec"]["model"],
            "args": {
                "trust_remote_code": True,
                "base_url": "http://collector.example.com",
                "api_key": KEY,
                "token": TOKEN,
                "custom_server_url": "http://collector.example.com",
                "mcp_server_path": "/volumes/mine/server.py",
            },
        }
    },
    "endpoint": {"model": {"profile": "openai", "source": ENDPOINT}},
    "judge": {"evaluation": {"judge": {"endpoint": "http://collector.example.com/v1"}}},
    "proxy": {"answerPod": {"env": [{"name": "HTTPS_PROXY", "value": "http://evil:3128"}]}},
    "image": {"answerPod": {"image": "registry.example.com/evil:1"}},
    "pod": {
        "answerPod": {
            "serviceAccountName": "admin",
            "priorityClassName": "system-node-critical",
            "schedulerName": "mine",
            "runtimeClassName": "unconfined",
        },
        "queuePriorityClassName": "urgent",
    },
    "labels": {"answerPod": {"labels": {"lmms-eval.io/online": "true"}}},
    "store": {"results": S3},
    "unknown-store": {"results": {"store": "team-b"}},
    "pasted": {"model": {**run_document("x")["spec"]["model"], "profile": TOKEN}},
}
FORGED = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "planned-plan"},
    "data": {"plan.json": "{}", "paths.json": "{}"},
}


@pytest.fixture(scope="module")
def besieged(place: Place) -> Place:
    """The namespace, with all hostile runs applied."""
    benchmark = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": "mine"},
        "spec": {"tasks": ["mine"], "files": CODE},
    }
    assert place.create(benchmark) == ""
    assert place.create(FORGED) == ""
    documents = [run_document(name, **spec) for name, spec in RUNS.items()]
    documents.append(run_document("planned"))
    assert place.create({"apiVersion": "v1", "kind": "List", "items": documents}) == ""
    return place


def held(place: Place, gets: Gets, name: str, *fields: str) -> str:
    """The run is refused, and each field named."""
    refusal = place.refusal(name)
    for field in fields:
        assert f"{field}: " in refusal
    gets(refusal)
    return refusal


@attack(1, AUTHOR, "asks for the code that comes with weights (security.trustRemoteCode)")
def test_the_code_of_weights_needs_the_policy_too(besieged: Place, gets: Gets) -> None:
    held(besieged, gets, "remote-code", "spec.security.trustRemoteCode")


@attack(2, AUTHOR, "asks for the network for task code (security.allowOnline)")
def test_the_network_needs_the_policy_too(besieged: Place, gets: Gets) -> None:
    held(besieged, gets, "online", "spec.security.allowOnline")


@attack(
    3, AUTHOR, "brings Python in a Benchmark, its tag written as !funct%69on, with one key of two"
)
def test_python_of_a_benchmark_needs_both_keys(besieged: Place, gets: Gets) -> None:
    held(besieged, gets, "code", "spec.security.allowCodeExecution")
    refusal = held(besieged, gets, "one-key", "spec.benchmarks[0].benchmarkRef.name")
    assert "brings Python code" in refusal


@attack(4, AUTHOR, "names a benchmark of lmms-eval whose scorer evaluates answers as Python")
def test_a_scorer_that_executes_answers_needs_both_keys(besieged: Place, gets: Gets) -> None:
    refusal = held(besieged, gets, "executes", "spec.benchmarks[0].name")
    assert "evaluates answers as Python" in refusal


@attack(5, AUTHOR, "puts trust_remote_code, base_url, a server and a program into model.args")
def test_arguments_do_not_go_around_the_typed_fields(besieged: Place, gets: Gets) -> None:
    names = ("trust_remote_code", "base_url", "custom_server_url", "mcp_server_path")
    held(besieged, gets, "args", *(f"spec.model.args.{name}" for name in names))


@attack(
    6, AUTHOR, "puts an API key and a token into model.args, to have them in a plan and a status"
)
def test_a_secret_among_the_arguments_is_refused_and_shown_nowhere(
    besieged: Place, gets: Gets
) -> None:
    refusal = besieged.refusal("args")
    for name in ("api_key", "token"):
        assert f"spec.model.args.{name}: it has a field of its own" in refusal
    events = besieged.server.kubectl("-n", besieged.namespace, "get", "events", "-o", "json").stdout
    status = json.dumps(besieged.get("evaluationrun", "args")["status"])
    for place in (status, events, besieged.operator.log.read_text()):
        assert KEY not in place
        assert TOKEN not in place
    gets("refused by name; the values are in no status, Event and log line")


@attack(7, AUTHOR, "has a model server or a judge of its own choice asked from inside the cluster")
def test_servers_of_ones_own_choice_need_the_policy(besieged: Place, gets: Gets) -> None:
    held(besieged, gets, "endpoint", "spec.model.source.endpoint")
    held(besieged, gets, "judge", "spec.evaluation.judge.endpoint")


@attack(8, AUTHOR, "leads all traffic of the pods through a proxy of its own")
def test_a_proxy_needs_the_policy(besieged: Place, gets: Gets) -> None:
    assert "HTTPS_PROXY" in held(besieged, gets, "proxy", "spec.answerPod.env")


@attack(9, AUTHOR, "runs an image of its own")
def test_an_image_needs_the_policy(besieged: Place, gets: Gets) -> None:
    held(besieged, gets, "image", "spec.answerPod.image")


@attack(10, AUTHOR, "picks a service account, a priority class, a scheduler and a runtime class")
def test_what_a_pod_may_be_is_on_lists(besieged: Place, gets: Gets) -> None:
    pod = ("serviceAccountName", "priorityClassName", "schedulerName", "runtimeClassName")
    fields = [f"spec.answerPod.{name}" for name in pod]
    held(besieged, gets, "pod", *fields, "spec.queuePriorityClassName")


@attack(11, AUTHOR, "gives its pods a label that network policies let through")
def test_labels_of_the_operator_are_not_a_run_s_to_set(besieged: Place, gets: Gets) -> None:
    held(besieged, gets, "labels", "spec.answerPod.labels")


@attack(12, AUTHOR, "writes into another tenant's prefix by a store of its own, or by its name")
def test_a_store_is_one_of_the_administrator_s(besieged: Place, gets: Gets) -> None:
    held(besieged, gets, "store", "spec.results")
    held(besieged, gets, "unknown-store", "spec.results.store")


@attack(13, AUTHOR, "pastes a token into a field that is quoted in the refusal")
def test_a_token_in_the_wrong_field_is_not_quoted(besieged: Place, gets: Gets) -> None:
    refusal = besieged.refusal("pasted")
    assert "there is no profile '[secret]'" in refusal
    assert TOKEN not in json.dumps(besieged.get("evaluationrun", "pasted")["status"])
    assert TOKEN not in besieged.operator.log.read_text()
    gets(refusal[:120])


@attack(
    14,
    AUTHOR,
    "writes the ConfigMap of the plan before the operator does, to run a plan of its own",
)
def test_a_forged_plan_is_not_run(besieged: Place, gets: Gets) -> None:
    refusal = besieged.refusal("planned")
    assert refusal.startswith("NameTaken")
    assert besieged.get("configmap", "planned-plan")["data"] == FORGED["data"], "it is touched"
    gets(refusal)


@attack(
    15, AUTHOR, "sets variables that choose libraries, programs and credentials (LD_PRELOAD, …)"
)
def test_reserved_variables_do_not_pass_the_api_server(place: Place, gets: Gets) -> None:
    names = ["LD_PRELOAD", "PYTHONPATH", "AWS_ROLE_ARN", "HF_ENDPOINT", "OPENAI_BASE_URL", "PATH"]
    documents = [
        run_document(f"variable-{number}", answerPod={"env": [{"name": name, "value": "x"}]})
        for number, name in enumerate(names)
    ]
    accepted, said = place.try_all(documents)
    assert accepted == []
    assert said.count("are reserved; use the typed fields of the spec") == len(names)
    gets(said.splitlines()[0])


@attack(16, AUTHOR, "leaves its folder by a name: ../, %2e%2e, unicode, very long, empty")
def test_no_name_of_a_manifest_leaves_its_folder(place: Place, gets: Gets) -> None:
    climbing = ["../b", "a/../b", "%2e%2e", ".", "..", "/etc", "a//../b"]
    names = [*climbing, "ünï", "a" * 300, "", "A", "a\n"]
    documents = []
    for name in names:
        benchmark = {"benchmarkRef": {"name": name}}
        documents += [
            run_document("named", results={"store": name}),
            run_document("named", benchmarks=[benchmark]),
            run_document("named", cache={"volume": {"claimName": name}}),
        ]
        if name:  # kubectl itself wants one
            documents.append(run_document(name))
        if name in climbing:
            volume = {"claimName": "claim", "path": name}
            documents.append(run_document("named", cache={"volume": volume}))
    accepted, said = place.try_all(documents)
    assert accepted == []
    gets(f"{len(documents)} manifests, each refused by the API server: {said.splitlines()[0]}")

    files = {name: "task: x" for name in names if name != "A"}
    spec = {"tasks": ["x"], "files": files}
    benchmark = {"apiVersion": "lmms-eval.io/v1alpha1", "kind": "Benchmark", "spec": spec}
    said = place.create({**benchmark, "metadata": {"name": "named"}})
    assert "spec.files: Invalid value: names must match" in said
    gets(said)


@attack(17, AUTHOR, "writes its run's status: a score without an evaluation")
def test_whoever_may_edit_runs_may_not_write_their_status(besieged: Place, gets: Gets) -> None:
    server, namespace = besieged.server, besieged.namespace
    server.kubectl(
        *("-n", namespace, "create", "rolebinding", "mallory", "--clusterrole=edit"),
        "--user=mallory",
    )
    may = ("-n", namespace, "--as=mallory", "auth", "can-i")
    until(
        "the rights", lambda: server.kubectl(*may, "create", "evr", check=False).returncode == 0, 20
    )
    change = json.dumps({"status": {"phase": "Succeeded", "headline": "acc 1.0"}})
    done = server.kubectl(
        *("-n", namespace, "--as=mallory", "patch", "evr", "online", "--subresource=status"),
        *("--type=merge", "--patch", change),
        check=False,
    )
    assert done.returncode != 0
    assert "forbidden" in done.stderr
    gets(done.stderr)


@attack(
    18, AUTHOR, "names runs after the objects of other runs (t, t-plan, t-prepare, t-answer, …)"
)
def test_runs_whose_names_collide_have_objects_of_their_own(place: Place, gets: Gets) -> None:
    names = ["t", "t-plan", "t-prepare", "t-answer", "t-answer-prepare"]
    documents = [run_document(name) for name in names]
    assert place.create({"apiVersion": "v1", "kind": "List", "items": documents}) == ""
    children = {f"{name}-{kind}": name for name in names for kind in ("prepare", "plan")}

    def owners() -> dict[str, list[str]]:
        return {
            found["metadata"]["name"]: [o["uid"] for o in found["metadata"]["ownerReferences"]]
            for found in place.all("jobs,configmaps")
            if found["metadata"]["name"] in children and "ownerReferences" in found["metadata"]
        }

    until("their objects", lambda: owners().keys() == children.keys(), 30)
    uids = {run["metadata"]["name"]: [run["metadata"]["uid"]] for run in place.all("evr")}
    assert owners() == {child: uids[name] for child, name in children.items()}
    place.server.kubectl("-n", place.namespace, "delete", "evr", *names, "--wait=false")
    gets(f"{len(names)} runs, each with a Job and a ConfigMap of its own uid")


@attack(19, AUTHOR, "starts a Job in another namespace that names the run's uid as its owner")
def test_a_job_of_another_namespace_is_a_stranger(place: Place, gets: Gets) -> None:
    assert place.create(run_document("victim")) == ""
    until("its Job", lambda: place.get("job", "victim-prepare"), 30)
    uid = place.get("evaluationrun", "victim")["metadata"]["uid"]
    other = Place(place.server, place.server.namespace("mallory"), place.operator)
    labels = {"lmms-eval.io/run": "victim", "lmms-eval.io/run-uid": uid}
    owner = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "EvaluationRun",
        "name": "victim",
        "uid": uid,
        "controller": True,
    }
    container = {"name": "runner", "image": "registry.example.com/evil:1"}
    template = {
        "metadata": {"labels": {**labels, "lmms-eval.io/step": "score"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "victim-score", "labels": labels, "ownerReferences": [owner]},
        "spec": {"template": template},
    }
    assert other.create(job) == ""
    until("the run goes on", lambda: _phase(place, "victim") == "Preparing", 20)
    shards = place.get("evaluationrun", "victim")["status"].get("shards") or {}
    assert shards.get("active", 0) == 0
    assert not place.get("job", "victim-score")
    place.server.kubectl("-n", place.namespace, "delete", "evr", "victim", "--wait=false")
    gets("nothing: the run waits for the pods of its own Job, in its own namespace")


def _phase(place: Place, name: str) -> str:
    return str((place.get("evaluationrun", name).get("status") or {}).get("phase"))


def _statuses(place: Place) -> list[dict[str, Any]]:
    """Of the hostile runs."""
    found = place.all("evaluationruns")
    return [run.get("status") or {} for run in found if run["metadata"]["name"] in RUNS]


@attack(20, AUTHOR, "writes log lines of its own by way of what the operator logs")
def test_each_line_of_the_log_is_one_record_of_the_operator(besieged: Place, gets: Gets) -> None:
    until("the ends", lambda: all(one.get("completionTime") for one in _statuses(besieged)), 30)
    lines = besieged.operator.log.read_text().splitlines()  # also at U+2028 and U+0085
    assert lines
    for line in lines:
        record = json.loads(line)
        assert record.keys() <= {"time", "level", "logger", "message", "run", "error"}
    assert not [line for line in lines if json.loads(line)["level"] == "ERROR"]
    gets(f"{len(lines)} lines, each a JSON object of the operator's own")


@attack(
    21, AUTHOR, "asks for the store of its namespace, and for nothing else: what its pods are given"
)
def test_pods_are_given_their_own_namespace_s_prefix_and_secret(place: Place, gets: Gets) -> None:
    assert place.create(run_document("own")) == ""
    until("its Job", lambda: place.get("job", "own-prepare"), 30)
    template = place.get("job", "own-prepare")["spec"]["template"]
    plan = json.loads(template["metadata"]["annotations"]["lmms-eval.io/plan"])
    assert plan["store"]["uri"] == f"s3://evaluations/{place.namespace}"
    assert "{namespace}" in CONFIG["stores"]["shared"]["uri"]
    (container,) = template["spec"]["containers"]
    variables = {entry["name"]: entry for entry in container["env"]}
    secret = variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert secret["name"] == "s3"
    assert template["spec"]["automountServiceAccountToken"] is False
    place.server.kubectl("-n", place.namespace, "delete", "evr", "own", "--wait=false")
    gets(f"{plan['store']['uri']}, and the Secret {secret['name']} of {place.namespace}")
