"""A second node that only gives signs of life.

Where no node at all is ready, the node controller takes that for its own failure and evicts
nothing. So a cluster of one node that dies needs another one to witness it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cluster.cluster import Cluster

NAME = "witness"
PULSE_SECONDS = 3.0


@contextmanager
def witness(cluster: Cluster) -> Iterator[None]:
    """Have it there, ready and closed for pods."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(node | {"spec": {"unschedulable": True}}))
    ended = threading.Event()
    pulse = threading.Thread(target=_beat, args=(cluster, ended), name="witness")
    pulse.start()
    try:
        yield
    finally:
        ended.set()
        pulse.join()
        cluster.kubectl("delete", "node", NAME)


def _beat(cluster: Cluster, ended: threading.Event) -> None:
    while True:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        cluster.kubectl(
            *("patch", "node", NAME, "--subresource=status", "--type=strategic"),
            *("--patch", json.dumps({"status": {"conditions": [ready]}})),
            check=False,
        )
        if ended.wait(PULSE_SECONDS):
            return
