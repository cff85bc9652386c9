"""What a run can name, and that what is shown to be copied works."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from evalrun_api.index import NameIndex, builtin_index
from evalrun_api.profiles import builtin_profiles
from evalrun_cli.catalogue import matching, worked_manifest

pytestmark = pytest.mark.contract

INDEX = NameIndex(
    lmms_eval="0", tasks=["mmmu_val", "Mme", "ocr"], groups=["mmmu"], tags=["ocr"], backends=["x"]
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("mm", [("Mme", "task"), ("mmmu", "group"), ("mmmu_val", "task")]),
        ("mmmu_*", [("mmmu_val", "task")]),
        ("ocr", [("ocr", "tag")]),
        ("zzz", []),
    ],
)
def test_names_match_by_part_or_by_pattern(pattern: str, found: list[tuple[str, str]]) -> None:
    assert matching(INDEX, pattern) == found


@pytest.mark.parametrize("name", sorted(builtin_profiles()))
def test_the_worked_manifest_of_every_profile_can_be_planned(name: str, invoke: Any) -> None:
    document = worked_manifest(builtin_profiles()[name], builtin_index())
    result = invoke("plan", "-", stdin=yaml.safe_dump(document))
    assert result.exit_code == 0, result.stderr


def test_a_profile_is_shown_with_its_manifest(invoke: Any) -> None:
    result = invoke("models", "qwen2_5_vl")
    manifest = result.stdout[result.stdout.index("apiVersion") :]
    assert yaml.safe_load(manifest)["spec"]["model"]["profile"] == "qwen2_5_vl"


def test_profiles_and_names_are_documents_too(invoke: Any) -> None:
    names = [profile["name"] for profile in json.loads(invoke("models", "-o", "json").stdout)]
    assert names == sorted(builtin_profiles())
    document = json.loads(invoke("benchmarks", "chartqa", "-o", "json").stdout)
    assert {"name": "chartqa", "kind": "task"} in document["benchmarks"]
