"""A cluster as a client sees it: a kubeconfig, kubectl, namespaces."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from cluster.processes import without_proxy
from cluster.tools import Tools


class NotInTimeError(Exception):
    """Something did not become true in time."""


def until(what: str, true: Callable[[], object], seconds: float, pause: float = 0.1) -> None:
    """Wait until it is true. Raises NotInTimeError."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise NotInTimeError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


class Access:
    """What tests do with a cluster, whoever started it."""

    def __init__(self, tools: Tools, kubeconfig: Path) -> None:
        self.tools = tools
        self.kubeconfig = kubeconfig

    def kubectl(
        self, *arguments: str, input: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl. With check, raises AssertionError with what it wrote."""
        done = subprocess.run(
            [self.tools["kubectl"], "--kubeconfig", self.kubeconfig, *arguments],
            input=input,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=without_proxy(),
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def namespace(self, prefix: str = "test") -> str:
        """A new namespace that pods can be created in; its name."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        until(f"the service account of {name}", lambda: self._is_usable(name), 30)
        return name

    def _is_usable(self, namespace: str) -> bool:
        wanted = ("serviceaccount/default", "configmap/kube-root-ca.crt")
        return not self.kubectl("-n", namespace, "get", *wanted, check=False).returncode
