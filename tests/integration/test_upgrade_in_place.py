"""What the operator stands on is exchanged or taken away under runs at work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from operator_replicas import RUN, Replicas, apply, audit, condition, get, phase

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import ROOT, establish

pytestmark = pytest.mark.integration

CRD = ROOT / "crds/lmms-eval.io_evaluationruns.yaml"
MANY = 20


def older_crd() -> dict[str, Any]:
    """As an earlier version may have been: without some fields, rules and a column."""
    document: dict[str, Any] = yaml.safe_load(CRD.read_text())
    (version,) = document["spec"]["versions"]
    version["additionalPrinterColumns"].pop()
    root = version["schema"]["openAPIV3Schema"]["properties"]
    del root["spec"]["properties"]["ttlSecondsAfterFinished"]
    del root["status"]["properties"]["time"]
    del root["status"]["x-kubernetes-validations"]
    return document


@pytest.fixture
def older(api_server: ControlPlane) -> Iterator[None]:
    """The older kind is installed."""
    force = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    api_server.kubectl(*force, input=json.dumps(older_crd()))
    until("the older kind", lambda: not _knows_ttl(api_server), 20)
    yield
    establish(api_server)
    until("the kind as it is now", lambda: _knows_ttl(api_server), 20)


def _knows_ttl(api_server: ControlPlane) -> bool:
    known = api_server.kubectl("explain", "evr.spec.ttlSecondsAfterFinished", check=False)
    return known.returncode == 0


@pytest.mark.usefixtures("older")
def test_a_crd_is_upgraded_under_a_run_at_work(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    leader = replicas.start("leader")
    apply(api_server, namespace, "one")
    until("the status", lambda: phase(api_server, namespace, "one") == "Preparing", 10)
    time.sleep(2)
    before = (get(api_server, namespace, "evaluationrun", "one") or {})["status"]

    api_server.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    until("the new kind", lambda: _knows_ttl(api_server), 20)
    time.sleep(3)
    after = get(api_server, namespace, "evaluationrun", "one") or {}
    assert after["status"] == before

    # The watch goes on, and with it the run; a new field is of use.
    apply(api_server, namespace, "two")
    until("a new run's Job", lambda: get(api_server, namespace, "job", "two-prepare"), 15)
    change = json.dumps({"spec": {"suspend": True, "ttlSecondsAfterFinished": 60}})
    api_server.kubectl("-n", namespace, "patch", "evr", "one", "--type=merge", "-p", change)

    def stopped() -> object:
        return condition(get(api_server, namespace, "evaluationrun", "one"), "Suspended")

    until("that it has stopped", stopped, 20)
    assert get(api_server, namespace, "job", "one-prepare") is None
    assert not leader.lines("ERROR")
    told = [line["message"] for line in leader.lines("WARNING")]
    assert [text for text in told if "will retry" not in text] == []
    assert len(told) <= 3


def _when_still(api_server: ControlPlane, namespace: str) -> int:
    """How many requests there were, once there have been no more for some seconds."""
    count = -1
    while count != (found := len(audit(api_server, namespace))):
        count = found
        time.sleep(4)
    return count


def test_a_namespace_is_deleted_under_runs_at_work(
    api_server: ControlPlane,
    replicas: Replicas,
    namespace: str,
    show_figure: Callable[[str], None],
) -> None:
    leader = replicas.start("leader")
    documents = [
        RUN | {"metadata": {"name": f"run-{number}", "namespace": namespace}}
        for number in range(MANY)
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": documents}
    api_server.kubectl("create", "-f", "-", input=json.dumps(listed))
    last = f"run-{MANY - 1}"
    until("the last Job", lambda: get(api_server, namespace, "job", f"{last}-prepare"), 20)
    for number in range(MANY):  # in a rush they are told of their Jobs seconds later
        name = f"run-{number}"
        until(
            "each status", lambda name=name: phase(api_server, namespace, name) == "Preparing", 30
        )
    before = _when_still(api_server, namespace)

    api_server.kubectl("delete", "namespace", namespace, "--wait=false")
    gone = ("get", "namespace", namespace)
    until("its end", lambda: api_server.kubectl(*gone, check=False).returncode, 60)
    time.sleep(2)
    since = audit(api_server, namespace)[before:]
    writes = [event for event in since if event["verb"] not in ("get", "list", "watch")]
    refused = [event for event in writes if event["responseStatus"]["code"] == 403]
    made = [
        event
        for event in writes
        if event["verb"] == "create" and event["responseStatus"]["code"] == 201
    ]
    show_figure(
        f"a namespace with {MANY} runs at work is deleted: the operator writes {len(writes)} "
        f"times, {len(refused)} are forbidden; {len(leader.lines('WARNING'))} warnings"
    )
    assert [event for event in made if event["objectRef"]["resource"] == "jobs"] == []
    assert len(writes) <= 4 * MANY
    assert len(leader.lines("WARNING")) <= MANY
    assert not leader.lines("ERROR")
    assert leader.ask("/healthz")["ok"]
