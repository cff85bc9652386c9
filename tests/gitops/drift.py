"""What Argo CD sees without server-side diff: manifests against a real API server's defaults."""

from __future__ import annotations

import json
from typing import Any

import yaml

from cluster import cluster as starting
from cluster.control_plane import ControlPlane
from cluster.operator_process import establish
from gitops import tools
from gitops.verdicts import ROOT

Doc = dict[str, Any]
NAMESPACE = "evaluations"
PODS: dict[str, tuple[Doc, bool]] = {
    "a toleration without operator": ({"tolerations": [{"key": "gpu"}]}, True),
    "a toleration with it": ({"tolerations": [{"key": "gpu", "operator": "Equal"}]}, False),
    "a variable without value": ({"env": [{"name": "EMPTY"}]}, True),
    "a variable with it": ({"env": [{"name": "EMPTY", "value": ""}]}, False),
}
"""Settings of a pod, and whether the guide says that Argo CD takes their defaults for drift."""


def differing() -> dict[str, tuple[bool, bool]]:
    """By manifest: whether it sees a difference, and whether the guide says so."""
    with starting.control_plane("make gitops-check", scheduler=False) as plane:
        establish(plane)
        plane.kubectl("create", "namespace", NAMESPACE)
        found = _samples(plane)
        base = found[0][1]
        for number, (name, (pod, differs)) in enumerate(PODS.items()):
            metadata = {**base["metadata"], "name": f"listed-{number}"}
            spec = {**base["spec"], "answerPod": pod}
            found.append((name, {**base, "metadata": metadata, "spec": spec}, differs))
        pairs = [{"config": config, "live": _live(plane, config)} for _, config, _ in found]
    answers = tools.ask("argo", pairs, "diff")
    return {
        name: (answer, differs) for (name, _, differs), answer in zip(found, answers, strict=True)
    }


def _samples(plane: ControlPlane) -> list[tuple[str, Doc, bool]]:
    """The manifests that we ship, of which none may differ."""
    texts = {
        path.name: plane.kubectl("kustomize", str(path)).stdout
        for path in sorted((ROOT / "examples/gitops/overlays").iterdir())
    }
    for path in sorted((ROOT / "examples/easy-vqa").glob("*.yaml")):
        texts[path.name] = path.read_text()
    return [(name, yaml.safe_load(text), False) for name, text in texts.items()]


def _live(plane: ControlPlane, document: Doc) -> Doc:
    """The object as Argo CD finds it after it has applied it."""
    plane.kubectl("-n", NAMESPACE, "apply", "-f", "-", input=json.dumps(document))
    got = plane.kubectl("-n", NAMESPACE, "get", "-f", "-", "-o", "json", input=json.dumps(document))
    found: Doc = json.loads(got.stdout)
    return found
