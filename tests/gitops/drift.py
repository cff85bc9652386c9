"""What Argo CD sees without server-side diff: manifests against what a real API server has."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from cluster import cluster as starting
from cluster.control_plane import ControlPlane
from cluster.operator_process import establish
from gitops import tools
from gitops.verdicts import ROOT

Doc = dict[str, Any]
NAMESPACE = "evaluations"


@dataclass(frozen=True)
class Case:
    """Fields that Git says of a run, fields that somebody then changes, whether that is drift."""

    git: Doc = field(default_factory=dict)
    edit: Doc = field(default_factory=dict)
    differs: bool = False


CASES = {
    "a toleration without operator": Case({"answerPod": {"tolerations": [{"key": "gpu"}]}}),
    "a variable without value": Case({"answerPod": {"env": [{"name": "EMPTY"}]}}),
    "suspended, Git says nothing": Case(edit={"suspend": True}),
    "suspended, Git says suspend: false": Case({"suspend": False}, {"suspend": True}, True),
    "another TTL than in Git": Case(edit={"ttlSecondsAfterFinished": 1}, differs=True),
}
"""Beside the manifests that we ship, of which none may differ."""


def differing() -> dict[str, tuple[bool, bool]]:
    """By case: whether Argo CD sees a difference, and whether the guide says so."""
    with starting.control_plane("make gitops-check", scheduler=False) as plane:
        establish(plane)
        plane.kubectl("create", "namespace", NAMESPACE)
        shipped = _shipped(plane)
        base = next(iter(shipped.values()))
        configs = dict(shipped)
        for number, (name, case) in enumerate(CASES.items()):
            metadata = {**base["metadata"], "name": f"case-{number}"}
            configs[name] = {**base, "metadata": metadata, "spec": {**base["spec"], **case.git}}
        cases = {name: CASES.get(name, Case()) for name in configs}
        pairs = [
            {"config": config, "live": _live(plane, config, cases[name].edit)}
            for name, config in configs.items()
        ]
    answers = tools.ask("argo", pairs, "diff")
    return {
        name: (answer, case.differs)
        for (name, case), answer in zip(cases.items(), answers, strict=True)
    }


def _shipped(plane: ControlPlane) -> dict[str, Doc]:
    """The overlays and the example, by their names."""
    found = {}
    for path in sorted((ROOT / "examples/gitops/overlays").iterdir()):
        found[path.name] = yaml.safe_load(plane.kubectl("kustomize", str(path)).stdout)
    for path in sorted((ROOT / "examples/easy-vqa").glob("*.yaml")):
        found[path.name] = yaml.safe_load(path.read_text())
    return found


def _live(plane: ControlPlane, config: Doc, edit: Doc) -> Doc:
    """The object as Argo CD finds it after it has applied it, and somebody has edited it."""
    text = json.dumps(config)
    plane.kubectl("-n", NAMESPACE, "apply", "-f", "-", input=text)
    if edit:
        change = ("--type=merge", "-p", json.dumps({"spec": edit}))
        plane.kubectl("-n", NAMESPACE, "patch", "-f", "-", *change, input=text)
    got = plane.kubectl("-n", NAMESPACE, "get", "-f", "-", "-o", "json", input=text)
    (found,) = json.loads(got.stdout)["items"]
    return dict(found)
