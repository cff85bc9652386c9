"""The real Kueue controller, beside a control plane: its CRDs, its webhooks and its manager.

The manager is a process on this machine with an administrator's rights, and the API server reaches
its webhooks by URL; all else is as Kueue's release has it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cluster import places, tools
from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.ports import free_ports
from cluster.progress import step
from cluster.tools import MissingError

GO_MODULE = places.GO_MODULE / "kueue"
NAMESPACE = "kueue-system"
ADDRESS = "127.0.0.1"
METRICS_CERTIFICATES = Path("kueue/metrics/certs")
"""Beneath /etc, where its manager wants certificates, whatever its configuration says."""

Doc = dict[str, Any]


def version() -> str:
    """Of the Go module, such as v0.15.2."""
    found = re.search(r"sigs\.k8s\.io/kueue (v\S+)", (GO_MODULE / "go.mod").read_text())
    assert found is not None, GO_MODULE
    return found[1]


def folder() -> Path:
    """What is built: the program, and the manifests of its release."""
    made_of = [(GO_MODULE / name).read_bytes() for name in ("go.mod", "go.sum")]
    return places.cache() / f"kueue-{version()}-{places.digest(*made_of)}"


def build() -> None:
    """Build Kueue, unless it is in the cache. Raises MissingError."""
    with tools.one_at_a_time("kueue"):
        if folder().is_dir():
            return
        if shutil.which("go") is None:
            raise MissingError("Go is missing (https://go.dev/dl): Kueue is built from its module")
        with (
            step(f"building Kueue {version()} (once, about 3 minutes on 2 cores)"),
            tools.new_folder(folder()) as new,
        ):
            command = ["go", "build", "-ldflags", "-s -w", "-o", f"{new}/kueue"]
            _go(*command, "sigs.k8s.io/kueue/cmd/kueue")
            source = _go("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kueue").strip()
            components = Path(source) / "config" / "components"
            shutil.copytree(components / "crd" / "bases", new / "crd")
            shutil.copy(components / "crd" / "kustomization.yaml", new / "crds.yaml")
            shutil.copy(components / "webhook" / "manifests.yaml", new / "webhooks.yaml")
            subprocess.run(["chmod", "-R", "u+w", new], check=True)  # the module cache is read-only


def _go(*command: str) -> str:
    environment = {**os.environ, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    done = subprocess.run(
        command, cwd=GO_MODULE, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def start(plane: ControlPlane) -> None:
    """Start Kueue; it ends with the control plane. Raises MissingError."""
    if not folder().is_dir():
        raise MissingError("Kueue is not here: `make kueue-tools` builds it (needs Go)")
    own = plane.folder / "kueue"
    webhooks, health = free_ports(ADDRESS, 2)
    plane.authority.issue("kueue", "/CN=kueue", [f"IP:{ADDRESS}"])
    for place in (own / "certs", own / "etc" / METRICS_CERTIFICATES):
        place.mkdir(parents=True)
        for ending in ("crt", "key"):
            shutil.copy(plane.folder / "pki" / f"kueue.{ending}", place / f"tls.{ending}")
    plane.kubectl("create", "namespace", NAMESPACE)
    _apply(plane, _definitions(webhooks, plane))
    established = ("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    # kubectl itself fails at one that has no status yet.
    until("its CRDs", lambda: not plane.kubectl(*established, check=False).returncode, 60)
    config = own / "config.yaml"
    config.write_text(json.dumps(_configuration(own, webhooks, health)))
    # An overlay over /etc that this process alone sees.
    overlaid = 'mount -t overlay overlay -o "lowerdir=$0:/etc" /etc && exec "$@"'
    child = plane.start_beside(
        "kueue",
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", overlaid, own / "etc"),
            *(folder() / "kueue", f"--config={config}", "--zap-log-level=2"),
        ],
        {"KUBECONFIG": str(plane.kubeconfig)},
    )

    def is_ready() -> bool:
        child.check()
        try:
            with urllib.request.urlopen(f"http://{ADDRESS}:{health}/readyz", timeout=5) as it:
                return bool(it.status == 200)
        except OSError:
            return False

    until("Kueue is ready", is_ready, 60)
    _apply(plane, _webhooks(webhooks, plane))  # not earlier: without an answer nothing is created


def _apply(plane: ControlPlane, documents: Iterator[Doc]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))


def _configuration(own: Path, webhooks: int, health: int) -> Doc:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f"{ADDRESS}:{health}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": ADDRESS, "port": webhooks, "certDir": str(own / "certs")},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {"VisibilityOnDemand": False},
    }


def _client(port: int, path: str, plane: ControlPlane) -> Doc:
    bundle = b64encode(plane.authority.certificate.read_bytes()).decode()
    return {"url": f"https://{ADDRESS}:{port}{path}", "caBundle": bundle}


def _definitions(port: int, plane: ControlPlane) -> Iterator[Doc]:
    """The CRDs, and for those that the release says so conversion by Kueue itself."""
    patches = yaml.safe_load((folder() / "crds.yaml").read_text())["patches"]
    converted = {patch["path"].removeprefix("patches/webhook_in_") for patch in patches}
    for file in sorted((folder() / "crd").glob("*.yaml")):
        document: Doc = yaml.safe_load(file.read_text())
        if file.name.removeprefix("kueue.x-k8s.io_") in converted:
            document["spec"]["conversion"] = {
                "strategy": "Webhook",
                "webhook": {
                    "clientConfig": _client(port, "/convert", plane),
                    "conversionReviewVersions": ["v1"],
                },
            }
        yield document


def _webhooks(port: int, plane: ControlPlane) -> Iterator[Doc]:
    """Both configurations of webhooks, whole."""
    for document in yaml.safe_load_all((folder() / "webhooks.yaml").read_text()):
        document["metadata"]["name"] = f"kueue-{document['metadata']['name']}"
        for webhook in document["webhooks"]:
            path = webhook["clientConfig"].pop("service")["path"]
            webhook["clientConfig"] = _client(port, path, plane)
        yield document
