"""The operator as a process of ours, with the rights that its Role gives it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.ports import free_ports
from cluster.processes import without_proxy

ROOT = Path(__file__).parents[2]
SYSTEM = "lmms-eval-system"
USER = f"system:serviceaccount:{SYSTEM}:lmms-eval-operator"


def establish(plane: ControlPlane) -> None:
    """Have our kinds."""
    plane.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    crds = ("crd/evaluationruns.lmms-eval.io", "crd/benchmarks.lmms-eval.io")
    wait = ("wait", "--for=condition=Established", "--timeout=30s", *crds)
    # Until a CRD has its first condition `kubectl wait` ends with an error of its own.
    until("our kinds", lambda: not plane.kubectl(*wait, check=False).returncode, 30)


def write_kubeconfig(
    plane: ControlPlane, path: Path, server: str | None = None, rights: str | None = None
) -> None:
    """One of the operator's service account, after making that.

    server: instead of the real one. rights: manifests of the account and what it may do, instead of
    config/rbac.
    """
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    plane.kubectl("apply", "-f", "-", input=json.dumps(namespace))
    if rights is None:
        rbac = plane.kubectl("kustomize", str(ROOT / "config/rbac")).stdout
        plane.kubectl("-n", SYSTEM, "apply", "-f", "-", input=rbac)
    else:
        plane.kubectl("apply", "-f", "-", input=rights)
    token = plane.kubectl(
        "-n", SYSTEM, "create", "token", "lmms-eval-operator", "--duration=24h"
    ).stdout
    raw = plane.kubectl("config", "view", "--raw", "--flatten", "-o", "json").stdout
    config = json.loads(raw)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token.strip()}}]
    if server is not None:
        config["clusters"] = [
            {"name": config["clusters"][0]["name"], "cluster": {"server": server}}
        ]
    path.write_text(json.dumps(config))


class Replica:
    """A process of the operator."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        name: str,
        config: Mapping[str, Any],
        pod_uid: str = "",
        python: Path = Path(sys.executable),
    ) -> None:
        """Start it. folder: gets its log NAME.log. config: the administrator's file.

        pod_uid: of the pod in which it runs, if it is to take it for one. python: of the
        environment that it runs in.
        """
        self.port = free_ports("127.0.0.1", 1)[0]
        self.log = folder / f"{name}.log"
        file = folder / f"{name}.yaml"
        file.write_text(json.dumps(config))
        self._output = self.log.open("wb")
        self.process = subprocess.Popen(
            [
                python,
                "-m",
                "evalrun_operator.main",
                f"--config={file}",
                f"--listen=127.0.0.1:{self.port}",
                f"--lease-namespace={SYSTEM}",
            ],
            env={**without_proxy(), "KUBECONFIG": str(kubeconfig), "POD_UID": pod_uid},
            stdout=subprocess.DEVNULL,
            stderr=self._output,
        )

    def ask(self, path: str) -> dict[str, Any]:
        """What an endpoint answers; nothing while there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as it:
                return dict(json.load(it))
        except urllib.error.HTTPError as answer:
            return dict(json.load(answer))
        except OSError:
            return {}

    def text(self, path: str) -> str:
        """The same as it is."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as it:
            return str(it.read().decode())

    def is_role(self, role: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        answer = self.ask("/readyz")
        return bool(answer.get("ok")) and answer["role"] == role

    def lines(self, level: str) -> list[dict[str, Any]]:
        """What it logged at a level."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["level"] == level]

    def stop(self) -> tuple[int, float]:
        """Ask it to stop; exit code and seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15), time.monotonic() - began

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()
