"""A real API server with the CRDs applied."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.operator_process import establish, write_kubeconfig

sys.path.append(str(Path(__file__).parent))  # `operator_replicas`

from operator_replicas import Replicas


@pytest.fixture(scope="session")
def api_server(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with our kinds established."""
    establish(control_plane)
    return control_plane


@pytest.fixture(scope="module")
def kubeconfig(api_server: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the operator's service account."""
    path = tmp_path_factory.mktemp("operator") / "kubeconfig"
    write_kubeconfig(api_server, path)
    return path


@pytest.fixture
def replicas(kubeconfig: Path, tmp_path: Path) -> Iterator[Replicas]:
    found = Replicas(tmp_path, kubeconfig)
    yield found
    found.end()


@pytest.fixture
def namespace(api_server: ControlPlane) -> str:
    return api_server.namespace("process")
