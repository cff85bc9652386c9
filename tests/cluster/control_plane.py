"""etcd, the API server, the controller manager and the scheduler, as processes of ours.

Without a node nothing runs the pods: tests of the operator play the kubelet, and patch
their status.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.access import Access, until
from cluster.ledger import Ledger
from cluster.pki import Authority
from cluster.ports import free_ports
from cluster.processes import Child
from cluster.tools import Tools

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

NODE_NAME = "testnode"

SERVICES = ipaddress.IPv4Network("10.0.0.0/24")

AUDITED: Sequence[Mapping[str, object]] = [
    {"group": "lmms-eval.io"},
    {"group": "batch"},
    {"group": "", "resources": ["pods", "pods/*", "events", "configmaps"]},
    {"group": "events.k8s.io"},
    {"group": "coordination.k8s.io"},
    {"group": "kueue.x-k8s.io"},
]
"""What the audit log records: enough to count every write that an operator makes for a run."""


class ControlPlane(Access):
    """A control plane that listens on 127.0.0.1, or on the bridge's address for pods to reach."""

    def __init__(
        self,
        tools: Tools,
        folder: Path,
        ledger: Ledger,
        address: str = "127.0.0.1",
        port: int | None = None,
        services: ipaddress.IPv4Network = SERVICES,
        audited_users: Sequence[str] = (),
        audited: Sequence[Mapping[str, object]] = AUDITED,
    ) -> None:
        """Nothing is started. folder: empty, for data, certificates and logs.

        port: of the API server; any free one if not given. services: the addresses of Services, of
        which the first is that of the API server. audited_users: whose requests alone are recorded.
        audited: what the recorded requests are about; empty for everything.
        """
        super().__init__(tools, folder / "admin.kubeconfig")
        self.folder = folder
        self.host_ip = address
        own_port, *self._ports = free_ports(address, 5)
        self.api_port = port or own_port
        self.server = f"https://{address}:{self.api_port}"
        self.audit_log = folder / "audit.jsonl"
        """JSON lines, each an Event of audit.k8s.io/v1: verb, user.username, objectRef, ..."""
        self._ledger = ledger
        self._audited: dict[str, object] = {"level": "Metadata", "resources": list(audited)}
        if audited_users:
            self._audited["users"] = list(audited_users)
        self._services = services
        self._children: list[Child] = []

    def start(self, *, scheduler: bool = True) -> None:
        """Start it, and wait until namespaces and pods can be created."""
        self.authority = self._certificates()
        etcd = self._start_etcd()
        self._start_api_server(etcd)
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        until(f"{self.server}/readyz", lambda: self._is_ready(opener), 60)
        self._start_controllers()
        if scheduler:
            self.start_scheduler()
        until("the default service account", lambda: self._is_usable("default"), 60)

    def stop(self) -> None:
        """End all, the API server before etcd: it hangs a minute when that goes first."""
        while self._children:
            self._children.pop().end()

    def start_beside(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> Child:
        """Start a program that ends with the control plane, whatever becomes of this process."""
        child = Child.start(name, command, self.folder / f"{name}.log", environment)
        self._ledger.process(name, child.identity)
        self._children.append(child)
        return child

    def logs(self) -> dict[str, Path]:
        """The log of each program."""
        return {child.name: child.log for child in self._children}

    def _certificates(self) -> Authority:
        authority = Authority(self.folder / "pki")
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        addresses = {"127.0.0.1", str(self._services[1]), self.host_ip}
        served = [*(f"DNS:{name}" for name in names), *(f"IP:{ip}" for ip in sorted(addresses))]
        authority.issue("apiserver", "/CN=kube-apiserver", served)
        authority.issue("etcd", "/CN=etcd", ["IP:127.0.0.1"])
        authority.issue("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        authority.issue("kubelet-serving", f"/CN={NODE_NAME}", [f"IP:{self.host_ip}"])
        authority.key_pair("service-accounts")
        for name, subject in {
            "admin": "/O=system:masters/CN=admin",
            "controller-manager": "/CN=system:kube-controller-manager",
            "scheduler": "/CN=system:kube-scheduler",
            "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
        }.items():
            authority.issue(name, subject)
            authority.kubeconfig(name, self.server)
        return authority

    def _start(self, name: str, *arguments: str) -> None:
        command: list[str | Path] = [self.tools[name], *arguments]
        self.start_beside(name, command, {})

    def _start_etcd(self) -> str:
        clients, peers = (f"https://127.0.0.1:{port}" for port in self._ports[:2])
        self.etcd = clients
        pki = self.folder / "pki"
        self._start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            # Whoever may write to etcd is root on the node: it listens to our own clients alone.
            *_tls(pki, ""),
            *_tls(pki, "peer-"),
        )
        return clients

    def _start_api_server(self, etcd: str) -> None:
        pki = self.folder / "pki"
        policy = self.folder / "audit-policy.json"
        policy.write_text(
            json.dumps(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": ["RequestReceived"],
                    "rules": [self._audited, {"level": "None"}],
                }
            )
        )
        self._start(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--etcd-cafile={pki / 'ca.crt'}",
            f"--etcd-certfile={pki / 'etcd.crt'}",
            f"--etcd-keyfile={pki / 'etcd.key'}",
            f"--bind-address={self.host_ip}",
            f"--secure-port={self.api_port}",
            "--endpoint-reconciler-type=none",  # refuses the loopback address, and nothing asks it
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={self._services}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self.audit_log}",
        )

    def _is_ready(self, opener: urllib.request.OpenerDirector) -> bool:
        self._children[0].check()
        self._children[-1].check()
        try:
            with opener.open(f"{self.server}/readyz", timeout=5) as it:
                return bool(it.status == 200)
        except OSError:  # also what it answers before it is ready
            return False

    def start_scheduler(self) -> None:
        """Start the scheduler: until then nothing says of a pod that no node has room for it."""
        self._start(
            "kube-scheduler",
            *self._client("scheduler", self._ports[3]),
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
        )

    def _client(self, name: str, port: int) -> list[str]:
        file = self.folder / f"{name}.kubeconfig"
        return [
            f"--kubeconfig={file}",
            f"--authentication-kubeconfig={file}",
            f"--authorization-kubeconfig={file}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
        ]

    def _start_controllers(self) -> None:
        self._start(
            "kube-controller-manager",
            *self._client("controller-manager", self._ports[2]),
            f"--service-account-private-key-file={self.folder / 'pki/service-accounts.key'}",
            f"--root-ca-file={self.folder / 'pki/ca.crt'}",
            "--use-service-account-credentials=true",
            "--controllers=*,-node-ipam-controller",
            f"--flex-volume-plugin-dir={self.folder / 'plugins'}",  # else it makes one in /usr
            # A node that is silent is unreachable in a quarter of the usual time.
            "--node-monitor-period=2s",
            "--node-monitor-grace-period=15s",
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
        )


def _tls(pki: Path, prefix: str) -> list[str]:
    """etcd's options for one of its two kinds of clients."""
    return [
        f"--{prefix}client-cert-auth",
        f"--{prefix}trusted-ca-file={pki / 'ca.crt'}",
        f"--{prefix}cert-file={pki / 'etcd.crt'}",
        f"--{prefix}key-file={pki / 'etcd.key'}",
    ]
