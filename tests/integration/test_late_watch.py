"""Watches that are seconds late: nothing is made twice, and nothing is forgotten."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_streams import JOBS, RUNS, Streams
from late_proxy import LateProxy
from operator_replicas import RUN, Replicas, phase

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import write_kubeconfig

pytestmark = pytest.mark.integration

LATE_SECONDS = 5.0
MANY = 10


@pytest.fixture
def streams(api_server: ControlPlane) -> Iterator[Streams]:
    found = Streams(api_server)
    yield found
    found.close()


@pytest.fixture(params=["jobs", "pods", "evaluationruns"])
def proxy(
    request: pytest.FixtureRequest, api_server: ControlPlane, streams: Streams
) -> Iterator[LateProxy]:
    """In front of the API server; watches of one kind are late."""
    found = LateProxy(f"http://127.0.0.1:{streams.port}", f"/{request.param}", LATE_SECONDS)
    yield found
    found.close()


def created(api_server: ControlPlane, namespace: str, resource: str) -> list[int]:
    """The codes of all attempts at creating such objects, but the Job controller's."""
    lines = [json.loads(line) for line in api_server.audit_log.read_text().splitlines()]
    return [
        event["responseStatus"]["code"]
        for event in lines
        if event["verb"] == "create"
        and event["objectRef"].get("namespace") == namespace
        and event["objectRef"]["resource"] == resource
        and event["userAgent"].startswith("lmms-eval-operator/")
    ]


def test_nothing_is_made_twice_or_forgotten(
    api_server: ControlPlane,
    replicas: Replicas,
    namespace: str,
    streams: Streams,
    proxy: LateProxy,
    tmp_path: Path,
) -> None:
    # Through `kubectl proxy`, so as the administrator: who may what is no matter here.
    kubeconfig = tmp_path / "late"
    write_kubeconfig(api_server, kubeconfig, proxy.address)
    leader = replicas.start("leader", kubeconfig)
    for number in range(MANY):
        streams.create(RUNS.format(namespace), RUN | {"metadata": {"name": f"run-{number}"}})
    for number in range(MANY):
        until(
            "the word about the Job",
            lambda name=f"run-{number}": phase(api_server, namespace, name) == "Preparing",
            LATE_SECONDS + 20,
        )
    assert created(api_server, namespace, "jobs") == [201] * MANY
    assert created(api_server, namespace, "configmaps") == [201] * MANY

    # An edit makes each run looked at again, while its Job may not be seen yet.
    api_server.kubectl("-n", namespace, "label", "evr", "--all", "looked=again")
    # A Job that a person deletes is made once more: known by then or not.
    api_server.kubectl("-n", namespace, "delete", "job", "run-0-prepare", "--wait=false")
    until("the Job anew", lambda: len(created(api_server, namespace, "jobs")) > MANY, 30)
    time.sleep(2 * LATE_SECONDS)
    assert created(api_server, namespace, "jobs").count(201) == MANY + 1
    jobs = json.loads(api_server.kubectl("get", "--raw", JOBS.format(namespace)).stdout)["items"]
    assert len(jobs) == MANY
    assert proxy.held_back > 0
    assert not leader.lines("ERROR")
