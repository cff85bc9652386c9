"""How long an image's programs take to start, in seconds, the container's own start included."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import cluster
from cluster.access import until
from cluster.buildah import StoredImage
from cluster.container import Container, container_of
from cluster.operator_process import SYSTEM, establish, write_kubeconfig
from cluster.ports import free_ports

TRIES = 3
"""The quickest counts: others share the machine, and the first reads from the disk."""


def to_the_end(image: StoredImage, command: Sequence[str]) -> float:
    """Until a program has done what it was asked, such as telling its version."""
    return min(_end_of(Container(image), command) for _ in range(TRIES))


def _end_of(container: Container, command: Sequence[str]) -> float:
    begun = time.monotonic()
    container.run(*command).check_returncode()
    return time.monotonic() - begun


@dataclass(frozen=True)
class StartUp:
    """Of the operator beside a real API server: seconds until its first log line, and until
    /healthz answers 200; seconds of CPU time that it took, its end included."""

    logged: float
    healthy: float
    cpu: float


def of_the_operator(image: StoredImage) -> StartUp:
    """The quickest of a few. Raises MissingError where there is no API server."""
    with cluster.control_plane("the images' start-up") as plane:
        establish(plane)
        kubeconfig = plane.folder / "operator.kubeconfig"
        write_kubeconfig(plane, kubeconfig)
        return min((_start(image, kubeconfig) for _ in range(TRIES)), key=lambda it: it.healthy)


def _start(image: StoredImage, kubeconfig: Path) -> StartUp:
    (port,) = free_ports("127.0.0.1", 1)
    config = {"images": {"runner": "registry.example.com/runner:1"}}
    container = Container(
        image,
        files={"kubeconfig": kubeconfig.read_text(), "config.yaml": json.dumps(config)},
        environment={"KUBECONFIG": "/mnt/kubeconfig"},
    )
    command = ["evalrun-operator", "--config=/mnt/config.yaml", f"--lease-namespace={SYSTEM}"]
    with container.prepared([*command, f"--listen=127.0.0.1:{port}"]) as prepared:
        cpu, begun = _cpu(), time.monotonic()
        process = subprocess.Popen(prepared, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            json.loads(process.stderr.readline())
            logged = time.monotonic() - begun
            until("the operator is healthy", lambda: _is_healthy(port), 30, 0.01)
            healthy = time.monotonic() - begun
        finally:
            container_of(process).end()
            process.communicate()
        return StartUp(logged, healthy, _cpu() - cpu)


def _cpu() -> float:
    """Seconds of all children that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
