"""The control plane that is measured, and the operator's process on it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.api_client import ApiClient
from bench.control.audit import AuditLog, Request
from bench.control.client import Target, Writer
from bench.control.documents import CONFIG
from bench.played_node.process import PlayedNode
from cluster import cluster as clusters
from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import USER, Replica, establish, write_kubeconfig

Answer = TypeVar("Answer")
OPERATOR_PYTHON = Path(__file__).parents[3] / ".venv-operator/bin/python"
"""Of an environment with what the operator's image has, and no more."""
TICKS = os.sysconf("SC_CLK_TCK")
READER = "evalrun_operator.resync"
"""Who logs that everything was read."""


class Stage:
    """A control plane with our kinds and the operator's rights, and at most one operator."""

    def __init__(self, plane: ControlPlane, writer: Writer) -> None:
        self.plane = plane
        self.target = Target(plane.server, plane.folder / "pki")
        self.writer = writer
        establish(plane)
        self._kubeconfig = plane.folder / "operator.kubeconfig"
        write_kubeconfig(plane, self._kubeconfig)
        self._audit = AuditLog(plane.audit_log)
        self.requests: list[Request] = []
        """All that operators asked for, as `account` has read them."""
        self.replica: Replica | None = None
        self._number = 0
        self.node: PlayedNode | None = None

    def start(self, **settings: Any) -> float:
        """Start the operator. settings: of its configuration, over the bench's. When, in steady
        seconds."""
        self._number += 1
        began = time.monotonic()
        name = f"operator-{self._number}"
        config = {**CONFIG, **settings}
        self.replica = Replica(
            self.plane.folder, self._kubeconfig, name, config, python=OPERATOR_PYTHON
        )
        return began

    def ready(self) -> None:
        """Wait until it leads."""
        assert self.replica is not None
        replica = self.replica
        until("the operator leads", lambda: replica.is_role("leader"), 60, 0.02)

    def has_read(self, times: int) -> None:
        """Wait until it has read everything so often: once as it begins to lead, once more when its
        watches have.
        """
        assert self.replica is not None
        replica = self.replica

        def readings() -> int:
            told = (line for line in replica.lines("INFO") if line["logger"] == READER)
            return sum(line["message"].startswith("read ") for line in told)

        until(f"reading {times} of everything", lambda: readings() >= times, 120, 0.05)

    def stop(self) -> None:
        """End the operator; an error that it logged is raised."""
        if self.replica is None:
            return
        self.replica.stop()
        errors = self.replica.lines("ERROR") + self.replica.lines("CRITICAL")
        self.replica.end()
        self.replica = None
        assert not errors, errors[:3]

    def account(self) -> list[Request]:
        """The operator's requests since the last call."""
        time.sleep(1)  # the API server writes its log a little later
        new = self._audit.new()
        self.requests += new
        return new

    def play(self, *options: str) -> None:
        """Have pods run, on a node that is played."""
        self.plane.start_scheduler()
        self.node = PlayedNode.start(self.plane, *options)

    @property
    def resident_mib(self) -> float:
        """The operator's resident memory."""
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the operator has used."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def _pid(self) -> int:
        assert self.replica is not None
        assert self.replica.process.poll() is None, self.replica.log.read_text()[-3000:]
        return self.replica.process.pid

    def ask(self, work: Callable[[ApiClient], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do something with an administrator's client."""

        async def do() -> Answer:
            async with ApiClient(self.plane.kubeconfig) as api:
                return await work(api)

        return asyncio.run(do())

    def count(self, path: str) -> int:
        """How many objects there are."""

        async def ask(api: ApiClient) -> int:
            page = await api.request("GET", path, query={"limit": "1"})
            return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

        return self.ask(ask)

    def run(self, namespace: str, name: str) -> dict[str, Any]:
        """A run as it is now."""
        done = self.plane.kubectl("-n", namespace, "get", "evr", name, "-o", "json")
        return dict(json.loads(done.stdout))

    def clear(self, namespace: str) -> None:
        """Delete the runs of a namespace, and wait until their pods are gone.

        The namespace stays: its controller would look again after half of its pods' grace period.
        """
        self.plane.kubectl("-n", namespace, "delete", "evr", "--all", "--wait=false")
        left = ("-n", namespace, "get", "evr,jobs,pods", "-o", "name")
        until("its runs and pods are gone", lambda: not self.plane.kubectl(*left).stdout, 120, 1)


@contextmanager
def stage() -> Iterator[Stage]:
    """Start a control plane; end all in the end."""
    with clusters.control_plane("bench-control", scheduler=False, audited_users=(USER,)) as plane:
        writer = Writer(Target(plane.server, plane.folder / "pki"))
        found = Stage(plane, writer)
        try:
            yield found
        finally:
            if found.replica is not None:
                found.replica.end()
            writer.close()
