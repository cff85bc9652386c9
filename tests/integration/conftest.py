"""A real API server with the CRDs applied."""

from __future__ import annotations

import pytest

from cluster.control_plane import ControlPlane
from cluster.operator_process import establish


@pytest.fixture(scope="session")
def api_server(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with our kinds established."""
    establish(control_plane)
    return control_plane
