"""The operator is killed, frozen and doubled while a run goes on: nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from space import ROOT, Space
from still import hold, let_go

from cluster.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

BIN = Path(sys.executable).parent
KILLS = 20
FROZEN_SECONDS = 30
LEASE_SECONDS = 2
TEST_SPLIT = 9673
"""Documents of the example's benchmark."""
ANSWERING_KILLS = 12
HELD_FROM = 3
"""From this kill on the pod that answers is held still, lest it finish before the others."""
PAUSES = (0.0, 0.05, 0.2, 0.02, 0.5, 0.1, 1.5, 0.3)


class Operators:
    """Operator processes beside the cluster, in place of the ones in it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._config = folder / "config.yaml"
        config = yaml.safe_load((ROOT / "config" / "demo" / "config.yaml").read_text())
        config["leaseSeconds"] = LEASE_SECONDS  # a killed operator does not give its Lease back
        self._config.write_text(yaml.safe_dump(config))
        self._started = 0
        self.running: list[subprocess.Popen[bytes]] = []
        self._logs: dict[int, Path] = {}

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more."""
        self._started += 1
        path = self._folder / f"operator-{self._started}.log"
        log = path.open("wb")
        process = subprocess.Popen(
            [
                *(BIN / "evalrun-operator", "--config", self._config),
                *("--listen", "127.0.0.1:0"),
            ],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "KUBECONFIG": str(self._cluster.kubeconfig),
                "POD_NAME": f"local-{self._started}",
                "POD_NAMESPACE": "lmms-eval-system",
            },
        )
        self.running.append(process)
        self._logs[process.pid] = path
        return process

    def wait_until_it_leads(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until a process leads."""
        log = self._logs[process.pid]
        deadline = time.monotonic() + 60
        while "leading as" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End one with SIGKILL."""
        process.kill()
        process.wait(10)
        self.running.remove(process)

    def end(self) -> None:
        """End all."""
        for process in list(self.running):
            process.send_signal(signal.SIGCONT)
            self.kill(process)


@pytest.fixture
def operators(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operators]:
    deployment = ("-n", "lmms-eval-system", "scale", "deployment/lmms-eval-operator")
    installed.kubectl(*deployment, "--replicas=0")
    installed.kubectl(
        *("-n", "lmms-eval-system", "wait", "--for=delete", "pod", "--timeout=60s"),
        *("-l", "app.kubernetes.io/name=lmms-eval-operator"),
    )
    found = Operators(installed, tmp_path_factory.mktemp("operators"))
    yield found
    found.end()
    installed.kubectl(*deployment, "--replicas=1")


def created_jobs(space: Space) -> list[str]:
    """Names of the Jobs that were created in the namespace, by the audit log."""
    found = []
    for line in space.cluster.audit_log.read_text().splitlines():
        entry = json.loads(line)
        reference = entry.get("objectRef") or {}
        if (
            entry["verb"] == "create"
            and reference.get("resource") == "jobs"
            and reference.get("namespace") == space.namespace
            and entry["responseStatus"]["code"] == 201
        ):
            found.append(reference["name"])
    return found


def manifests(space: Space) -> int:
    """Manifests in the store of runs of the namespace."""
    listed = space.cluster.s3.client().list_objects_v2(
        Bucket=space.cluster.s3.bucket, Prefix=f"demo/runs/{space.namespace}/"
    )
    return sum(entry["Key"].endswith("manifest.json") for entry in listed.get("Contents", []))


def test_a_run_survives_twenty_kills_of_the_operator_a_freeze_and_two_replicas(
    space: Space,
    operators: Operators,
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    frozen = operators.start()
    operators.wait_until_it_leads(frozen)
    whole = [{"benchmarkRef": {"name": "easy-vqa"}}]  # without a limit, so that it takes its time
    name = space.apply("gpu.yaml", benchmarks=whole)
    space.until(name, "preparing", lambda status: status.get("phase") == "Preparing", 30)
    current = operators.start()
    frozen.send_signal(signal.SIGSTOP)
    frozen_at = time.monotonic()
    operators.wait_until_it_leads(current)
    while time.monotonic() - frozen_at < FROZEN_SECONDS:
        space.run(name)
        time.sleep(1)
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(30) != 0, "a leader that lost its time goes on"

    points: list[str] = []
    held: list[str] = []
    for number in range(KILLS):
        operators.wait_until_it_leads(current)
        time.sleep(PAUSES[number % len(PAUSES)])  # while it lists, decides, writes, waits
        if number == ANSWERING_KILLS:
            let_go(held.pop())
            space.until(name, "answered", lambda status: status["phase"] != "Answering")
        points.append(space.status(name).get("phase", "none"))
        if number == HELD_FROM:
            held += [pod["metadata"]["uid"] for pod in space.pods(name, "answer")]
            hold(held[0])
        operators.kill(current)
        current = operators.start()
    killed_during = {phase: points.count(phase) for phase in dict.fromkeys(points)}
    assert {"Answering", "Scoring"} <= set(points), killed_during
    assert points.count("Succeeded") < KILLS / 2, killed_during

    status = space.finished(name)
    assert status["phase"] == "Succeeded", space.kubectl("describe", "evr", name)
    assert sorted(created_jobs(space)) == [
        f"{name}-{step}" for step in ("answer", "prepare", "score")
    ]
    assert manifests(space) == 1
    answers = status["answers"]
    assert (answers["reused"], answers["computed"]) == (0, TEST_SPLIT)

    ended = space.run(name)
    space.kubectl("delete", "job", f"{name}-score")
    time.sleep(20)
    assert space.run(name)["status"] == ended["status"]
    assert sorted(created_jobs(space)) == [
        f"{name}-{step}" for step in ("answer", "prepare", "score")
    ]
    show_figure(
        f"the leader frozen for {FROZEN_SECONDS} s while a second replica went on, then killed "
        f"{len(points)} times (phase when it died: {killed_during}): one Job a step, 1 manifest, "
        f"nothing computed twice, status unchanged after a deleted Job; {clock()}"
    )
