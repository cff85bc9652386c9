"""What the chart renders: judged by Helm, by kubeconform and by a real API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemas
import yaml
from helm import CHART, NAMESPACE, RELEASE, ROOT, VALUES, Doc, Helm, RefusedError, of_kind, one
from rights import excessive, granted

from cluster import chart_tools
from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import establish
from cluster.processes import without_proxy
from evalrun_api.names import RUN_LABEL

pytestmark = pytest.mark.chart

OTHERS = ("apis/lmms-eval.io/v1alpha1", "apis/monitoring.coreos.com/v1")
"""Groups that the server learns of from CRDs."""
EACH = pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)


@pytest.fixture(scope="session")
def schema_folder(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    establish(plane)
    until("the schemas of all kinds", lambda: schemas.is_complete(plane, OTHERS), 30)
    assert schemas.write(plane, folder) > 50
    return folder


def conform(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """kubeconform's verdict."""
    program = chart_tools.program("kubeconform")
    location = f"-schema-location={folder}/{schemas.LOCATION}"
    return subprocess.run(
        [program, "-strict", "-summary", "-output=text", location, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=without_proxy(),
    )


def as_list(documents: list[Doc]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})


def dry_run(plane: ControlPlane, documents: list[Doc], *options: str) -> str:
    """What the API server says to the documents. No warning, such as one of pod security."""
    apply = ("apply", "--server-side", "--dry-run=server", "--validate=strict", *options)
    done = plane.kubectl(*apply, "-f", "-", input=as_list(documents))
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


@EACH
def test_helm_finds_nothing_to_say(helm: Helm, values: Path) -> None:
    told = helm("lint", "--strict", CHART, f"--values={values}", f"--namespace={NAMESPACE}")
    assert "0 chart(s) failed" in told


@EACH
def test_manifests_keep_to_the_api_servers_schemas(
    helm: Helm, schema_folder: Path, values: Path, show_figure: Callable[[str], None]
) -> None:
    done = conform(schema_folder, helm.text(values))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0, Skipped: 0" in done.stdout
    show_figure(f"{values.stem}: {done.stdout.strip()}")


def test_a_field_that_does_not_exist_is_found(helm: Helm, schema_folder: Path) -> None:
    document = one(helm.documents(), "Deployment")
    document["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    done = conform(schema_folder, yaml.safe_dump(document))
    assert done.returncode == 1
    assert "imagePolicy" in done.stdout


@EACH
@pytest.mark.usefixtures("schema_folder")
def test_a_restricted_namespace_takes_the_manifests(
    helm: Helm, plane: ControlPlane, values: Path
) -> None:
    documents = helm.documents(values)
    pods = of_kind(documents, "Pod")
    for pod in pods:
        documents.remove(pod)
    told = dry_run(plane, documents)
    assert told.count("serverside-applied") == len(documents)
    # Admission judges pods: of a Deployment it only warns.
    for deployment in of_kind(documents, "Deployment"):
        template = deployment["spec"]["template"]
        template["metadata"] |= {"name": "trial", "namespace": NAMESPACE}
        pods.append({"apiVersion": "v1", "kind": "Pod", **template})
    for pod in pods:
        del pod["spec"]["serviceAccountName"]  # a dry run has made none
    assert len(pods) == 2
    dry_run(plane, pods)


def test_a_pod_that_is_not_restricted_is_refused_there(helm: Helm, plane: ControlPlane) -> None:
    pod = one(helm.documents(securityContext={"allowPrivilegeEscalation": True}), "Pod")
    pod["spec"].pop("serviceAccountName")
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        dry_run(plane, [pod])


@pytest.mark.usefixtures("schema_folder")
def test_applying_the_manifests_again_changes_nothing(helm: Helm, plane: ControlPlane) -> None:
    """From each set of values to the next, as upgrades; then the last one a second time."""
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=chart", "-f", "-")
    applied: list[Doc] = []
    for values in VALUES:
        documents = [
            document
            for document in helm.documents(values, hooks=False)
            if document["kind"] != "CustomResourceDefinition"
        ]
        applied += documents
        plane.kubectl(*apply, input=as_list(documents))
        before = written(plane, documents)
        plane.kubectl(*apply, input=as_list(documents))
        assert written(plane, documents) == before, values.stem
    plane.kubectl("delete", "--ignore-not-found", "-f", "-", input=as_list(applied))


def written(plane: ControlPlane, documents: list[Doc]) -> dict[str, Any]:
    """By object: its uid, its generation, and what we wrote of it and when."""
    get = ("get", "--show-managed-fields", "-o", "json", "-f", "-")
    found = {}
    for item in json.loads(plane.kubectl(*get, input=as_list(documents)).stdout)["items"]:
        metadata = item["metadata"]
        (ours,) = [entry for entry in metadata["managedFields"] if entry["manager"] == "chart"]
        key = f"{item['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
        found[key] = (metadata["uid"], metadata.get("generation"), ours)
    assert len(found) == len(documents)
    return found


def test_the_crds_are_those_of_the_contract(helm: Helm) -> None:
    documents = helm.documents()
    for file in sorted((ROOT / "crds").glob("lmms-eval.io_*.yaml")):
        own = yaml.safe_load(file.read_text())
        rendered = one(documents, "CustomResourceDefinition", own["metadata"]["name"])
        assert rendered["spec"] == own["spec"]
        assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert len(of_kind(documents, "CustomResourceDefinition")) == 2
    assert of_kind(helm.documents(crds={"enabled": False}), "CustomResourceDefinition") == []
    for crd in of_kind(helm.documents(crds={"keep": False}), "CustomResourceDefinition"):
        assert "annotations" not in crd["metadata"]


def test_the_pods_are_those_of_kustomize(helm: Helm) -> None:
    """What config/operator says is said here too; beyond it the chart spreads the replicas."""
    own = yaml.safe_load((ROOT / "config/operator/deployment.yaml").read_text())["spec"]
    rendered = one(helm.documents(), "Deployment")["spec"]
    (mine,), (theirs,) = (spec["template"]["spec"].pop("containers") for spec in (rendered, own))
    assert mine.pop("args") == [*theirs.pop("args"), "--log-level", "info"]
    assert mine.pop("image") == "lmms-eval.io/operator:0.1.0"
    assert theirs.pop("image") == "lmms-eval.io/operator:dev"
    assert mine.pop("imagePullPolicy") == "IfNotPresent"
    assert mine == theirs
    rendered["template"]["spec"].pop("topologySpreadConstraints")
    assert rendered["template"]["spec"] == own["template"]["spec"]
    assert rendered["replicas"] == own["replicas"]


def test_a_change_of_the_configuration_rolls_the_operator(helm: Helm) -> None:
    def pods(**config: Any) -> Doc:
        found: Doc = one(helm.documents(config=config), "Deployment")["spec"]["template"]
        return found

    images = {"runner": "runner:1"}
    assert pods(images=images) == pods(images=images)
    assert pods(images=images) != pods(images=images, workers=3)


def test_the_operator_reads_what_the_values_say(helm: Helm) -> None:
    (values,) = (file for file in VALUES if file.stem == "named-store-values")
    (config,) = of_kind(helm.documents(values), "ConfigMap", f"{RELEASE}-config")
    read = yaml.safe_load(config["data"]["config.yaml"])
    given = yaml.safe_load(values.read_text())["config"]
    assert read == {**given, "leaseName": RELEASE, "nodeLossSeconds": 600}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": 0}, "replicas"),
        ({"image": {"name": "x"}}, "name"),
        ({"config": {"policy": {"allowEverything": True}}}, "allowEverything"),
        ({"config": {"stores": {"team": {"bucket": "b"}}}}, "bucket"),
        ({"config": {"leaseName": "mine"}}, "leaseName"),
        ({"config": {"nodeLossSeconds": 60}}, "nodeLossSeconds"),
        ({"config": {"images": {"runner": ""}}}, "runner"),
        ({"nodeLoss": {"seconds": 5}}, "seconds"),
        ({"podAnnotations": {"scrape": True}}, "scrape"),
        ({"logLevel": "loud"}, "logLevel"),
        ({"networkPolicy": {"runs": {"enabled": True}}}, "config.namespaces has to name"),
        ({"networkPolicy": {"enabled": True, "apiServerPorts": []}}, "would open every port"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
        ({"podDisruptionBudget": {"minAvailable": 2}}, "podDisruptionBudget.minAvailable"),
        ({"podDisruptionBudget": {"minAvailable": "75%"}}, "podDisruptionBudget.minAvailable"),
        ({"image": {"digest": "1f2e"}}, "image.digest"),
        ({"config": {"namespaces": ["a"]}, "test": {"namespace": "b"}}, "test.namespace"),
        (
            {
                "config": {"namespaces": ["team"]},
                "networkPolicy": {"runs": {"enabled": True}},
                "metrics": {"podMonitor": {"enabled": True}},
            },
            "networkPolicy.runs.from",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_values_that_mean_nothing_are_refused(
    helm: Helm,
    settings: dict[str, Any],
    words: str,
    show_message: Callable[[object, str], None],
) -> None:
    with pytest.raises(RefusedError) as refused:
        helm.text(**settings)
    assert words in str(refused.value)
    show_message("refused", str(refused.value).partition(": ")[2])


def test_without_rights_of_its_own_a_release_has_none_for_its_test(helm: Helm) -> None:
    kinds = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    assert any(document["kind"] in kinds for document in helm.documents())
    without = helm.documents(rbac={"create": False, "aggregate": False})
    assert not [document for document in without if document["kind"] in kinds]


def test_alerts_and_dashboards_are_the_files_of_the_chart(helm: Helm) -> None:
    (values,) = (file for file in VALUES if file.stem == "monitored-values")
    documents = helm.documents(values)
    alerts = CHART / "files" / "alerts.yaml"
    (rule,) = of_kind(documents, "PrometheusRule")
    told = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    known = [
        alert for group in yaml.safe_load(alerts.read_text())["groups"] for alert in group["rules"]
    ]
    assert [alert["alert"] for alert in told] == [alert["alert"] for alert in known]
    for mine, theirs in zip(told, known, strict=True):
        page = theirs["annotations"].pop("runbook_url").rpartition("/")[2]
        assert mine["annotations"].pop("runbook_url") == f"https://docs.example.com/r/{page}"
        if mine["alert"] == "LmmsEvalOperatorDown":
            # Another release's leader is none of this one's.
            ours = f'evalrun_operator_leader{{namespace="{NAMESPACE}",service="{RELEASE}"}}'
            assert mine.pop("expr") == f"absent({ours} == 1)"
            theirs.pop("expr")
        assert mine == theirs
    bare = of_kind(
        helm.documents(values, metrics={"prometheusRule": {"runbooks": ""}}), "PrometheusRule"
    )
    assert "runbook_url" not in json.dumps(bare)
    dashboards = {
        next(iter(it["data"])): next(iter(it["data"].values()))
        for it in of_kind(documents, "ConfigMap")
        if it["metadata"]["labels"].get("grafana_dashboard") == "1"
    }
    files = sorted((CHART / "files" / "dashboards").glob("*.json"))
    assert dashboards.keys() == {file.name for file in files}
    for file in files:
        assert json.loads(dashboards[file.name]) == json.loads(file.read_text())


def test_series_bear_the_names_of_runs(helm: Helm) -> None:
    """The operator is believed what it says of runs; pods are called what Kubernetes calls them."""
    (values,) = (file for file in VALUES if file.stem == "monitored-values")
    documents = helm.documents(values)
    (operator,) = one(documents, "ServiceMonitor")["spec"]["endpoints"]
    (pods,) = one(documents, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert operator["honorLabels"] is True
    assert "honorLabels" not in pods
    meta = RUN_LABEL.replace(".", "_").replace("-", "_").replace("/", "_")
    named = {each["targetLabel"]: each["sourceLabels"] for each in pods["relabelings"]}
    assert named["run"] == [f"__meta_kubernetes_pod_label_{meta}"]


@EACH
def test_no_part_of_the_chart_may_read_secrets_or_enter_pods(helm: Helm, values: Path) -> None:
    documents = helm.documents(values)
    accounts = {it["metadata"]["name"] for it in of_kind(documents, "ServiceAccount")}
    for account in accounts:
        assert excessive(granted(documents, account)) == []


def test_rights_are_of_the_named_namespaces_alone(helm: Helm) -> None:
    (values,) = (file for file in VALUES if file.stem == "namespaced-values")
    documents = helm.documents(values, hooks=False)
    assert of_kind(documents, "ClusterRole") == []
    assert of_kind(documents, "ClusterRoleBinding") == []
    grants = granted(documents, RELEASE)
    assert {grant.namespace for grant in grants} == {"team-a", "team-b", NAMESPACE}
    own = {grant.resource for grant in grants if grant.namespace == NAMESPACE}
    assert own == {"leases"}
