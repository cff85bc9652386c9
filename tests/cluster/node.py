"""A node: containerd and a kubelet in namespaces of their own, and GPUs that are only advertised.

All of the node's processes live in one process namespace and one mount namespace (`node_init.sh`),
so that ending its first process ends every container and unmounts everything. Pods reach what
listens on the bridge's address, and nothing else: there is no forwarding and no kube-proxy.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from cluster import cgroups, images, places, tools
from cluster.access import until
from cluster.containerd import Containerd
from cluster.control_plane import NODE_NAME, ControlPlane
from cluster.ledger import Ledger, remove_bridge, remove_cgroup
from cluster.ports import free_ports, is_free
from cluster.processes import Child, Identity
from cluster.tools import MissingError

GPU = "nvidia.com/gpu"

LOCK = Path("/run/lmms-eval-operator-node.lock")

BRIDGE = "evalrun0"

OWN_FOLDERS = [
    Path(folder)
    for folder in (
        "/var/lib/kubelet",
        "/var/lib/cni",
        "/var/log/containers",
        "/run/containerd",
        "/run/netns",
        "/usr/libexec/kubernetes",
    )
]
"""Used by the node's programs whatever they are told; the node has them to itself."""

KERNEL_SETTINGS = [
    Path("/proc/sys") / name
    for name in (
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
    )
]
"""Changed by the kubelet, and set back when the node has ended."""

SUBNET = ipaddress.IPv4Network("10.213.77.0/24")
"""Always the same, so that manifests can name the host's address, 10.213.77.1."""

SERVICES = ipaddress.IPv4Network("10.213.77.0/28")
"""The first address is both the host's and that of the Service `kubernetes`: so pods find the API
server there, as in any cluster, without a kube-proxy."""

API_PORT, S3_PORT = 443, 9000
"""On the host's address."""

CNI_PLUGINS = "/usr/lib/cni"  # Debian's


class OccupiedError(Exception):
    """Somebody else has the machine's one node; says who."""


class NodeLock:
    """There is one node on a machine at a time: it has one bridge and one store of images."""

    def __init__(self, purpose: str) -> None:
        """Take it. Raises OccupiedError when another has it."""
        self._file = LOCK.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip()
            self._file.close()
            raise OccupiedError(f"there is a cluster on this machine already: {owner}") from None
        self._file.truncate(0)
        self._file.write(f"{purpose}, process {os.getpid()}, since {time.strftime('%H:%M:%S')}\n")
        self._file.flush()

    def release(self) -> None:
        """Let another have it. The end of the process does so too."""
        self._file.close()


class Bridge:
    """The network of the pods, with an address of the host."""

    def __init__(self, ledger: Ledger) -> None:
        """Make it, if nothing here uses its subnet. Raises MissingError."""
        _check_subnet()
        self.host_ip = str(SERVICES[1])
        remove_bridge(BRIDGE)  # only who holds the lock comes here
        ledger.bridge(BRIDGE)
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("address", "add", f"{self.host_ip}/{SUBNET.prefixlen}", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for port in (API_PORT, S3_PORT):
            if not is_free(self.host_ip, port):
                raise MissingError(f"something on this machine listens on port {port} everywhere")

    def remove(self) -> None:
        """Remove it."""
        remove_bridge(BRIDGE)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _check_subnet() -> None:
    for route in json.loads(_ip("-json", "-4", "route", "show", "table", "all") or "[]"):
        if takes_addresses(route):
            raise MissingError(f"{SUBNET} is in use here ({route}), and the pods need it")


def takes_addresses(route: Mapping[str, str]) -> bool:
    """Whether a route (of `ip -json route`) and the pods' network would take from each other.

    A wider one, such as a VPN's, leaves these addresses to the bridge's own route.
    """
    network = ipaddress.IPv4Network(route["dst"].replace("default", "0.0.0.0/0"), strict=False)
    return route.get("dev") != BRIDGE and network.subnet_of(SUBNET)


class Node:
    """The node of a control plane that listens on a bridge's address."""

    name = NODE_NAME

    def __init__(
        self,
        control_plane: ControlPlane,
        bridge: Bridge,
        folder: Path,
        ledger: Ledger,
        gpus: int = 4,
    ) -> None:
        """Nothing is started. folder: exists and is empty, its path is short."""
        self.gpus = gpus
        self._control_plane = control_plane
        self._bridge = bridge
        self._folder = folder
        self._ledger = ledger
        self.socket = folder / "containerd.sock"
        self.containerd = Containerd(self.socket)
        self.made: list[Path] = []
        """Folders of the host that it lacked."""
        self.settings = {file: file.read_text() for file in KERNEL_SETTINGS if file.exists()}
        """The kernel's before the kubelet starts."""
        self._cgroups: list[Path] = []
        self._child: Child | None = None
        self._init: Identity | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready and its GPUs can be asked for."""
        self._configure()
        self._enter()
        until("the node is ready", self._is_ready, 90)
        advertised = {GPU: str(self.gpus)}
        # Allocatable too, or it would follow at the kubelet's next report only.
        patch = {"status": {"capacity": advertised, "allocatable": advertised}}
        node = ("node", self.name, "--subresource=status", "--type=merge")
        self._control_plane.kubectl("patch", *node, "--patch", json.dumps(patch))

    def stop(self) -> None:
        """End every process of the node; its mounts go with them."""
        if self._init is not None:
            self._init.end(20)
        if self._child is not None:
            self._child.end()  # with it its children, had none been found
        for folder in self._cgroups:
            remove_cgroup(folder)

    @property
    def root(self) -> Path:
        """The file system as the node's processes see it."""
        assert self._init is not None
        return Path(f"/proc/{self._init.pid}/root")

    def logs(self) -> dict[str, Path]:
        """The log of each program."""
        return {name: self._folder / f"{name}.log" for name in ("containerd", "kubelet", "init")}

    def import_image(self, archive: Path) -> None:
        """Bring the images of an archive (OCI or Docker) into the node."""
        self.containerd.import_archive(archive)

    def ensure_images(self) -> list[str]:
        """Have the project's images in the node, as the checkout has them now; their names.

        Raises MissingError.
        """
        for image in images.ALL:
            self.containerd.add(image.name, images.build(image))
        return [image.name for image in images.ALL]

    def derive_image(
        self,
        base: str,
        name: str,
        removed: Iterable[str] = (),
        added: Mapping[str, bytes] | None = None,
    ) -> str:
        """Make a variant of an image of the node, in no time; its name. See Containerd.derive."""
        self.containerd.derive(base, name, removed, added)
        return name

    def _enter(self) -> None:
        """Start the first process inside its namespaces, and find out which it is."""
        for folder in cgroups.own():
            remove_cgroup(folder)
            self._ledger.cgroup(folder)
            self._cgroups.append(folder)
            cgroups.make(folder)
        for folder in OWN_FOLDERS:
            try:
                self.made += self._ledger.made(folder)
            except OSError as refused:
                raise MissingError(f"a node needs {folder} to exist: {refused}") from None
        for setting, value in self.settings.items():
            self._ledger.setting(setting, value)
        here = Path(__file__).parent
        command: list[str | Path] = ["bash", here / "node_start.sh", *self._cgroups, "--"]
        command += ["unshare", "--mount", "--cgroup", "--pid", "--fork", "--mount-proc"]
        command += ["--kill-child=KILL", "bash", here / "node_init.sh", *self._kubelet()]
        self._child = Child.start(
            "the node",
            command,
            self._folder / "init.log",
            {
                "FOLDER": str(self._folder),
                "CONTAINERD": str(tools.containerd()),
                "STORE": str(store()),
                "IMAGES": " ".join(f"{name}={file}" for name, file in tools.images().items()),
                "KEPT": " ".join([*tools.images(), *(image.name for image in images.ALL)]),
                "OWN_FOLDERS": " ".join(map(str, OWN_FOLDERS)),
                "CGROUP_VERSION": str(cgroups.version()),
            },
        )
        self._ledger.process("unshare", self._child.identity)
        until("the node's first process", self._has_found_init, 10, 0.02)
        cgroups.leave(self._child.process.pid)

    def _has_found_init(self) -> bool:
        """Whether unshare has its one child, which is sent the signals that unshare ignores."""
        assert self._child is not None
        self._child.check()
        pid = self._child.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return False
        self._init = Identity.of(int(children[0]))
        self._ledger.process("the node's first process", self._init)
        return True

    def _is_ready(self) -> bool:
        assert self._child is not None
        self._child.check()
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        got = self._control_plane.kubectl("get", "node", self.name, "--output", path, check=False)
        return got.stdout == "True"

    def _kubelet(self) -> list[str | Path]:
        return [
            self._control_plane.tools["kubelet"],
            f"--config={self._folder / 'kubelet.json'}",
            f"--kubeconfig={self._control_plane.folder / 'kubelet.kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self._bridge.host_ip}",
            f"--root-dir={self._folder / 'kubelet'}",
            f"--cert-dir={self._folder / 'kubelet' / 'pki'}",
            "--v=2",
        ]

    def _configure(self) -> None:
        store().mkdir(parents=True, exist_ok=True)
        for name in ("cni", "kubelet"):
            (self._folder / name).mkdir()
        self._write_json("cni/10-bridge.conflist", self._network_config())
        self._write_json("kubelet.json", self._kubelet_config())
        (self._folder / "resolv.conf").write_text(f"nameserver {self._bridge.host_ip}\n")
        serving = self._containerd_config()
        (self._folder / "containerd.toml").write_text(serving)
        disabled = 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]'
        (self._folder / "tidying.toml").write_text(serving.replace("version = 2", disabled, 1))

    def _write_json(self, name: str, document: object) -> None:
        (self._folder / name).write_text(json.dumps(document, indent=1))

    def _network_config(self) -> dict[str, object]:
        first = str(SUBNET[SERVICES.num_addresses])
        host_ip = self._bridge.host_ip
        addresses = {"subnet": str(SUBNET), "rangeStart": first, "gateway": host_ip}
        bridge = {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": False,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self._folder / "addresses"),
                "ranges": [[addresses]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports]}

    def _kubelet_config(self) -> dict[str, object]:
        pki = self._control_plane.folder / "pki"
        port, health_port = free_ports(self._bridge.host_ip, 2)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self._bridge.host_ip,
            "port": port,
            "readOnlyPort": 0,
            "healthzPort": health_port,
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "imageServiceEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",  # containerd 1.6 cannot tell
            "enforceNodeAllocatable": ["pods"],
            "failCgroupV1": False,
            "failSwapOn": False,
            "nodeLeaseDurationSeconds": 12,  # renewed four times in it
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / "kubelet-serving.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet-serving.key"),
            "clusterDomain": "cluster.local",
            "clusterDNS": [self._bridge.host_ip],
            "resolvConf": str(self._folder / "resolv.conf"),
            "podLogsDir": str(self._folder / "pod-logs"),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,  # never
            "imageGCLowThresholdPercent": 99,
            "makeIPTablesUtilChains": False,  # it would write them into the host's tables
        }

    def _containerd_config(self) -> str:
        return f"""\
version = 2
root = "{store()}"
state = "{self._folder / "state"}"
[grpc]
  address = "{self.socket}"
[ttrpc]
  address = "{self._folder / "containerd.ttrpc"}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self._folder / "opt"}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{tools.PAUSE}"
  # Without CAP_SYS_RESOURCE every sandbox would fail: "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{self._folder / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def store() -> Path:
    """Where the node's images are kept, unpacked, from one node to the next."""
    return places.cache() / "node-images"
