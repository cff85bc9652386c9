"""Runs in the real Kueue's queues, without a node: who waits, why, and who goes first."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from queues import JOB_UID, Operator, Place, cluster_queue, priority, queue

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import USER

pytestmark = pytest.mark.kueue

CPUS = {"cpu": "2", "memory": "64Gi"}


@pytest.fixture
def place(plane: ControlPlane, operator: Operator) -> Place:
    """A namespace with a queue of two CPUs of its own."""
    name = plane.namespace("kueue")
    found = Place(plane, name)
    found.apply(*cluster_queue(name, name, CPUS), queue("cpus", name), priority("urgent", 1000))
    return found


def waits(place: Place, name: str, text: str) -> Callable[[], bool]:
    def check() -> bool:
        status, ready = place.status(name), place.condition(name, "Ready")
        return status.get("phase") == "Queued" and text in ready.get("message", "")

    return check


def test_a_job_is_born_suspended_and_begins_when_kueue_admits_it(place: Place) -> None:
    place.run("first", queueName="cpus")
    until("admitted", lambda: place.is_suspended("first-run") is False, 30)
    labels = place.get("job", "first-run")["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "cpus"
    until("told", lambda: place.status("first").get("phase") == "Preparing", 30)
    status = place.status("first")
    assert status["queue"]["state"] == "Admitted"
    assert [reason for _, reason, _ in place.events("first")] == ["Preparing"]


def test_what_a_run_waits_for_is_said_in_kueues_words_and_it_goes_on_when_quota_is_free(
    place: Place, show_figure: Callable[[str], None]
) -> None:
    for name in ("a", "b", "c"):
        place.run(name, queueName="cpus")
        until("its Job", lambda name=name: place.is_suspended(f"{name}-run") is not None, 30)
    until("it waits", waits(place, "c", "insufficient unused quota for cpu"), 30)
    status = place.status("c")
    assert status["queue"]["state"] == "Waiting"
    assert place.condition("c", "Stalled")["status"] == "False"
    assert "completionTime" not in status
    show_figure(f"a run that waits: {place.condition('c', 'Ready')['message']}")
    place.kubectl("delete", "evr", "a")
    until("it begins", lambda: place.status("c").get("phase") == "Preparing", 30)
    assert place.status("c")["queue"]["state"] == "Admitted"
    assert place.status("c")["time"]["queue"] > 0


def test_a_queue_that_does_not_exist_is_said_with_the_remedy_and_waited_for(
    place: Place, show_figure: Callable[[str], None]
) -> None:
    place.run("lost", queueName="nowhere")
    until("it waits", waits(place, "lost", "LocalQueue nowhere doesn't exist"), 30)
    stalled = place.condition("lost", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "QueueUnusable")
    assert "kubectl get localqueues" in stalled["message"]
    show_figure(f"a queue that does not exist: {stalled['message']}")
    assert [event[:2] for event in place.events("lost")] == [("Warning", "QueueUnusable")]
    place.apply(queue("nowhere", place.namespace))
    until("it begins", lambda: place.status("lost").get("phase") == "Preparing", 60)
    assert place.condition("lost", "Stalled")["status"] == "False"


def test_a_preempted_run_says_so_and_goes_on_afterwards(
    place: Place, show_figure: Callable[[str], None]
) -> None:
    place.run("low", queueName="cpus")
    until("it begins", lambda: place.status("low").get("phase") == "Preparing", 30)
    two = {"resources": {"cpu": "2", "memory": "1Gi"}}
    place.run("high", queueName="cpus", queuePriorityClassName="urgent", answerPod=two)
    until("it begins", lambda: place.status("high").get("phase") == "Preparing", 60)
    until("it is told", waits(place, "low", "preempted in queue cpus"), 30)
    until("the reason", lambda: place.condition("low", "Ready")["reason"] == "Preempted", 30)
    status = place.status("low")
    assert (status["queue"]["state"], status["queue"]["evictions"]) == ("Evicted", 1)
    told = [event for event in place.events("low") if event[1] == "Preempted"]
    assert len(told) == 1
    show_figure(f"a preempted run: {told[0][2]}")
    assert place.condition("low", "Stalled")["status"] == "False"
    place.kubectl("delete", "evr", "high")
    until("it goes on", lambda: place.status("low").get("phase") == "Preparing", 60)
    assert place.status("low")["queue"] | {"since": "", "job": ""} == {
        "name": "cpus",
        "state": "Admitted",
        "evictions": 1,
        "since": "",
        "job": "",
    }


def test_a_run_that_waits_can_be_suspended_and_sent_to_another_queue(place: Place) -> None:
    place.run("moved", queueName="nowhere")
    until("it waits", waits(place, "moved", "doesn't exist"), 30)
    refused = place.cluster.kubectl(
        *("-n", place.namespace, "patch", "evr", "moved", "--type=merge"),
        *("-p", json.dumps({"spec": {"queueName": "cpus"}})),
        check=False,
    )
    assert "queueName can change only while the run is suspended" in refused.stderr
    patch = ("patch", "evr", "moved", "--type=merge", "-p")
    place.kubectl(*patch, json.dumps({"spec": {"suspend": True}}))
    until("it is suspended", lambda: place.status("moved").get("phase") == "Suspended", 30)
    until("its Job is gone", lambda: place.get("job", "moved-run") == {}, 30)
    until("its Workload too", lambda: "No resources" in _workloads(place), 30)
    place.kubectl(*patch, json.dumps({"spec": {"queueName": "cpus"}}))
    place.kubectl(*patch, json.dumps({"spec": {"suspend": False}}))
    until("it begins", lambda: place.status("moved").get("phase") == "Preparing", 30)


def _workloads(place: Place) -> str:
    done = place.cluster.kubectl("-n", place.namespace, "get", "workloads", "-l", JOB_UID)
    return done.stdout + done.stderr


def test_forty_waiting_runs_cost_few_requests_and_no_writes(
    place: Place, operator: Operator, show_figure: Callable[[str], None]
) -> None:
    for number in range(42):
        place.run(f"run-{number}", queueName="cpus")
    runs = [f"run-{number}" for number in range(42)]

    def waiting() -> list[str]:
        found = json.loads(place.kubectl("get", "evr", "-o", "json"))["items"]
        conditions = [run.get("status", {}).get("conditions", ()) for run in found]
        return [
            entry["message"]
            for of_run in conditions
            for entry in of_run
            if entry["type"] == "Ready" and "insufficient unused quota" in entry["message"]
        ]

    until("all but two wait", lambda: len(waiting()) == len(runs) - 2, 90)
    time.sleep(10)  # what is left to be told of the start
    before, began = _requests(place), time.monotonic()
    time.sleep(60)
    after, seconds = _requests(place), time.monotonic() - began
    made = {what: count - before.get(what, 0) for what, count in after.items()}
    made = {what: count for what, count in made.items() if count}
    asked = made.pop("list workloads", 0)
    assert 0 < asked <= 3 * seconds / 30, made
    assert made == {}
    assert operator.complaints() == []
    show_figure(
        f"{len(runs) - 2} runs waited {seconds:.0f} s: {asked} lists of Workloads, no write"
    )


def _requests(place: Place) -> dict[str, int]:
    """The operator's requests but those of its Lease and its watches, by verb and resource."""
    found: dict[str, int] = {}
    for line in place.cluster.audit_log.read_text().splitlines():
        event = json.loads(line)
        reference = event.get("objectRef") or {}
        if event["user"].get("username") != USER or event["verb"] == "watch":
            continue
        if reference["resource"] == "leases":
            continue
        what = f"{event['verb']} {reference['resource']}"
        found[what] = found.get(what, 0) + 1
    return found
