"""A release's life on a real API server, without a node: install, upgrade, rollback, removal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helm import CHART, NAMESPACE, RELEASE, VALUES, Helm

from cluster.access import until
from cluster.control_plane import ControlPlane

pytestmark = pytest.mark.chart

RUN = {
    "apiVersion": "lmms-eval.io/v1alpha1",
    "kind": "EvaluationRun",
    "metadata": {"name": "kept", "namespace": "team-a"},
    "spec": {
        "model": {"profile": "llava_hf", "source": {"volume": {"claimName": "models"}}},
        "benchmarks": [{"name": "mme"}],
    },
}
KINDS = ("crd/evaluationruns.lmms-eval.io", "crd/benchmarks.lmms-eval.io")
INSTALL = ("install", RELEASE, CHART, f"--namespace={NAMESPACE}")
UPGRADE = ("upgrade", RELEASE, CHART, f"--namespace={NAMESPACE}")


@pytest.fixture(autouse=True)
def nothing_left(plane: ControlPlane, release: Helm) -> Iterator[None]:
    """Each test begins and ends with no release and no kind of ours."""
    _clear(plane, release)
    yield
    _clear(plane, release)


def _clear(plane: ControlPlane, release: Helm) -> None:
    if RELEASE in release("list", "--short", f"--namespace={NAMESPACE}"):
        release("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    plane.kubectl("delete", *KINDS, "--ignore-not-found", "--wait")


def create_run(plane: ControlPlane) -> str:
    """Once the kind is served; the run's uid."""
    create = ("create", "-o", "jsonpath={.metadata.uid}", "-f", "-")
    made: list[str] = []

    def works() -> bool:
        done = plane.kubectl(*create, input=json.dumps(RUN), check=False)
        made.append(done.stdout)
        return done.returncode == 0

    until("our kind", works, 30)
    return made[-1]


def uid(plane: ControlPlane) -> str:
    path = "jsonpath={.metadata.uid}"
    return plane.kubectl("-n", "team-a", "get", "evr", "kept", "-o", path, check=False).stdout


def manifest(release: Helm) -> str:
    return release("get", "manifest", RELEASE, f"--namespace={NAMESPACE}")


def test_upgrades_and_a_rollback_keep_the_runs(plane: ControlPlane, release: Helm) -> None:
    release(*INSTALL)
    first, run = manifest(release), create_run(plane)
    for values in VALUES:
        release(*UPGRADE, f"--values={values}")
        assert uid(plane) == run, values.stem
    release("rollback", RELEASE, "1", f"--namespace={NAMESPACE}")
    assert manifest(release) == first
    assert uid(plane) == run


def test_an_upgrade_that_gives_up_the_crds_keeps_the_runs(
    plane: ControlPlane, release: Helm
) -> None:
    release(*INSTALL)
    run = create_run(plane)
    release(*UPGRADE, "--set=crds.enabled=false")
    assert uid(plane) == run
    release(*UPGRADE, "--set=crds.enabled=true")
    assert uid(plane) == run


def test_a_release_that_is_removed_leaves_the_runs_and_a_new_one_takes_them_up(
    plane: ControlPlane, release: Helm
) -> None:
    release(*INSTALL)
    run = create_run(plane)
    told = release("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    assert "evaluationruns.lmms-eval.io" in told  # kept, it says
    assert uid(plane) == run
    left = plane.kubectl(
        *("get", "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets"),
        *("-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={RELEASE}", "-o", "name"),
    ).stdout
    rights = ("get", "clusterroles,clusterrolebindings", "-o", "name", "-l")
    left += plane.kubectl(*rights, f"app.kubernetes.io/instance={RELEASE}").stdout
    assert left == ""
    release(*INSTALL)
    assert uid(plane) == run


def test_without_keep_the_runs_go_with_the_release(plane: ControlPlane, release: Helm) -> None:
    release(*INSTALL, "--set=crds.keep=false")
    create_run(plane)
    release("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    until("they are gone", lambda: plane.kubectl("get", *KINDS, check=False).returncode, 30)


def test_two_releases_share_the_kinds(plane: ControlPlane, release: Helm) -> None:
    """Each with namespaces of its own; the second one brings no CRDs and no roles for people."""
    release(*INSTALL, '--set-json=config.namespaces=["team-a"]')
    second = ("install", "second", CHART, f"--namespace={NAMESPACE}")
    settings = ("--set=crds.enabled=false", "--set=rbac.aggregate=false")
    release(*second, *settings, '--set-json=config.namespaces=["team-b"]')
    names = ("get", "deployments", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.name}")
    assert plane.kubectl(*names).stdout.split() == [RELEASE, f"second-{RELEASE}"]
    release("uninstall", "second", f"--namespace={NAMESPACE}")


def test_crds_that_kubectl_installed_are_taken_over(
    plane: ControlPlane, release: Helm, tmp_path: Path
) -> None:
    crds = Path(CHART).parents[1] / "crds"
    plane.kubectl("apply", "--server-side", "-k", str(crds))
    run = create_run(plane)
    release(*INSTALL, "--take-ownership", "--force-conflicts")
    assert uid(plane) == run
    owner: dict[str, Any] = json.loads(plane.kubectl("get", KINDS[0], "-o", "json").stdout)
    assert owner["metadata"]["annotations"]["meta.helm.sh/release-name"] == RELEASE
