"""The cluster itself: pods run as the product's do, and nothing is left of it in the end."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import cgroups
from cluster.cluster import Cluster
from cluster.control_plane import ControlPlane
from cluster.node import OWN_FOLDERS, NodeLock, OccupiedError

pytestmark = pytest.mark.e2e

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: probe}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        runAsUser: USER
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: probe
          image: IMAGE
          command: [sh, -c, COMMAND]
          resources: {limits: {nvidia.com/gpu: 1}}
          securityContext:
            readOnlyRootFilesystem: true
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: work, mountPath: /work}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - {name: work, emptyDir: {}}
        - {name: tmp, emptyDir: {}}
"""


def run(cluster: Cluster, command: str, image: str = "busybox:test", user: int = 65532) -> str:
    """What a shell's command writes in a pod that is confined as the product's are."""
    namespace = cluster.namespace()
    job = JOB.replace("COMMAND", json.dumps(command))
    job = job.replace("IMAGE", image).replace("USER", str(user))
    cluster.kubectl("-n", namespace, "apply", "-f", "-", input=job)
    done = ("--for=condition=complete", "job/probe", "--timeout=300s")
    cluster.kubectl("-n", namespace, "wait", *done, timeout=310)
    return cluster.kubectl("-n", namespace, "logs", "job/probe").stdout


def test_a_confined_pod_with_a_gpu_completes(cluster: Cluster) -> None:
    written = run(cluster, "id -u; touch /x || echo read-only")
    assert "65532" in written
    assert "read-only" in written


def test_pods_reach_the_store_and_the_api_server(cluster: Cluster) -> None:
    api = "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo api"
    store = f"wget -q -O - {cluster.s3.endpoint} 2>&1 | cat"
    written = run(cluster, f"{api}; {store}")
    assert "api" in written
    assert "403 Forbidden" in written  # an anonymous request, answered


def test_a_missing_image_fails_at_once(cluster: Cluster) -> None:
    namespace = cluster.namespace()
    cluster.kubectl("-n", namespace, "run", "probe", "--image=docker.io/library/absent:1")
    path = "{.status.containerStatuses[0].state.waiting.reason}"
    deadline = time.monotonic() + 30
    while "Pull" not in (
        reason := cluster.kubectl(
            "-n", namespace, "get", "pod", "probe", "-o", f"jsonpath={path}"
        ).stdout
    ):
        assert time.monotonic() < deadline, reason
        time.sleep(0.2)
    assert reason in ("ErrImagePull", "ImagePullBackOff")


def test_the_operators_image_runs_as_any_user(cluster: Cluster) -> None:
    operator, _ = cluster.ensure_images()
    assert "usage: evalrun-operator" in run(cluster, "evalrun-operator --help", operator, 12345)


def test_the_runners_image_runs_as_any_user_and_has_what_backends_import(
    cluster: Cluster,
) -> None:
    _, runner = cluster.ensure_images()
    imports = "import cv2, decord, librosa, lmms_eval, os, torch; print(os.getuid())"
    # librosa compiles on first use, and wants a folder for that.
    use = "librosa.feature.melspectrogram(y=librosa.tone(440, length=22050))"
    command = f"evalrun-runner --help && python -c '{imports}; {use}'"
    written = run(cluster, command, runner, 12345)
    assert "usage: evalrun-runner" in written
    assert "12345" in written


def test_an_image_can_be_derived(cluster: Cluster) -> None:
    operator, _ = cluster.ensure_images()
    derived = cluster.derive_image(
        operator,
        "lmms-eval.io/test/derived:1",
        removed=["/opt/packages/evalrun_operator"],
        added={"/opt/added/here": b"added"},
    )
    assert run(cluster, "ls /opt/packages; cat /opt/added/here", derived) == "evalrun_api\nadded"


def test_there_is_one_node_on_a_machine(cluster: Cluster) -> None:
    with pytest.raises(OccupiedError, match=f"already: tests, process {os.getpid()}"):
        NodeLock("another")


def test_a_node_sees_its_own_folders_where_the_host_has_others(cluster: Cluster) -> None:
    for folder in OWN_FOLDERS:
        inside = cluster.node.root / folder.relative_to("/")
        assert inside.stat().st_dev != folder.stat().st_dev, folder
    socket = "var/lib/kubelet/device-plugins/kubelet.sock"
    assert (cluster.node.root / socket).is_socket()


def read_from_etcd(control_plane: ControlPlane, client: str | None) -> str:
    """What etcd tells of its health to a client with this certificate of the cluster's, or none."""
    pki = control_plane.authority.folder
    context = ssl.create_default_context(cafile=str(control_plane.authority.certificate))
    if client:
        context.load_cert_chain(pki / f"{client}.crt", pki / f"{client}.key")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(f"{control_plane.etcd}/health", timeout=10) as answer:
        return str(answer.read().decode())


def test_etcd_answers_nobody_without_a_certificate(control_plane: ControlPlane) -> None:
    assert "true" in read_from_etcd(control_plane, "etcd")
    with pytest.raises(OSError, match=r"certificate required|CERTIFICATE_REQUIRED|reset"):
        read_from_etcd(control_plane, None)


def test_writes_can_be_counted(control_plane: ControlPlane) -> None:
    namespace = control_plane.namespace()
    control_plane.kubectl("-n", namespace, "create", "configmap", "counted")
    log = control_plane.audit_log.read_text().splitlines()
    created = [line for line in log if '"name":"counted"' in line and '"verb":"create"' in line]
    assert len(created) == 1


OTHER_BRIDGE = "evalrun9"

CHILD = f"""
import subprocess, time
from cluster import cgroups
from cluster.cluster import control_plane
with control_plane("a test") as started:
    started._ledger.bridge("{OTHER_BRIDGE}")
    subprocess.run(["ip", "link", "add", "{OTHER_BRIDGE}", "type", "bridge"], check=True)
    for group in cgroups.own("other"):
        started._ledger.cgroup(group)
        cgroups.make(group)
    print(started.folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_process() -> Iterator[Callable[[], tuple[subprocess.Popen[str], Path]]]:
    """Starts a process with a control plane of its own; gives it and the cluster's folder."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], Path]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command.replace("\0", " "))
    return found


def left_of(folder: Path) -> list[str]:
    """What is still there of the other process' cluster."""
    paths = [folder, Path("/sys/class/net") / OTHER_BRIDGE, *cgroups.own("other")]
    return processes_of(folder) + [str(path) for path in paths if path.exists()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_nothing_is_left_of_a_cluster_whose_owner_ends(
    other_process: Callable[[], tuple[subprocess.Popen[str], Path]], number: signal.Signals
) -> None:
    process, folder = other_process()
    assert len(left_of(folder)) >= 7
    process.send_signal(number)
    process.wait(20)
    deadline = time.monotonic() + 20
    while left := left_of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
