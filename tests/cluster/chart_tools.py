"""What checks the chart: Helm, kubeconform, and the kinds of Prometheus' operator. All from Go."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from cluster import places, tools
from cluster.progress import step
from cluster.tools import MissingError

PROGRAMS = {
    "helm": "helm.sh/helm/v4/cmd/helm",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
}
"""Each a Go module of its own, since their dependencies disagree."""
MONITORING = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring"
KINDS = ("servicemonitors", "podmonitors", "prometheusrules")


def program(name: str) -> Path:
    """A program that `make chart-tools` has built. Raises MissingError."""
    return _built(name) / name


def monitoring_kinds() -> list[Path]:
    """The CRDs of what the chart makes for Prometheus' operator. Raises MissingError."""
    return sorted(_built("monitoring").glob("*.yaml"))


def version(name: str, module: str) -> str:
    """Of a Go module that a tool is made of."""
    found = re.search(rf"{re.escape(module)} (v\S+)", (_module(name) / "go.mod").read_text())
    assert found is not None, name
    return found[1]


def build() -> None:
    """Whatever is not in the cache yet. Raises MissingError."""
    with tools.one_at_a_time("chart"):
        for name, package in PROGRAMS.items():
            if not _folder(name).is_dir():
                with _building(name), tools.new_folder(_folder(name)) as new:
                    _go(name, "build", "-ldflags", "-s -w", "-o", str(new / name), package)
        if not _folder("monitoring").is_dir():
            _build_monitoring()


def _build_monitoring() -> None:
    """The module has Go types; their own generator makes CRDs of them."""
    with _building("monitoring"), tools.new_folder(_folder("monitoring")) as new:
        generator = "sigs.k8s.io/controller-tools/cmd/controller-gen"
        options = ("crd:crdVersions=v1", f"paths={MONITORING}/v1", f"output:crd:dir={new}")
        _go("monitoring", "run", generator, *options)
        for file in new.glob("*.yaml"):
            if file.stem.partition("_")[2] not in KINDS:
                file.unlink()


def _building(name: str) -> AbstractContextManager[None]:
    if shutil.which("go") is None:
        raise MissingError(f"Go is missing (https://go.dev/dl): {name} is built from its module")
    return step(f"building {name} (once)")


def _module(name: str) -> Path:
    return places.GO_MODULE / name


def _folder(name: str) -> Path:
    made_of = [(_module(name) / file).read_bytes() for file in ("go.mod", "go.sum")]
    return places.cache() / f"{name}-{places.digest(*made_of)}"


def _built(name: str) -> Path:
    if not _folder(name).is_dir():
        raise MissingError(f"{name} is not here: `make chart-tools` builds it (needs Go)")
    return _folder(name)


def _go(name: str, *arguments: str) -> None:
    environment = {**os.environ, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    subprocess.run(["go", *arguments], cwd=_module(name), env=environment, check=True)
