"""A real cluster with the operator installed as the README says, and a plain lmms-eval run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import demo
from cluster.cluster import Cluster

sys.path.insert(0, str(Path(__file__).parent))

from plain import plain_run
from space import DOCUMENTS, EXAMPLE, ROOT, Space


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with images, CRDs and a running operator."""
    cluster.ensure_images()
    cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "config" / "demo"))
    cluster.kubectl(
        *("-n", "lmms-eval-system", "rollout", "status", "deployment/lmms-eval-operator"),
        "--timeout=120s",
    )
    return cluster


@pytest.fixture
def space(installed: Cluster, tmp_path: Path) -> Iterator[Space]:
    """A namespace with the example's claims, Secret and Benchmark."""
    namespace = installed.namespace("e2e")
    tmp_path.chmod(0o755)
    demo.set_up(installed, installed.s3, namespace, tmp_path)
    found = Space(installed, namespace)
    found.kubectl("apply", "-f", str(EXAMPLE / "benchmark.yaml"))
    yield found
    installed.kubectl("delete", "namespace", namespace, "--timeout=120s")
    installed.kubectl("delete", "pv", f"{namespace}-models", f"{namespace}-data")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A plain `python -m lmms_eval` run of what gpu.yaml asks for, at batch 1."""
    return plain_run(tmp_path_factory.mktemp("plain"), DOCUMENTS)


@pytest.fixture
def clock() -> Callable[[], str]:
    """Seconds since the test began, as text."""
    begun = time.monotonic()
    return lambda: f"{time.monotonic() - begun:.0f} s"
