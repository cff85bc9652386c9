"""An API server with the real Kueue and the operator's process, with the rights of its Role."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import cluster as starting
from cluster import kueue
from cluster.control_plane import ControlPlane
from cluster.tools import MissingError

sys.path.insert(0, str(Path(__file__).parent))

from queues import ROOT, SYSTEM, Operator


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane of its own: Kueue's webhooks see every pod of it."""
    try:
        with starting.control_plane("tests with Kueue") as found:
            found.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
            kueue.start(found)
            yield found
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator's process."""
    plane.kubectl("create", "namespace", SYSTEM)
    rbac = plane.kubectl("kustomize", str(ROOT / "config/rbac")).stdout
    plane.kubectl("-n", SYSTEM, "apply", "-f", "-", input=rbac)
    token = plane.kubectl("-n", SYSTEM, "create", "token", "lmms-eval-operator").stdout
    raw = plane.kubectl("config", "view", "--raw", "--flatten", "-o", "json").stdout
    config = json.loads(raw)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token.strip()}}]
    folder = tmp_path_factory.mktemp("operator")
    (folder / "kubeconfig").write_text(json.dumps(config))
    found = Operator(folder)
    yield found
    found.end()
