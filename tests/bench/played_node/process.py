"""Start the played node as a process of its own, and stop it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.processes import Child

READY: Final = "playing"
TESTS = Path(__file__).parents[2]


class PlayedNode:
    """It ends with the control plane, also where its owner is killed."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @classmethod
    def start(cls, plane: ControlPlane, *options: str) -> PlayedNode:
        """Start it, and wait until pods can be bound to it. options: as on its command line."""
        command = [
            *(sys.executable, "-m", "bench.played_node"),
            f"--kubeconfig={plane.kubeconfig}",
            *options,
        ]
        child = plane.start_beside("played-node", command, {"PYTHONPATH": str(TESTS)})

        def is_ready() -> bool:
            child.check()
            return READY in child.log.read_text()

        until("the played node", is_ready, 30)
        taints = ("get", "node", "played", "-o", "jsonpath={.spec.taints}")
        until("a node without taints", lambda: not plane.kubectl(*taints).stdout, 30)
        return cls(child)

    def check(self) -> None:
        """Raises DiedError when it has ended."""
        self._child.check()

    def stop(self) -> dict[str, Any]:
        """End it. What it did: pods, ended (by how), requests, late_p50_s, late_max_s."""
        self._child.end()
        found: dict[str, Any] = json.loads(self._child.last_words(1))
        return found
