"""What the tests of the operator's decisions share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evalrun_api.index import NameIndex
from evalrun_operator import admission

sys.path.append(str(Path(__file__).parent))  # world and its parts

INDEX = NameIndex(
    lmms_eval="0.7.3",
    tasks=["mme", "ai2d"],
    groups=["docvqa"],
    tags=["ocr"],
    backends=["llava_hf", "qwen2_5_vl", "openai"],
)


@pytest.fixture(autouse=True)
def _few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real index has thousands of names, and searching it for near ones takes a while."""
    monkeypatch.setattr(admission, "builtin_index", lambda: INDEX)
