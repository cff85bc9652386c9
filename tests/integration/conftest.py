"""A real API server with the CRDs applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def api_server(control_plane: ControlPlane) -> ControlPlane:
    """The control plane with our kinds established."""
    control_plane.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    control_plane.kubectl(
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        "crd/evaluationruns.lmms-eval.io",
        "crd/benchmarks.lmms-eval.io",
    )
    return control_plane
