"""What is said about a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from evalrun_cli import checkup
from evalrun_cli.checkup import GIB

pytestmark = pytest.mark.decisions
REQUIREMENTS = [Requirement("torch<3,>=2.8"), Requirement("lmms-eval==0.7.3")]


def test_only_the_runners_own_requirements_are_looked_at() -> None:
    texts = ["pydantic", 'torch>=2; extra == "runner"', 'ruff; extra == "dev"']
    assert [entry.name for entry in checkup.extra_of(texts, "runner")] == ["torch"]


@pytest.mark.parametrize(
    ("installed", "levels"),
    [
        ({"torch": "2.9.0+cpu", "lmms-eval": "0.7.3"}, ["ok"]),
        ({"torch": "2.9.0", "lmms-eval": "0.6.0"}, ["fail"]),
        ({}, ["fail", "fail"]),
    ],
)
def test_packages_are_judged_by_version(installed: dict[str, str], levels: list[str]) -> None:
    found = checkup.packages(REQUIREMENTS, installed.get)
    assert [check.level for check in found] == levels


@pytest.mark.parametrize(
    ("check", "level"),
    [
        (checkup.python((3, 10, 1)), "fail"),
        (checkup.python((3, 11, 0)), "ok"),
        (checkup.lmms_eval(None, "0.7.3"), "fail"),
        (checkup.lmms_eval("0.8.0", "0.7.3"), "warn"),
        (checkup.disk("disk", "/x", GIB // 2), "fail"),
        (checkup.disk("disk", "/x", 5 * GIB), "warn"),
        (checkup.disk("disk", "/x", 50 * GIB), "ok"),
        (checkup.disk("disk", "/x", None), "fail"),
        (checkup.memory(8 * GIB, GIB), "fail"),
        (checkup.memory(8 * GIB, 4 * GIB), "warn"),
        (checkup.memory(64 * GIB, 32 * GIB), "ok"),
        (checkup.gpus(None), "warn"),
        (checkup.gpus(["NVIDIA H100, 81559 MiB"]), "ok"),
        (checkup.threads(None, has_gpu=False), "warn"),
        (checkup.threads("1", has_gpu=False), "ok"),
        (checkup.hub_cache("/x", exists=True, writable=False), "fail"),
    ],
)
def test_what_is_not_well_has_a_remedy(check: checkup.Check, level: str) -> None:
    assert check.level == level
    assert bool(check.remedy) == (level != "ok")


def test_the_doctor_reports_and_makes_no_store(invoke: Any, tmp_path: Path) -> None:
    result = invoke("doctor", "-o", "json")
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["ok"] else 1)
    assert {"python", "memory", "gpu", "store"} <= {check["name"] for check in document["checks"]}
    assert not (tmp_path / "evalrun-results").exists()


def test_a_named_store_is_written(invoke: Any, tmp_path: Path) -> None:
    result = invoke("doctor", "--store", "somewhere")
    assert "can be listed and written" in " ".join(result.stdout.split())
    assert (tmp_path / "somewhere").is_dir()
