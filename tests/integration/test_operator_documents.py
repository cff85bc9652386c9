"""What the operator writes, at a real API server: its Jobs and pods, and every status of a life."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cluster.control_plane import ControlPlane
from evalrun_operator.admission import admit, read_run
from evalrun_operator.jobs import build_job, effective_plan
from evalrun_operator.snapshot import config_map
from evalrun_operator.steps import ALL, ANSWER, PREPARE, SCORE, StepKind

sys.path.append(str(Path(__file__).parents[1] / "operator"))

from world import STUCK, Fate, World, condition
from world_documents import configuration, run_document
from world_process import Process

pytestmark = pytest.mark.integration

OPEN = {
    "allowImageOverride": True,
    "allowInlineStores": True,
    "serviceAccounts": ["runner"],
    "priorityClasses": ["system-node-critical"],
}
FULL: dict[str, Any] = {
    "parallelism": {"shards": 3, "acceleratorsPerShard": 2},
    "results": {"volume": {"claimName": "out", "path": "trial"}},
    "cache": {"volume": {"claimName": "cache", "path": "hub"}},
    "activeDeadlineSeconds": 10**12,
    "answerPod": {
        "image": "mine:1",
        "resources": {"cpu": "8", "memory": "64Gi", "ephemeralStorage": "100Gi"},
        "sharedMemory": "8Gi",
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "serviceAccountName": "runner",
        "imagePullSecrets": ["pull"],
        "env": [{"name": "MINE", "value": "1"}],
        "envFrom": [{"secretName": "keys"}],
        "labels": {"team": "vision"},
    },
}


@pytest.fixture(scope="module")
def namespace(api_server: ControlPlane) -> str:
    name = api_server.namespace("documents")
    label = "pod-security.kubernetes.io/enforce=restricted"
    api_server.kubectl("label", "namespace", name, label)
    api_server.kubectl("-n", name, "create", "serviceaccount", "runner")
    return name


def dry_run(server: ControlPlane, namespace: str, document: dict[str, Any]) -> None:
    document = {**document, "metadata": {**document["metadata"], "namespace": namespace}}
    server.kubectl(
        *("-n", namespace, "create", "--dry-run=server", "--validate=strict", "-f", "-"),
        input=json.dumps(document),
    )


@pytest.mark.parametrize("kind", [PREPARE, ANSWER, SCORE, ALL], ids=lambda kind: kind.command)
@pytest.mark.parametrize("spec", [{}, FULL], ids=["plain", "full"])
def test_jobs_and_their_pods_are_accepted_under_the_restricted_standard(
    api_server: ControlPlane, namespace: str, kind: StepKind, spec: dict[str, Any]
) -> None:
    config = configuration(policy=OPEN)
    document = run_document(**spec)
    run = read_run(document)
    snapshot, data = admit(run, "uid-1", {}, config)
    plan = effective_plan(snapshot, run)
    job = build_job(document, run, kind, plan, snapshot, config, run.spec.active_deadline_seconds)
    dry_run(api_server, namespace, job)
    dry_run(api_server, namespace, config_map(document, data))
    template = job["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "trial"}
    dry_run(api_server, namespace, pod)


def test_a_pod_with_an_identity_of_its_own_is_accepted_under_it_too(
    api_server: ControlPlane, namespace: str
) -> None:
    role = "arn:aws:iam::123456789012:role/evaluations-{namespace}"
    store = {"uri": "s3://evaluations/{namespace}", "webIdentity": {"roleArn": role}}
    config = configuration(stores={"team": store})
    document = run_document()
    run = read_run(document)
    snapshot, _ = admit(run, "uid-1", {}, config)
    plan = effective_plan(snapshot, run)
    job = build_job(document, run, ANSWER, plan, snapshot, config, None)
    template = job["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "trial"}
    dry_run(api_server, namespace, pod)


@cache
def lives() -> dict[str, World]:
    """Worlds whose runs have gone through most of what there is."""
    quiet = World()
    quiet.put("EvaluationRun", run_document(parallelism={"shards": 3}))
    disturbed = World(
        fates={"answer": [STUCK, STUCK, Fate(exit_code=143, disrupted=True)] + [Fate()] * 9}
    )
    disturbed.put("EvaluationRun", run_document(parallelism={"shards": 3}))
    failing = World(fates={"all": [Fate(exit_code=12, exit_reason="Error", message="\x1b x")]})
    failing.put("EvaluationRun", run_document(parallelism={"acceleratorsPerShard": 0}))
    refused = World()
    refused.put("EvaluationRun", run_document(answerPod={"image": "x"}))
    for name, world in (("disturbed", disturbed), ("quiet", quiet), ("failing", failing)):
        process = Process(world, configuration(pricePerAcceleratorHour=2.5, progressSeconds=1))
        for number in range(60):
            process.work()
            world.tick()
            if name == "disturbed" and number == 8:
                world.edit_run(suspend=True)
            if name == "disturbed" and condition(world.run, "Suspended"):
                world.edit_run(suspend=False)
    Process(refused, configuration()).work()
    return {"quiet": quiet, "disturbed": disturbed, "failing": failing, "refused": refused}


@pytest.mark.parametrize("name", ["quiet", "disturbed", "failing", "refused"])
def test_every_status_of_a_life_is_accepted_after_the_one_before(
    api_server: ControlPlane, namespace: str, name: str
) -> None:
    world = lives()[name]
    run = run_document()
    run["metadata"] = {"name": f"life-{name}", "namespace": namespace}
    api_server.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(run))
    assert world.status["completionTime"]
    for status in world.history:
        change = json.dumps([{"op": "add", "path": "/status", "value": status}])
        api_server.kubectl(
            *("-n", namespace, "patch", "evaluationrun", f"life-{name}"),
            *("--subresource=status", "--type=json", "--patch", change),
        )
    found = api_server.kubectl(
        *("-n", namespace, "get", "evaluationrun", f"life-{name}", "-o", "json")
    )
    assert json.loads(found.stdout)["status"] == world.status
