"""Where the API server keeps objects of each kind that the operator has to do with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from evalrun_api import API_VERSION
from evalrun_api.names import RUN_LABEL


@dataclass(frozen=True)
class Resource:
    """Where objects of a kind are found. selector: of those that matter."""

    base: str
    plural: str
    selector: str = ""

    def path(self, namespace: str = "", name: str = "") -> str:
        """Of all objects, a namespace's, or one. name: with a subresource behind a slash."""
        of_namespace = ("namespaces", quote(namespace)) if namespace else ()
        of_name = (quote(name, safe="/"),) if name else ()
        return "/".join((self.base, *of_namespace, self.plural, *of_name))


RUNS: Final = Resource(f"/apis/{API_VERSION}", "evaluationruns")
BENCHMARKS: Final = Resource(f"/apis/{API_VERSION}", "benchmarks")
JOBS: Final = Resource("/apis/batch/v1", "jobs", RUN_LABEL)
PODS: Final = Resource("/api/v1", "pods", RUN_LABEL)
CONFIG_MAPS: Final = Resource("/api/v1", "configmaps")
EVENTS: Final = Resource("/api/v1", "events")
LEASES: Final = Resource("/apis/coordination.k8s.io/v1", "leases")
