"""The control plane that is measured, and the operator's process on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.control.client import Target
from cluster import cluster as clusters
from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.processes import without_proxy
from cluster.ports import free_ports

ROOT = Path(__file__).parents[3]
SYSTEM = "lmms-eval-system"
USER = f"system:serviceaccount:{SYSTEM}:lmms-eval-operator"
CONFIG: dict[str, Any] = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True},
}
CRDS = ("crd/evaluationruns.lmms-eval.io", "crd/benchmarks.lmms-eval.io")
TICKS = os.sysconf("SC_CLK_TCK")


class Stage:
    """A control plane with our kinds and the operator's rights, and at most one operator."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.target = Target(plane.server, plane.folder / "pki")
        plane.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
        # Until a CRD has its first condition `kubectl wait` ends with an error of its own.
        until(
            "the CRDs",
            lambda: (
                not plane.kubectl(
                    "wait", "--for=condition=Established", "--timeout=30s", check=False, *CRDS
                ).returncode
            ),
            30,
        )
        plane.kubectl("create", "namespace", SYSTEM)
        rbac = plane.kubectl("kustomize", str(ROOT / "config/rbac")).stdout
        plane.kubectl("-n", SYSTEM, "apply", "-f", "-", input=rbac)
        token = plane.kubectl(
            "-n", SYSTEM, "create", "token", "lmms-eval-operator", "--duration=24h"
        ).stdout.strip()
        raw = plane.kubectl("config", "view", "--raw", "--flatten", "-o", "json").stdout
        config = json.loads(raw)
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        self._kubeconfig = plane.folder / "operator.kubeconfig"
        self._kubeconfig.write_text(json.dumps(config))
        self.log = plane.folder / "operator.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self, **settings: Any) -> float:
        """Start the operator, and wait until it leads. When it was started, in steady seconds."""
        config = self.plane.folder / "operator.json"
        config.write_text(json.dumps({**CONFIG, **settings}))
        (self._port,) = free_ports("127.0.0.1", 1)
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    Path(sys.executable).with_name("evalrun-operator"),
                    f"--config={config}",
                    f"--listen=127.0.0.1:{self._port}",
                    f"--lease-namespace={SYSTEM}",
                ],
                env={**without_proxy(), "KUBECONFIG": str(self._kubeconfig)},
                stderr=log,
                start_new_session=True,
            )
        return began

    def ready(self) -> None:
        """Wait until it leads and has read everything."""
        until("the operator leads", self._leads, 60, 0.05)

    def _leads(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        answer = self.ask("/readyz")
        return bool(answer) and bool(json.loads(answer)["ok"]) and b'"leader"' in answer

    def ask(self, path: str) -> bytes:
        """What an endpoint of the operator answers; nothing while it has none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as it:
                return bytes(it.read())
        except OSError:
            return b""

    def stop(self, *, at_once: bool = False) -> None:
        """End the operator."""
        if self._process is None:
            return
        if at_once:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(20)
        self._process = None

    @property
    def resident_mib(self) -> float:
        """The operator's resident memory."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the operator has used."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def stage() -> Iterator[Stage]:
    """Start a control plane; end all in the end."""
    with clusters.control_plane("bench-control", scheduler=False) as plane:
        found = Stage(plane)
        try:
            yield found
        finally:
            found.stop()
