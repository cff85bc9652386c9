"""An lmms-eval backend that takes a fixed time for each batch and no processor: an accelerator
of one's own, as far as a benchmark of workers is concerned.

It runs in workers of the runner, so it imports nothing of the benchmarks.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest


class FixedLatency(lmms):  # type: ignore[misc]  # it ships no types
    """Answers "red" after `seconds` for each request, one at a time.

    meeting: a folder in which `workers` of these wait for each other once they are loaded, and
    leave the times of their first request and their last answer.
    """

    is_simple = True

    def __init__(
        self, pretrained: str, seconds: float, meeting: str, workers: int, **kwargs: Any
    ) -> None:
        super().__init__()
        self._seconds = float(seconds)
        self._note = Path(meeting) / f"{os.getpid()}.json"
        self._began: float | None = None
        self._note.write_text("[]")
        while len(list(self._note.parent.glob("*.json"))) < int(workers):
            time.sleep(0.01)

    def generate_until(self, requests: list[Any]) -> list[Any]:
        began = time.monotonic()
        self._began = self._began or began
        for number in range(len(requests)):
            time.sleep(max(began + (number + 1) * self._seconds - time.monotonic(), 0))
        self._note.write_text(json.dumps([self._began, time.monotonic()]))
        return ["red"] * len(requests)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError


MANIFEST = ModelManifest("fixed_latency", simple_class_path="fixed_latency.FixedLatency")
