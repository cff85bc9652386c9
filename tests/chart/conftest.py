"""Helm, and an API server that records all that the operator asks of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import chart_tools
from cluster import cluster as starting
from cluster.control_plane import ControlPlane
from cluster.operator_process import USER
from cluster.tools import MissingError

sys.path.insert(0, str(Path(__file__).parent))

from helm import NAMESPACE, Helm

TEAMS = ("team-a", "team-b")
"""Namespaces that the checked values name."""
RESTRICTED = [
    f"pod-security.kubernetes.io/{what}=restricted" for what in ("enforce", "warn", "audit")
]


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane whose namespaces enforce the restricted Pod Security Standard.

    It knows the kinds of Prometheus' operator too.
    """
    try:
        kinds = chart_tools.monitoring_kinds()
        # An empty list of what is recorded stands for everything, secrets and all.
        with starting.control_plane("the chart", audited_users=[USER], audited=()) as found:
            for namespace in (NAMESPACE, *TEAMS):
                found.kubectl("create", "namespace", namespace)
                found.kubectl("label", "namespace", namespace, *RESTRICTED)
            for kind in kinds:
                found.kubectl("apply", "--server-side", "-f", str(kind))
            yield found
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Without a cluster."""
    try:
        return Helm(tmp_path_factory.mktemp("helm"))
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def release(plane: ControlPlane, tmp_path: Path) -> Helm:
    """With the control plane."""
    return Helm(tmp_path, plane.kubeconfig)
