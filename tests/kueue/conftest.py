"""An API server with the real Kueue and the operator's process, with the rights of its Role."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import cluster as starting
from cluster import kueue
from cluster.control_plane import ControlPlane
from cluster.operator_process import establish, write_kubeconfig
from cluster.tools import MissingError

sys.path.insert(0, str(Path(__file__).parent))

from queues import Operator


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane of its own: Kueue's webhooks see every pod of it."""
    try:
        with starting.control_plane("tests with Kueue") as found:
            establish(found)
            kueue.start(found)
            yield found
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def operator(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator's process."""
    folder = tmp_path_factory.mktemp("operator")
    write_kubeconfig(plane, folder / "kubeconfig")
    found = Operator(folder)
    yield found
    found.end()
