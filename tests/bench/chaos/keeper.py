"""Keeps one process of the operator going, as a Deployment does, but without its pauses."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.api_faults.killing import Kills
from cluster.operator_process import Replica

LOOK_SECONDS = 0.02
PAST_CHANGED = "was etcd restored from a backup"
MOVES = 0.3
"""Share of the deaths after which another pod takes over, which has to wait for the Lease."""


class Keeper:
    """Starts the operator, and starts it again at once whenever it has ended: mostly in its pod."""

    def __init__(
        self, folder: Path, kubeconfig: Path, config: Mapping[str, Any], seed: int
    ) -> None:
        self.ended: Counter[str] = Counter()
        self._arguments = (folder, kubeconfig)
        self._config = config
        self._folder = folder
        self._replica: Replica | None = None
        self._lives = 0
        self._random = random.Random(f"keeper {seed}")

    async def run(self, kills: Kills) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        pod = 0
        try:
            while True:
                name = f"operator-{self._lives:04}"
                self._lives += 1
                self._replica = Replica(*self._arguments, name, self._config, f"pod-{pod}")
                kills.born_at = loop.time()
                while (code := self._replica.process.poll()) is None:
                    await asyncio.sleep(LOOK_SECONDS)
                self.ended["killed" if code == -9 else f"exit code {code}"] += 1
                self._replica.end()
                pod += self._random.random() < MOVES
        finally:
            if self._replica is not None:
                self._replica.end()

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self._replica is not None:
            self._replica.process.kill()

    def defects(self) -> list[str]:
        """What the operator itself calls a defect of its own, in the logs of all its lives.

        A part that ended is one, and a trace that nobody caught; that a Lease was lost, or that the
        API server's past changed, is none.
        """
        logs = sorted(self._folder.glob("operator-*.log"))
        return [line for log in logs for line in defects_in(log.read_text(errors="replace"))]


def defects_in(log: str) -> list[str]:
    """Those of one life. Its last line may have been cut by SIGKILL."""
    found = []
    lines = log.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            if number < len(lines):
                found.append(line)
            continue
        level, text = entry["level"], entry["message"]
        part_ended = level == "CRITICAL" and " ended: " in text and PAST_CHANGED not in text
        if part_ended or (level == "ERROR" and "defect" in text):
            found.append(line)
    return found
