"""Python code that comes with weights runs only where the run allows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.errors import EvalrunError

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

CODE = """
from pathlib import Path
from transformers import PretrainedConfig

Path(__file__).with_name("RAN").touch()

class OwnConfig(PretrainedConfig):
    model_type = "{kind}"
"""


@pytest.fixture
def allow() -> Iterator[Any]:
    from evalrun_runner.harness.remote_code import guard

    yield guard
    guard(allowed=True)


def weights(folder: Path, kind: str) -> Path:
    folder.mkdir()
    config = {"model_type": kind, "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE.replace("{kind}", kind))
    return folder


@pytest.mark.parametrize("kind", ["nobodys-own", "llava"])
def test_a_backend_that_trusts_all_weights_runs_their_code_only_if_the_run_does(
    allow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from transformers import AutoConfig, dynamic_module_utils

    modules = tmp_path / "modules"
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(modules))
    monkeypatch.syspath_prepend(str(modules))
    folder = weights(tmp_path / kind.replace("-", "_"), kind)

    allow(allowed=False)
    if kind == "llava":  # transformers has it
        own = AutoConfig.from_pretrained(folder, trust_remote_code=True)
        assert type(own).__module__.startswith("transformers.models.llava")
    else:
        with pytest.raises(EvalrunError, match=r"spec\.security\.trustRemoteCode"):
            AutoConfig.from_pretrained(folder, trust_remote_code=True)
    with pytest.raises(EvalrunError):
        dynamic_module_utils.get_class_from_dynamic_module("own.OwnConfig", str(folder))
    assert not list(modules.rglob("RAN"))

    allow(allowed=True)
    AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert list(modules.rglob("RAN"))
