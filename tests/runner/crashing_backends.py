"""lmms-eval backends that end or hang the process they run in, for the tests of its supervisor.

A worker is a process of its own, so lmms-eval finds them there as any plugin, by an entry point.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest


class Crashing(lmms):
    """Answers "red", and behaves as told at one document.

    behaviour: "segfault", "raise" or "sleep". document: of what number; -1 for every.
    """

    is_simple = True

    def __init__(
        self, pretrained: str, behaviour: str = "segfault", document: int = -1, **kwargs: Any
    ) -> None:
        super().__init__()
        self._behaviour = behaviour
        self._document = int(document)

    def generate_until(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request.args[3]) for request in requests]

    def _answer(self, document: int) -> str:
        if self._document in (-1, document):
            if self._behaviour == "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self._behaviour == "raise":
                raise ValueError("the backend is unwell")
            while self._behaviour == "sleep":
                time.sleep(1)
        return "red"

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError


MANIFEST = ModelManifest("crashing", simple_class_path="crashing_backends.Crashing")


def as_plugin(folder: Path) -> str:
    """A folder of a package that brings the backend, written beneath `folder`; for PYTHONPATH."""
    info = folder / "crashing_backends-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing-backends\nVersion: 0\n")
    entry = "[lmms_eval.models]\ncrashing = crashing_backends:MANIFEST\n"
    (info / "entry_points.txt").write_text(entry)
    return f"{folder}:{Path(__file__).parent}"
