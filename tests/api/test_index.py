"""The index of lmms-eval's names."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from evalrun_api.document import TaskName
from evalrun_api.index import builtin_index, near

pytestmark = pytest.mark.decisions


def test_each_name_in_the_index_may_stand_in_a_manifest() -> None:
    index = builtin_index()
    names = TypeAdapter(list[TaskName])
    names.validate_python(sorted(index.benchmarks))
    names.validate_python(index.backends)


def test_the_index_is_of_the_pinned_lmms_eval_and_knows_its_names() -> None:
    index = builtin_index()
    assert index.lmms_eval == "0.7.3"
    assert {"mme", "docvqa", "mmmu_val"} <= index.benchmarks
    assert {"llava_hf", "openai", "vllm"} <= set(index.backends)
    assert len(index.tasks) > 1500


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mem", "did you mean mme?"),
        ("MME", "did you mean mme?"),
        ("docvqa_vall", "did you mean docvqa_val or docvqa?"),
        ("qa", "did you mean docvqa or docvqa_val?"),
        ("xyzzy", "no name is near it"),
    ],
)
def test_a_near_name_is_suggested(name: str, hint: str) -> None:
    assert near(name, ["mme", "docvqa", "docvqa_val", "ai2d"]) == hint
