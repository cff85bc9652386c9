"""Attacks on real parts: an API server with the operator beside it, an S3 server of two tenants.

Each test tells what its attack gets; the summary of the test run is a table of them.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import cluster as starting
from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import Replica, establish, write_kubeconfig
from cluster.tools import MissingError

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "operator")]

from attacks import Attack, Gets
from siege import CONFIG, Place
from tenancy import USERS, Tenants, policy

_tried: dict[Attack, list[str]] = {}


@pytest.fixture
def gets(request: pytest.FixtureRequest) -> Iterator[Gets]:
    """Tell what the attack gets: an error's text, or an effect."""
    mark = request.node.get_closest_marker("attack")
    told = _tried.setdefault(Attack(*mark.args), [])

    def tell(what: object) -> None:
        text = " ".join(str(what).split())
        if text not in told:
            told.append(text)

    yield tell
    assert told, "an attack has to tell what it gets"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table."""
    if not _tried:
        return
    terminalreporter.section(f"{len(_tried)} attacks")
    for one, told in sorted(_tried.items()):
        lines = textwrap.wrap(f"{one.attacker}: {one.tries}", 112)
        for entry in told or ["NOT HELD OFF: the test failed"]:
            shown = entry if len(entry) <= 330 else f"{entry[:329]}…"
            lines += [f"  -> {line}" for line in textwrap.wrap(shown, 106)]
        for place, line in enumerate(lines):
            terminalreporter.write_line(f"{one.number if place == 0 else '':>3}  {line}")


# --- an API server, and the operator beside it ---


@pytest.fixture(scope="session")
def api_server(control_plane: ControlPlane) -> ControlPlane:
    establish(control_plane)
    return control_plane


@pytest.fixture(scope="module")
def operator(
    api_server: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    folder = tmp_path_factory.mktemp("operator")
    write_kubeconfig(api_server, folder / "kubeconfig")
    replica = Replica(folder, folder / "kubeconfig", "leader", CONFIG)
    try:
        until("the leader", lambda: replica.is_role("leader"), 60)
        yield replica
        assert replica.stop()[0] == 0
    finally:
        replica.end()


@pytest.fixture(scope="module")
def place(api_server: ControlPlane, operator: Replica) -> Place:
    return Place(api_server, api_server.namespace("besieged"), operator)


# --- an S3 server of two tenants ---


@pytest.fixture(scope="session")
def tenants() -> Iterator[Tenants]:
    try:
        with starting.s3_server("attacks", USERS) as server:
            client = server.client()
            client.put_bucket_policy(Bucket=server.bucket, Policy=json.dumps(policy()))
            yield Tenants(server, server.folder)
    except MissingError as missing:
        pytest.skip(str(missing))
