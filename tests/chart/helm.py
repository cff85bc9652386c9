"""Helm as a person has it, with a folder of its own for what it keeps."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from cluster import chart_tools
from cluster.processes import without_proxy

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "lmms-eval-operator"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
"""What the chart is checked with."""
NAMESPACE = "lmms-eval-system"
RELEASE = "lmms-eval-operator"

Doc = dict[str, Any]


class RefusedError(AssertionError):
    """Helm ended with an error; its words."""


class Helm:
    """The program. home: exists. kubeconfig: of the cluster, where one is needed."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        self._program = chart_tools.program("helm")
        self.environment = {
            **without_proxy(),
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
        }
        if kubeconfig is not None:
            self.environment["KUBECONFIG"] = str(kubeconfig)

    def __call__(self, *arguments: str | Path, timeout: float = 300) -> str:
        """What it wrote. Raises RefusedError."""
        done = subprocess.run(
            [self._program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            timeout=timeout,
        )
        if done.returncode:
            words = " ".join(map(str, arguments))
            raise RefusedError(f"helm {words}: {done.stdout}{done.stderr}")
        return done.stdout

    def text(self, *values: Path, hooks: bool = True, **settings: Any) -> str:
        """The rendered manifests. settings: values beyond the files', by their first name."""
        given = [f"--set-json={name}={json.dumps(value)}" for name, value in settings.items()]
        files = [f"--values={file}" for file in values]
        skipped = () if hooks else ("--no-hooks",)
        return self(
            "template", RELEASE, CHART, f"--namespace={NAMESPACE}", *files, *given, *skipped
        )

    def documents(self, *values: Path, hooks: bool = True, **settings: Any) -> list[Doc]:
        """The same, read."""
        text = self.text(*values, hooks=hooks, **settings)
        return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[Doc], kind: str, name: str | None = None) -> list[Doc]:
    """Those of a kind, and of a name if one is given."""
    return [
        document
        for document in documents
        if document["kind"] == kind and name in (None, document["metadata"]["name"])
    ]


def one(documents: list[Doc], kind: str, name: str | None = None) -> Doc:
    """The only one."""
    (found,) = of_kind(documents, kind, name)
    return found
