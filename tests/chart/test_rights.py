"""`make rbac-check`: what each toggle of the chart grants is used, and what is used is granted.

The operator's process has the chart's configuration and the rights of the chart's Roles, and is
led through all that it can do: lives to their end, suspensions, other people's objects in its way,
writes that come too late, lost nodes, Kueue. The API server's audit log says what it asked for.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm import NAMESPACE, RELEASE, Doc, Helm, of_kind
from rights import asked, excessive, granted, lacking, unused

from bench.played_node.process import PlayedNode
from cluster import kueue
from cluster.access import NotInTimeError, until
from cluster.control_plane import ControlPlane
from cluster.operator_process import USER, Replica, establish, write_kubeconfig
from cluster.tools import MissingError

sys.path.append(str(Path(__file__).parents[1] / "kueue"))
sys.path.append(str(Path(__file__).parents[1] / "integration"))

from api_streams import RUNS, Streams
from queues import Place, cluster_queue, queue

pytestmark = pytest.mark.rbac

OF_RIGHTS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
CONFIG = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True},
    "leaseSeconds": 20,
    "progressSeconds": 1,
}
NODE = "never-ready"
LOSS = {"enabled": True, "seconds": 10}
DISCOVERY = ("/api", "/apis", "/version")
"""Paths that every account may read (`system:discovery`)."""
BENCHMARK = {
    "apiVersion": "lmms-eval.io/v1alpha1",
    "kind": "Benchmark",
    "metadata": {"name": "own"},
    "spec": {"tasks": ["own"], "files": {"own.yaml": "task: own\ndataset_path: x/y\n"}},
}
SPEC: Doc = {
    "model": {"profile": "llava_hf", "source": {"huggingFace": {"repo": "example/model"}}},
    "benchmarks": [{"name": "mme"}],
    "results": {"s3": {"uri": "s3://results"}},
    "parallelism": {"acceleratorsPerShard": 0},
}


@dataclass
class Stage:
    """The operator's two processes, the namespaces that it watches, and who disturbs it."""

    plane: ControlPlane
    streams: Streams
    namespaces: list[str]
    since: int
    replicas: list[Replica] = field(default_factory=list)

    def audit(self) -> list[str]:
        """Lines since the beginning."""
        with self.plane.audit_log.open("rb") as log:
            log.seek(self.since)
            text = log.read().decode()
        return text[: text.rfind("\n") + 1].splitlines()

    def was_asked(self, verb: str, resource: str, namespace: str) -> bool:
        requests, _ = asked(self.audit(), USER)
        return (verb, resource, namespace) in {
            (request.verb, request.resource, request.namespace) for request in requests
        }

    def until_asked(self, verb: str, resource: str, namespace: str, seconds: float = 30) -> None:
        what = f"{verb} {resource}"
        until(what, lambda: self.was_asked(verb, resource, namespace), seconds, 0.5)


@pytest.fixture(scope="module")
def prepared(plane: ControlPlane) -> ControlPlane:
    """With our kinds, Kueue, a node that plays and one that is dead."""
    establish(plane)
    try:
        kueue.start(plane)
    except MissingError as missing:
        pytest.skip(str(missing))
    PlayedNode.start(plane, "--seconds", "1")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    plane.kubectl("create", "-f", "-", input=json.dumps(node))
    return plane


def in_rights(documents: list[Doc]) -> str:
    kept = [document for document in documents if document["kind"] in OF_RIGHTS]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": kept})


@pytest.fixture
def stage(prepared: ControlPlane) -> Iterator[Stage]:
    names = [prepared.namespace("rights"), prepared.namespace("rights")]
    prepared.kubectl("-n", NAMESPACE, "delete", "lease", "--all")  # to be made anew
    streams = Streams(prepared)
    found = Stage(prepared, streams, names, prepared.audit_log.stat().st_size)
    yield found
    for replica in found.replicas:
        replica.end()
    prepared.kubectl("delete", "namespace", *names, "--wait=false")
    streams.close()


TOGGLES: dict[str, Doc] = {
    "default": {},
    "nodeLoss": {"nodeLoss": LOSS},
    "kueue": {"kueue": {"enabled": True}},
    "namespaces": {"nodeLoss": LOSS, "kueue": {"enabled": True}},
}


@pytest.mark.parametrize("toggle", TOGGLES)
def test_what_is_granted_is_used_and_what_is_used_is_granted(
    helm: Helm,
    stage: Stage,
    toggle: str,
    tmp_path: Path,
    show_figure: Callable[[str], None],
) -> None:
    settings = TOGGLES[toggle]
    watched = stage.namespaces if toggle == "namespaces" else []
    documents = helm.documents(hooks=False, config={**CONFIG, "namespaces": watched}, **settings)
    rights = in_rights(documents)
    write_kubeconfig(stage.plane, tmp_path / "kubeconfig", rights=rights)
    try:
        (config,) = of_kind(documents, "ConfigMap", f"{RELEASE}-config")
        start(stage, tmp_path, yaml.safe_load(config["data"]["config.yaml"]))
        for namespace in watched or stage.namespaces[:1]:
            play(stage, namespace, settings)
        for replica in reversed(stage.replicas):  # nobody takes over, and the Lease is given back
            replica.stop()
    finally:
        stage.plane.kubectl("delete", "-f", "-", input=rights)
    grants = granted(documents, RELEASE)
    requests, paths = asked(stage.audit(), USER)
    used = [grant for grant in sorted(grants) if grant not in unused(grants, requests)]
    show_figure(f"{toggle}: {len(grants)} verbs granted, {len(used)} used")
    for grant in sorted(grants):
        show_figure(f"  {'used  ' if grant in used else 'UNUSED'} {grant}")
    assert lacking(grants, requests) == []
    assert unused(grants, requests) == []
    assert excessive(grants) == []
    assert {path for path in paths if not path.startswith(DISCOVERY)} == set()
    for replica in stage.replicas:
        assert not replica.lines("ERROR")


def start(stage: Stage, folder: Path, config: Doc) -> None:
    """A leader, and one that waits for its Lease."""
    for role in ("leader", "standby"):
        replica = Replica(folder, folder / "kubeconfig", role, config)
        stage.replicas.append(replica)
        until(role, lambda replica=replica, role=role: replica.is_role(role), 60)


def play(stage: Stage, namespace: str, settings: Doc) -> None:
    """All that the operator can be brought to do in a namespace."""
    place = Place(stage.plane, namespace)
    if "nodeLoss" in settings:
        lose_a_node(stage, place)
    live(stage, place)
    stand_in_its_way(stage, place)
    write_between(stage, place)
    if "kueue" in settings:
        wait_in_a_queue(stage, place)
    place.kubectl("delete", "evr", "--all", "--wait=false")


def apply(place: Place, name: str, **spec: Any) -> None:
    place.apply(
        {
            "apiVersion": "lmms-eval.io/v1alpha1",
            "kind": "EvaluationRun",
            "metadata": {"name": name},
            "spec": {**SPEC, **spec},
        }
    )


def live(stage: Stage, place: Place) -> None:
    """Lives to their end: in one Job and in three, with a benchmark of one's own."""
    place.apply(BENCHMARK)
    apply(place, "one", benchmarks=[{"benchmarkRef": {"name": "own"}}])
    apply(place, "three", parallelism={"shards": 2, "acceleratorsPerShard": 1})
    for name in ("one", "three"):
        assert end(place, name) == "Succeeded", place.status(name)


def end(place: Place, name: str) -> str:
    """A run's phase when it has ended. Raises AssertionError with all that is known of it."""
    try:
        until(f"the end of {name}", lambda: "completionTime" in place.status(name), 90)
    except NotInTimeError as late:
        told = place.kubectl("describe", "evr,jobs,pods", "-l", "!nobody")
        raise AssertionError(f"{late}\n{told}") from late
    return str(place.status(name)["phase"])


def stand_in_its_way(stage: Stage, place: Place) -> None:
    """Somebody else's objects have the names that it needs."""
    plan = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plan-taken-plan"}}
    template = {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x:1"}]},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job-taken-run"},
        "spec": {"template": template, "suspend": True},
    }
    place.apply(plan, job)
    for name in ("plan-taken", "job-taken"):
        apply(place, name)
        assert end(place, name) == "Failed"
    stage.until_asked("get", "configmaps", place.namespace)
    stage.until_asked("get", "jobs", place.namespace)


def write_between(stage: Stage, place: Place) -> None:
    """Somebody writes to a run between its reading and the operator's write, and suspends it."""
    # It never begins: no node has the label. So it can be suspended and resumed.
    apply(place, "busy", answerPod={"nodeSelector": {"nowhere": "at-all"}})
    path = f"{RUNS.format(place.namespace)}/busy"
    deadline, number = time.monotonic() + 60, 0
    with closing(http.client.HTTPConnection("127.0.0.1", stage.streams.port)) as connection:
        while not stage.was_asked("get", "evaluationruns", place.namespace):
            assert time.monotonic() < deadline, "no write of the operator came too late"
            for _ in range(100):
                number += 1
                change = {"metadata": {"labels": {"looked": str(number)}}}
                if number % 50 == 0:
                    change["spec"] = {"suspend": number % 100 == 0}
                headers = {"Content-Type": "application/merge-patch+json"}
                connection.request("PATCH", path, json.dumps(change), headers)
                connection.getresponse().read()
    place.kubectl("patch", "evr", "busy", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    until(
        "it is suspended", lambda: place.condition("busy", "Suspended").get("status") == "True", 60
    )
    stage.until_asked("delete", "jobs", place.namespace)


def lose_a_node(stage: Stage, place: Place) -> None:
    """A pod is on a dead node and deleted, and its run is suspended."""
    apply(place, "lost", answerPod={"nodeSelector": {"nowhere": "at-all"}})
    selector = ("get", "pods", "-l", "lmms-eval.io/run=lost", "-o", "name")
    until("the pod", lambda: place.kubectl(*selector), 30)
    name = place.kubectl(*selector).strip().removeprefix("pod/")
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    }
    path = f"/api/v1/namespaces/{place.namespace}/pods/{name}/binding"
    place.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(binding))
    place.kubectl("delete", "pod", name, "--grace-period=1", "--wait=false")
    place.kubectl("patch", "evr", "lost", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    stage.until_asked("patch", "pods/status", place.namespace, 60)
    stage.until_asked("delete", "pods", place.namespace, 60)


def wait_in_a_queue(stage: Stage, place: Place) -> None:
    """Kueue has no quota for a run."""
    place.apply(
        *cluster_queue(place.namespace, place.namespace, {"cpu": "0", "memory": "0"}),
        queue("full", place.namespace),
    )
    pod = {"resources": {"cpu": "1", "memory": "1Gi"}}
    apply(place, "queued", queueName="full", answerPod=pod)
    stage.until_asked("list", "workloads", place.namespace if _is_narrow(stage) else "", 60)
    until(
        "it says why it waits",
        lambda: "insufficient" in place.condition("queued", "Ready").get("message", ""),
        60,
    )


def _is_narrow(stage: Stage) -> bool:
    """Whether the operator watches some namespaces only."""
    requests, _ = asked(stage.audit(), USER)
    return not any(request.verb == "list" and not request.namespace for request in requests)
