"""Replicas are replaced, one after another, while runs come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Any

import pytest
from api_streams import JOBS, LEASES, RUNS, Streams, added, version
from operator_replicas import RUN, Replicas, audited

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import SYSTEM, Replica

pytestmark = pytest.mark.integration

LEAST_SECONDS = 20.0
EACH_SECONDS = 0.2
LONGEST_SECONDS = 3.0
"""Between a run and its Job, though its leader ends just then and gives its Lease back. Where the
machine is slow, also ten times what a run usually waits."""
LEASE_SECONDS = 30
"""As the operator has it by default: whoever waited for its end would be noticed."""


@pytest.fixture
def streams(api_server: ControlPlane) -> Iterator[Streams]:
    found = Streams(api_server)
    yield found
    found.close()


def test_each_run_gets_one_job_in_time_and_nobody_writes_without_the_lease(
    api_server: ControlPlane,
    replicas: Replicas,
    namespace: str,
    streams: Streams,
    show_figure: Callable[[str], None],
) -> None:
    settings = {"leaseSeconds": LEASE_SECONDS}
    old = [replicas.start("leader", **settings), replicas.start("standby", **settings)]
    leases = streams.watch(LEASES.format(SYSTEM))
    jobs = streams.watch(JOBS.format(namespace))
    runs = streams.watch(RUNS.format(namespace))
    enough = threading.Event()
    coming = threading.Thread(target=_come, args=(streams, namespace, enough), daemon=True)
    coming.start()
    begun_at = time.monotonic()
    time.sleep(2)
    for replica in old:  # as a Deployment does: one more, then one less
        replicas.start("standby", **settings)
        code, _ = replica.stop()
        assert code == 0
        _until_one_leads(replicas.running)
    time.sleep(max(LEAST_SECONDS - (time.monotonic() - begun_at), 0))
    enough.set()
    coming.join()
    until("all Jobs", lambda: len(added(jobs)) == len(added(runs)), 20)

    made, begun = added(jobs), added(runs)
    many = len(begun)
    assert set(made) == {f"{name}-prepare" for name in begun}
    assert audited(api_server, namespace)[("lmms-eval-operator", "create", "jobs")] == many
    vacancies = _vacancies(leases)
    assert vacancies  # one, where the first new replica takes over at once
    written = [version(event) for event in made.values()]
    written += [version(event) for event in runs if event["type"] == "MODIFIED"]
    assert len(written) > many
    for begin, end in vacancies:
        assert [at for at in written if begin < at < end] == []
    gaps = sorted(made[f"{name}-prepare"]["arrived"] - it["arrived"] for name, it in begun.items())
    usual, longest = gaps[many // 2], gaps[-1]
    show_figure(
        f"{many} runs, {1 / EACH_SECONDS:.0f} a second, both replicas replaced meanwhile: from a "
        f"run to its Job {usual * 1000:.0f} ms in the middle, {longest * 1000:.0f} ms at most"
    )
    assert longest <= max(LONGEST_SECONDS, 10 * usual)
    for replica in replicas.running:
        assert not replica.lines("ERROR")


def _come(streams: Streams, namespace: str, enough: threading.Event) -> None:
    for number in count():
        if enough.is_set():
            return
        begun = time.monotonic()
        streams.create(RUNS.format(namespace), RUN | {"metadata": {"name": f"run-{number}"}})
        time.sleep(max(EACH_SECONDS - (time.monotonic() - begun), 0))


def _until_one_leads(replicas: list[Replica]) -> None:
    until("a leader", lambda: any(replica.is_role("leader") for replica in replicas), 20)


def _vacancies(leases: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Versions between which nobody held the Lease."""
    found = []
    for before, after in pairwise(leases):
        if not before["object"]["spec"].get("holderIdentity"):
            found.append((version(before), version(after)))
    return found
