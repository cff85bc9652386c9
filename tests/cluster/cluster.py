"""A control plane, a node and an S3 server that pods reach: what the end-to-end tests run on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cluster import cgroups, tools
from cluster.access import Access
from cluster.control_plane import AUDITED, PROGRAMS, ControlPlane
from cluster.ledger import Ledger, clear_dead
from cluster.node import API_PORT, BRIDGE, S3_PORT, SERVICES, Bridge, Node, NodeLock, store
from cluster.progress import say
from cluster.s3 import S3
from cluster.tools import BINARIES, MissingError, Tools


class Cluster(Access):
    """All three, on the bridge's address."""

    def __init__(self, control_plane: ControlPlane, node: Node, s3: S3) -> None:
        super().__init__(control_plane.tools, control_plane.kubeconfig)
        self.control_plane = control_plane
        self.node = node
        self.s3 = s3
        self.host_ip = control_plane.host_ip
        self.api_port = control_plane.api_port
        self.audit_log = control_plane.audit_log
        self.gpus = node.gpus
        self.import_image = node.import_image
        self.ensure_images = node.ensure_images
        self.derive_image = node.derive_image


@contextmanager
def control_plane(
    purpose: str,
    *,
    scheduler: bool = True,
    audited_users: Sequence[str] = (),
    audited: Sequence[Mapping[str, object]] = AUDITED,
) -> Iterator[ControlPlane]:
    """A control plane without a node, on 127.0.0.1. Raises MissingError.

    audited_users: whose requests alone are recorded. audited: what they are about; empty for
    everything.
    """
    found = Tools.find(PROGRAMS)
    with _folder(purpose) as (folder, ledger):
        plane = ControlPlane(found, folder, ledger, audited_users=audited_users, audited=audited)
        try:
            plane.start(scheduler=scheduler)
            yield plane
        finally:
            plane.stop()


@contextmanager
def s3_server(purpose: str, users: Mapping[str, str] | None = None) -> Iterator[S3]:
    """An S3 server alone, on 127.0.0.1. Raises MissingError. users: see `S3.start`."""
    with _folder(purpose) as (folder, ledger):
        server = S3.start(folder, ledger, users=users)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def cluster(purpose: str) -> Iterator[Cluster]:
    """A control plane with a node. Raises MissingError, and OccupiedError when there is one."""
    found = Tools.find(BINARIES)
    if os.geteuid() != 0:
        raise MissingError("only root can start a node")
    if not tools.containerd().is_dir():
        raise MissingError("containerd is not here: `make cluster-tools` gets it")
    with ExitStack() as ends:
        lock = NodeLock(purpose)
        ends.callback(lock.release)
        folder, ledger = ends.enter_context(_folder(purpose))
        bridge = Bridge(ledger)
        ends.callback(bridge.remove)
        (folder / "s3").mkdir()
        s3 = S3.start(folder / "s3", ledger, bridge.host_ip, S3_PORT)
        ends.callback(s3.stop)
        (folder / "control").mkdir()
        plane = ControlPlane(found, folder / "control", ledger, bridge.host_ip, API_PORT, SERVICES)
        ends.callback(plane.stop)
        plane.start()
        (folder / "node").mkdir()
        node = Node(plane, bridge, folder / "node", ledger)
        ends.callback(node.stop)
        node.start()
        yield Cluster(plane, node, s3)


def left_of(cluster: Cluster) -> list[str]:
    """What is still there of a cluster that has ended, and what it has changed."""
    folder = str(cluster.control_plane.folder.parent)
    paths = [Path(folder), Path("/sys/class/net") / BRIDGE, *cgroups.own(), *cluster.node.made]
    left = [str(path) for path in paths if path.exists()]
    for setting, value in cluster.node.settings.items():
        if (now := setting.read_text()) != value:
            left.append(f"{setting}: {now.strip()}, before {value.strip()}")
    for mount in Path("/proc/self/mounts").read_text().splitlines():
        if folder in mount or str(store()) in mount:
            left.append(mount)
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if folder in command:  # a shim's names containerd's socket
                left.append(command)
    return left


@contextmanager
def _folder(purpose: str) -> Iterator[tuple[Path, Ledger]]:
    """A folder with a short name (sockets lie in it), and a ledger; both go in the end."""
    for left in clear_dead():
        say(f"cleared what a killed process left: {left}")
    ledger = Ledger.new(purpose)
    folder = Path(tempfile.mkdtemp(prefix="evalrun-"))
    ledger.folder(folder)
    try:
        yield folder, ledger
    finally:
        kept = os.environ.get("EVALRUN_TEST_LOGS")
        if kept:
            _keep_logs(folder, Path(kept))
        ledger.clear()


def _keep_logs(folder: Path, target: Path) -> None:
    """Copy the logs out of a folder that is about to go."""
    for log in [*folder.rglob("*.log"), *folder.rglob("audit.jsonl")]:
        copy = target / folder.name / log.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, copy)
