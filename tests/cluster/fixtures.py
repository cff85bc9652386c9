"""Fixtures of a cluster, for tests of the operator and end to end. `tests/conftest.py` loads them.

`control_plane` is an API server with its controllers and without a node: pods stay pending, and
tests patch their status as a kubelet would. It starts in about 4 s. `cluster` has a node too, with
4 GPUs that are only advertised, and an S3 server. Both last for the session; each test makes a
namespace of its own (`cluster.namespace()`), and what belongs to no namespace it removes.

A cluster is looked for in this order: the one of EVALRUN_TEST_KUBECONFIG, which is opted in thereby
(the current context never is); the programs of the folder KUBEBUILDER_ASSETS; those that
`make cluster-tools` has built. Where a part is missing the tests skip, with CI=true they fail.
While somebody else has a node on this machine (`make cluster`, other tests), tests of `cluster`
fail, and say who.

Import the classes from the package: `from cluster.cluster import Cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cluster import cluster as starting
from cluster import external
from cluster.cluster import Cluster
from cluster.control_plane import ControlPlane
from cluster.external import ExternalCluster
from cluster.tools import MissingError


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane | ExternalCluster]:
    """A control plane without a node."""
    with ExitStack() as ends:
        try:
            found = external.opted_in() or ends.enter_context(starting.control_plane("tests"))
        except MissingError as missing:
            pytest.skip(str(missing))
        yield found


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster | ExternalCluster]:
    """A control plane, a node and an S3 server."""
    with ExitStack() as ends:
        try:
            found = external.opted_in() or ends.enter_context(starting.cluster("tests"))
        except MissingError as missing:
            pytest.skip(str(missing))
        yield found
    if isinstance(found, Cluster):
        assert starting.left_of(found) == []
