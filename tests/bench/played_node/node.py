"""The Node object: large, ready, and alive as long as its Lease is renewed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from bench.api_client import ApiAnswerError, ApiClient, Doc

NODE: Final = "played"
PULSE_SECONDS: Final = 3.0
"""Between two signs of life. The test control plane takes 15 s of silence for death."""
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
CAPACITY = {
    "cpu": "10000000",
    "memory": "100Pi",
    "ephemeral-storage": "100Pi",
    "pods": "10000000",
    "nvidia.com/gpu": "10000000",
}


async def register(api: ApiClient) -> None:
    """Make the Node, if it is not there, and say that it is ready."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    with suppress(ApiAnswerError):  # it is there: another one has played it before
        await api.request("POST", "/api/v1/nodes", node)
    now = datetime.now(UTC)
    await api.merge(f"/api/v1/nodes/{NODE}/status", {"status": _status(now)})
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NODE, "namespace": "kube-node-lease"},
        "spec": _lease(now),
    }
    with suppress(ApiAnswerError):
        await api.request("POST", LEASES, lease)


async def live(api: ApiClient) -> None:
    """Renew the Lease for ever."""
    while True:
        await api.merge(f"{LEASES}/{NODE}", {"spec": _lease(datetime.now(UTC))})
        await asyncio.sleep(PULSE_SECONDS)


def _lease(now: datetime) -> Doc:
    renewed = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": NODE, "leaseDurationSeconds": 12, "renewTime": renewed}


def _status(now: datetime) -> Doc:
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    return {
        "capacity": CAPACITY,
        "allocatable": CAPACITY,
        "conditions": [{**ready, "lastHeartbeatTime": at, "lastTransitionTime": at}],
    }
