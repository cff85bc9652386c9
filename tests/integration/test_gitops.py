"""GitOps at a real API server: a tool that applies the same again and again changes nothing.

The tool is played by `kubectl apply --server-side` under Argo CD's name, and what it would see by
`kubectl diff --server-side`, which asks the API server as Argo CD's server-side diff and Flux do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_replicas import Replicas, condition, get, phase

from bench.played_node.fates import SECONDS_ANNOTATION
from bench.played_node.process import PlayedNode
from cluster import cluster as starting
from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import ROOT, Replica, establish, write_kubeconfig
from cluster.tools import MissingError

pytestmark = pytest.mark.integration

Doc = dict[str, Any]

NAMESPACE = "evaluations"
"""As the sample tree has it."""
OVERLAYS = sorted((ROOT / "examples/gitops/overlays").iterdir())
STORES = {"team": {"uri": "s3://evaluations/team", "secretName": "s3"}}
GUIDE = ROOT / "docs/guides/gitops.md"
PATIENCE = 90.0
"""Seconds: of a life that takes some, on a machine that has much else to do."""
URL = "https://argocd.example.com"
ARGO = "argocd-controller"
TRACKING = {
    "labels": {"app.kubernetes.io/instance": "evaluation"},
    "annotations": {"argocd.argoproj.io/tracking-id": "evaluation:lmms-eval.io/EvaluationRun:a/b"},
}
"""How Argo CD marks what it has applied: what bears it and is not in Git is pruned."""


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane of its own, with a node on which pods are played."""
    try:
        with starting.control_plane("tests of GitOps") as found:
            establish(found)
            for name in (NAMESPACE, "argocd"):
                found.kubectl("create", "namespace", name)
            settings = ("create", "configmap", "argocd-cm", f"--from-literal=url={URL}")
            found.kubectl("-n", "argocd", *settings)
            PlayedNode.start(found, "--seconds", "0.5")
            yield found
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """The operator's process."""
    folder = tmp_path_factory.mktemp("operator")
    write_kubeconfig(plane, folder / "kubeconfig")
    replicas = Replicas(folder, folder / "kubeconfig")
    try:
        yield replicas.start("leader", stores=STORES, defaultStore="team", leaseSeconds=30)
    finally:
        replicas.end()


def rendered(plane: ControlPlane, path: Path) -> list[Doc]:
    """What a folder of manifests comes to, or a file, whose documents name no namespace."""
    if path.is_dir():
        text = plane.kubectl("kustomize", str(path)).stdout
        return [document for document in yaml.safe_load_all(text) if document]
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    for document in documents:
        document["metadata"]["namespace"] = NAMESPACE
    return documents


def run_of_git(plane: ControlPlane, name: str, **spec: Any) -> Doc:
    """A run of the sample tree, as Argo CD applies it; the changes are made in Git."""
    (document,) = rendered(plane, OVERLAYS[0])
    document["metadata"] |= {**TRACKING, "name": name}
    document["spec"] |= spec
    return document


def as_list(documents: list[Doc]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})


def apply(
    plane: ControlPlane, *documents: Doc, manager: str = ARGO, check: bool = True
) -> subprocess.CompletedProcess[str]:
    how = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
    return plane.kubectl("apply", *how, "-f", "-", input=as_list([*documents]), check=check)


def assert_no_drift(plane: ControlPlane, *documents: Doc, manager: str = ARGO) -> None:
    """The API server says that applying this would change nothing."""
    how = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
    found = plane.kubectl("diff", *how, "-f", "-", input=as_list([*documents]), check=False)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


def live(plane: ControlPlane, documents: list[Doc]) -> list[Doc]:
    get_all = ("get", "--show-managed-fields", "-o", "json", "-f", "-")
    found = json.loads(plane.kubectl(*get_all, input=as_list(documents)).stdout)
    return list(found["items"]) if found["kind"] == "List" else [found]


def written(document: Doc, manager: str) -> Doc:
    """What a write by a manager would change of an object, times included."""
    metadata = document["metadata"]
    kept = {name: metadata.get(name) for name in ("uid", "generation", "labels")}
    fields = metadata.get("managedFields", ())  # none of what has nothing but a name
    kept["managedFields"] = [entry for entry in fields if entry["manager"] == manager]
    if not document.get("status"):  # a controller may write that at any time
        kept["resourceVersion"] = metadata["resourceVersion"]
    return {**document, "metadata": kept, "status": None}


MANIFESTS = [
    pytest.param([ROOT / "crds"], id="crds"),
    pytest.param([ROOT / "config/default"], id="config-default"),
    pytest.param(OVERLAYS, id="overlays"),
    pytest.param(sorted((ROOT / "examples/easy-vqa").glob("*.yaml")), id="easy-vqa"),
]


@pytest.mark.parametrize("paths", MANIFESTS)
def test_our_manifests_applied_a_second_time_change_nothing(
    plane: ControlPlane, paths: list[Path]
) -> None:
    documents = [document for path in paths for document in rendered(plane, path)]
    apply(plane, *documents, manager="kubectl")
    before = [written(document, "kubectl") for document in live(plane, documents)]
    assert len(before) == len(documents)
    time.sleep(1.1)  # managedFields have times of whole seconds
    apply(plane, *documents, manager="kubectl")
    assert [written(document, "kubectl") for document in live(plane, documents)] == before
    assert_no_drift(plane, *documents, manager="kubectl")
    if paths[0].is_relative_to(ROOT / "examples"):
        plane.kubectl("delete", "-f", "-", input=as_list(documents))


def test_a_tool_that_applies_all_the_time_sees_no_drift_and_gets_one_life(
    plane: ControlPlane, operator: Replica
) -> None:
    slow = {"annotations": {SECONDS_ANNOTATION: "2"}}
    pods = {f"{step}Pod": slow for step in ("prepare", "answer", "score")}
    document = run_of_git(plane, "synced", **pods)
    apply(plane, document)
    (first,) = live(plane, [document])
    seen: list[str] = []

    def is_over() -> bool:
        assert_no_drift(plane, document)
        apply(plane, document)
        seen.append(phase(plane, NAMESPACE, "synced"))
        return seen[-1] in ("Succeeded", "Failed")

    until("the end", is_over, PATIENCE)
    assert seen[-1] == "Succeeded"
    assert len(set(seen)) > 1, seen
    (last,) = live(plane, [document])
    of_argo = [
        [entry for entry in each["metadata"]["managedFields"] if entry["manager"] == ARGO]
        for each in (first, last)
    ]
    assert of_argo[0] == of_argo[1]
    assert last["metadata"]["generation"] == 1
    assert last["metadata"]["uid"] == first["metadata"]["uid"]
    version = last["metadata"]["resourceVersion"]
    apply(plane, document)
    assert live(plane, [document])[0]["metadata"]["resourceVersion"] == version
    # What it has brought bears no mark of the tool, which would prune it.
    which = ("jobs,pods,configmaps", "-l", "lmms-eval.io/run=synced", "-o", "json")
    children = json.loads(plane.kubectl("-n", NAMESPACE, "get", *which).stdout)["items"]
    assert {child["kind"] for child in children} == {"Job", "Pod", "ConfigMap"}
    for child in children:
        for place, marks in TRACKING.items():
            assert not marks.keys() & child["metadata"].get(place, {}).keys()


def test_a_run_whose_ttl_is_over_stays_and_is_not_evaluated_again(
    plane: ControlPlane, operator: Replica
) -> None:
    document = run_of_git(plane, "expired", ttlSecondsAfterFinished=1)
    apply(plane, document)
    until("its end", lambda: phase(plane, NAMESPACE, "expired") == "Succeeded", PATIENCE)

    def children() -> str:
        which = ("jobs,pods", "-l", "lmms-eval.io/run=expired", "-o", "name")
        return plane.kubectl("-n", NAMESPACE, "get", *which).stdout

    until("its Jobs and pods are gone", lambda: not children(), PATIENCE)
    before = get(plane, NAMESPACE, "evaluationrun", "expired")
    for _ in range(3):
        assert_no_drift(plane, document)
        apply(plane, document)
        time.sleep(0.5)
    assert get(plane, NAMESPACE, "evaluationrun", "expired") == before
    assert before is not None
    assert before["status"]["results"]["uri"]
    assert children() == ""


def test_who_suspends_a_run_is_not_overruled_unless_git_says_whether_it_is_suspended(
    plane: ControlPlane, operator: Replica
) -> None:
    slow = {"annotations": {SECONDS_ANNOTATION: "60"}}
    document = run_of_git(plane, "parked", preparePod=slow)
    apply(plane, document)
    until("its begin", lambda: phase(plane, NAMESPACE, "parked") == "Preparing", PATIENCE)
    change = ("patch", "evr", "parked", "--type=merge", "--field-manager=argocd-server")
    plane.kubectl("-n", NAMESPACE, *change, "-p", '{"spec":{"suspend":true}}')

    def suspended() -> Doc:
        return condition(get(plane, NAMESPACE, "evaluationrun", "parked"), "Suspended")

    until("its suspension", suspended, PATIENCE)
    assert_no_drift(plane, document)
    apply(plane, document)
    assert live(plane, [document])[0]["spec"]["suspend"] is True
    apply(plane, {**document, "spec": {**document["spec"], "suspend": False}})
    until("its resumption", lambda: not suspended(), PATIENCE)
    plane.kubectl("-n", NAMESPACE, "delete", "evr", "parked")


def test_another_model_under_the_same_name_is_refused_and_the_run_goes_on(
    plane: ControlPlane,
) -> None:
    document = run_of_git(plane, "fixed", suspend=True)
    apply(plane, document)
    before = live(plane, [document])
    source = {"huggingFace": {"repo": "llava-hf/llava-1.5-7b-hf", "revision": "another"}}
    changed = {**document, "spec": {**document["spec"], "model": {"source": source}}}
    refused = apply(plane, changed, check=False)
    assert refused.returncode != 0
    assert "model cannot change once the run exists; delete the run and apply it" in refused.stderr
    assert [one["spec"] for one in live(plane, [document])] == [one["spec"] for one in before]


def test_the_patch_adds_to_the_settings_of_argo_cd_and_keeps_what_is_there(
    plane: ControlPlane,
) -> None:
    patch = ROOT / "gitops/argocd/argocd-cm.yaml"
    plane.kubectl("-n", "argocd", "patch", "configmap", "argocd-cm", f"--patch-file={patch}")
    found = get(plane, "argocd", "configmap", "argocd-cm")
    assert found is not None
    assert found["data"] == {"url": URL, **yaml.safe_load(patch.read_text())["data"]}


def test_every_command_of_the_guide_works_in_its_order(
    plane: ControlPlane, operator: Replica
) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    programs = [Path(plane.tools["kubectl"]).parent, Path(sys.executable).parent]
    environment = {
        **os.environ,
        "KUBECONFIG": str(plane.kubeconfig),
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
    }
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 4
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
