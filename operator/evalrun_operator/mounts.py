"""Volumes of a step's pods, and where they are mounted."""

from __future__ import annotations

from typing import Literal

from evalrun_api.names import PLAN_ANNOTATION
from evalrun_api.operator_config import NodeCache
from evalrun_api.sources import VolumePath
from evalrun_api.spec import EvaluationRun
from evalrun_operator.admission import VOLUMES_ROOT
from evalrun_operator.decisions import Doc, Snapshot
from evalrun_operator.snapshot import config_map_name

CACHE = "/cache"
"""Where a cache that is not the pod's own is mounted."""


def claims(run: EvaluationRun, snapshot: Snapshot) -> dict[str, bool]:
    """The claims that a run uses, and whether each is only read."""
    read: list[VolumePath | None] = [run.spec.model.source.volume]
    read += [custom.data for custom in snapshot.plan.custom_benchmarks]
    written = [run.spec.results.volume if run.spec.results else None, run.spec.cache.volume]
    found = {volume.claim_name: True for volume in read if volume}
    found.update({volume.claim_name: False for volume in written if volume})
    return found


def cache_kind(
    run: EvaluationRun, node_cache: NodeCache | None
) -> Literal["shared", "node", "pod"]:
    """Whose the cache folder of a step's pods is: the runner's `--cache`."""
    if run.spec.cache.volume is not None:
        return "shared"
    return "pod" if node_cache is None else "node"


def _node_volume(node_cache: NodeCache) -> Doc:
    if node_cache.host_path is not None:
        # Only a folder that is there: one made by the kubelet would be root's alone.
        return {"hostPath": {"path": node_cache.host_path, "type": "Directory"}}
    return {"persistentVolumeClaim": {"claimName": node_cache.claim_name}}


def mounts(
    run: EvaluationRun,
    snapshot: Snapshot,
    shared_memory: str | None,
    node_cache: NodeCache | None = None,
) -> tuple[list[Doc], list[Doc]]:
    """The volumes, and the mounts of the container."""
    name = run.metadata.name
    volumes: list[Doc] = [
        {"name": "work", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {
            "name": "plan",
            "downwardAPI": {
                "items": [
                    {
                        "path": "plan.json",
                        "fieldRef": {"fieldPath": f"metadata.annotations['{PLAN_ANNOTATION}']"},
                    }
                ]
            },
        },
    ]
    mounted: list[Doc] = [
        {"name": "work", "mountPath": "/work"},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
        {"name": "plan", "mountPath": "/plan", "readOnly": True},
    ]
    if snapshot.files:
        items = [{"key": key, "path": path} for key, path in snapshot.files.items()]
        source = {"name": config_map_name(name), "items": items}
        volumes.append({"name": "benchmarks", "configMap": source})
        mounted.append({"name": "benchmarks", "mountPath": "/benchmarks", "readOnly": True})
    if shared_memory:
        source = {"medium": "Memory", "sizeLimit": shared_memory}
        volumes.append({"name": "shm", "emptyDir": source})
        mounted.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's own
    for number, (claim, only_read) in enumerate(claims(run, snapshot).items()):
        volume = f"claim-{number}"
        volumes.append({"name": volume, "persistentVolumeClaim": {"claimName": claim}})
        mount: Doc = {"name": volume, "mountPath": f"{VOLUMES_ROOT}/{claim}"}
        mounted.append(mount | ({"readOnly": True} if only_read else {}))
        cache = run.spec.cache.volume
        if cache is not None and cache.claim_name == claim:
            folder: Doc = {"name": volume, "mountPath": CACHE}
            mounted.append(folder | ({"subPath": cache.path} if cache.path else {}))
    if node_cache is not None and cache_kind(run, node_cache) == "node":
        volumes.append({"name": "node-cache", **_node_volume(node_cache)})
        mounted.append({"name": "node-cache", "mountPath": CACHE})
    return volumes, mounted
