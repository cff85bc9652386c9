"""Built-in model profiles, and how run and profile together decide a model."""

from __future__ import annotations

import re
from typing import Any

import pytest

from evalrun_api.index import builtin_index
from evalrun_api.profiles import (
    GENERIC,
    ModelProfile,
    ResolvedModel,
    SizeRow,
    builtin_profiles,
    parameters,
    resolve,
    size_in_name,
)
from evalrun_api.reading import read
from evalrun_api.sources import ModelSource
from evalrun_api.spec import ModelSpec

pytestmark = pytest.mark.decisions

PROFILES = builtin_profiles()
EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
ROWS = [
    pytest.param(row, id=f"{profile.name}-{row.up_to}")
    for profile in [*PROFILES.values(), GENERIC]
    for row in profile.sizes
    if not profile.endpoint
]
GIB = {"Gi": 2**30}


def model(**fields: Any) -> ModelSpec:
    source = fields.pop("source", {"volume": {"claimName": "models"}})
    return read(ModelSpec, {"source": source, **fields})


def decide(
    profile: str | ModelProfile,
    *,
    accelerators: int | None = None,
    batch_size: int | None = None,
    accelerators_per_worker: int | None = None,
    **fields: Any,
) -> ResolvedModel:
    chosen = PROFILES[profile] if isinstance(profile, str) else profile
    spec = model(profile=chosen.name, **fields)
    return resolve(
        spec,
        chosen,
        accelerators=accelerators,
        batch_size=batch_size,
        accelerators_per_worker=accelerators_per_worker,
    )


def test_the_profiles_of_this_release() -> None:
    assert list(PROFILES) == [
        "llama_vision",
        "llava",
        "llava_hf",
        "llava_onevision",
        "openai",
        "qwen2_5_vl",
        "qwen2_vl",
        "whisper",
    ]


@EACH
def test_a_profile_names_a_backend_that_lmms_eval_has(profile: ModelProfile) -> None:
    assert profile.backend in builtin_index().backends


@EACH
def test_a_profile_brings_an_example_that_resolves(profile: ModelProfile) -> None:
    source = read(ModelSource, profile.example)
    assert (source.endpoint is not None) == profile.endpoint
    resolved = decide(profile, source=profile.example)
    assert resolved.backend == profile.backend
    assert (resolved.accelerators == 0) == profile.endpoint
    assert resolved.source_arg not in resolved.args


@EACH
def test_a_chunk_is_whole_batches(profile: ModelProfile) -> None:
    assert profile.chunk_size % profile.batch_size == 0
    assert profile.batch_size <= (profile.max_batch_size or profile.batch_size)
    for batch in (1, 3, 16, 4096):
        resolved = decide(profile, batch_size=batch)
        assert resolved.batch_size == batch
        assert resolved.chunk_size % batch == 0
        assert resolved.chunk_size <= max(profile.chunk_size, batch)


@EACH
def test_sizes_rise_and_so_do_their_needs(profile: ModelProfile) -> None:
    sizes = [parameters(row.up_to) for row in profile.sizes]
    assert sizes
    assert sizes == sorted(set(sizes))
    needs = [row.accelerators for row in profile.sizes]
    assert needs == sorted(needs)
    if profile.default_size:
        assert parameters(profile.default_size) <= sizes[-1]


@pytest.mark.parametrize("row", ROWS)
def test_weights_fit_as_the_rule_of_size_rows_says(row: SizeRow) -> None:
    weights = 2 * parameters(row.up_to)
    assert weights <= 0.7 * row.accelerators * 80e9
    # Not wasteful either: half of the accelerators would be too few.
    assert row.accelerators == 1 or weights > 0.7 * (row.accelerators // 2) * 80e9
    found = re.fullmatch(r"(\d+)(Gi)", row.memory)
    assert found
    memory = int(found[1]) * GIB[found[2]]
    assert weights + 15.5 * 2**30 <= memory <= 2 * weights + 48 * 2**30


@pytest.mark.parametrize(
    ("profile", "repo", "accelerators", "memory", "device_map"),
    [
        ("qwen2_5_vl", "Qwen/Qwen2.5-VL-3B-Instruct", 1, "24Gi", "cuda"),
        ("qwen2_5_vl", "Qwen/Qwen2.5-VL-7B-Instruct", 1, "32Gi", "cuda"),
        ("qwen2_5_vl", "Qwen/Qwen2.5-VL-32B-Instruct", 2, "80Gi", "auto"),
        ("qwen2_5_vl", "Qwen/Qwen2.5-VL-72B-Instruct", 4, "160Gi", "auto"),
        ("qwen2_vl", "Qwen/Qwen2-VL-2B-Instruct", 1, "20Gi", "cuda"),
        ("qwen2_vl", "Qwen/Qwen2-VL-72B-Instruct", 4, "160Gi", "auto"),
        ("llava", "liuhaotian/llava-v1.5-13b", 1, "48Gi", None),
        ("llava", "liuhaotian/llava-v1.6-34b", 2, "96Gi", "auto"),
        ("llava_hf", "llava-hf/llava-1.5-7b-hf", 1, "32Gi", "cuda"),
        ("llava_hf", "llava-hf/llava-interleave-qwen-0.5b-hf", 1, "20Gi", "cuda"),
        ("llava_hf", "llava-hf/llava-next-72b-hf", 4, "160Gi", "auto"),
        ("llava_onevision", "lmms-lab/llava-onevision-qwen2-0.5b-ov", 1, "20Gi", None),
        ("llava_onevision", "lmms-lab/llava-onevision-qwen2-72b-ov", 4, "160Gi", "auto"),
        ("llama_vision", "meta-llama/Llama-3.2-11B-Vision-Instruct", 1, "40Gi", "cuda"),
        ("llama_vision", "meta-llama/Llama-3.2-90B-Vision-Instruct", 4, "192Gi", "auto"),
        ("whisper", "openai/whisper-large-v3", 1, "20Gi", None),
    ],
)
def test_a_repository_s_name_decides_what_the_model_needs(
    profile: str, repo: str, accelerators: int, memory: str, device_map: str | None
) -> None:
    resolved = decide(profile, source={"huggingFace": {"repo": repo}})
    assert (resolved.accelerators, resolved.memory) == (accelerators, memory)
    assert resolved.args.get("device_map") == device_map


@pytest.mark.parametrize(
    ("profile", "device_map"),
    [
        ("llava_hf", "cpu"),
        ("qwen2_vl", "cpu"),
        ("qwen2_5_vl", "cpu"),
        ("llama_vision", "cpu"),
        ("llava", "auto"),
        ("llava_onevision", "auto"),
    ],
)
def test_without_accelerators_the_model_goes_to_the_cpu(profile: str, device_map: str) -> None:
    resolved = decide(profile, accelerators=0)
    assert resolved.accelerators == 0
    assert resolved.args["device_map"] == device_map
    assert resolved.origins["args.device_map"] == f"profile {profile}, without accelerator"
    assert resolved.args.get("attn_implementation") != "flash_attention_2"


def test_two_accelerators_are_two_workers_of_a_model_that_fits_one() -> None:
    resolved = decide("llava_hf", size="7B", accelerators=2)
    assert (resolved.accelerators_per_worker, resolved.args["device_map"]) == (1, "cuda")


def test_a_worker_with_two_accelerators_uses_both() -> None:
    resolved = decide("llava_hf", size="7B", accelerators=2, accelerators_per_worker=2)
    assert resolved.args["device_map"] == "auto"
    assert resolved.origins["args.device_map"] == "profile llava_hf, several accelerators"


def test_a_model_of_unknown_size_gets_all_accelerators_of_its_pod() -> None:
    assert decide("llava_hf", accelerators=4).accelerators_per_worker == 4


def test_the_run_wins_over_the_profile_and_the_origin_is_kept() -> None:
    ours = decide(
        "qwen2_5_vl",
        size="72B",
        args={"attn_implementation": "eager", "fps": 2},
        accelerators=8,
        batch_size=4,
        backend="gemma3",
    )
    assert ours.args == {"attn_implementation": "eager", "device_map": "auto", "fps": 2}
    assert (ours.accelerators, ours.batch_size, ours.backend) == (8, 4, "gemma3")
    origins = ours.origins
    assert origins["accelerators"] == origins["batchSize"] == origins["backend"] == "run"
    assert origins["args.attn_implementation"] == origins["args.fps"] == "run"
    assert origins["memory"] == "profile qwen2_5_vl, up to 73B"
    assert origins["chunkSize"] == "profile qwen2_5_vl"


def test_an_argument_set_to_null_goes_back_to_the_backend_s_default() -> None:
    resolved = decide("llava_hf", args={"attn_implementation": None})
    assert "attn_implementation" not in resolved.args


def test_a_row_s_arguments_win_over_the_profile_s_and_lose_to_the_run_s() -> None:
    profile = ModelProfile(
        name="rows",
        description="For this test.",
        backend="gemma3",
        modalities=["text"],
        args={"a": "profile", "b": "profile"},
        sizes=[
            SizeRow(up_to="1B", accelerators=1, memory="20Gi", args={"a": "row"}),
            SizeRow(up_to="7B", accelerators=1, memory="32Gi", args={"a": "row", "b": "row"}),
        ],
    )
    large = decide(profile, size="7B", args={"b": "run"})
    assert large.args == {"a": "row", "b": "run"}
    assert large.origins["args.a"] == "profile rows, up to 7B"
    assert decide(profile).args == {"a": "row", "b": "profile"}


def test_a_model_larger_than_all_rows_gets_the_largest() -> None:
    assert decide("llama_vision", size="400B").accelerators == 4


def test_the_size_of_the_run_wins_over_the_one_in_the_name() -> None:
    source = {"huggingFace": {"repo": "Qwen/Qwen2.5-VL-7B-Instruct"}}
    assert decide("qwen2_5_vl", source=source, size="72B").accelerators == 4


def test_a_folder_has_the_profile_s_default_size() -> None:
    assert decide("llama_vision").memory == "40Gi"


def test_an_endpoint_needs_no_accelerator_and_takes_no_cpu_arguments() -> None:
    endpoint = {"endpoint": {"url": "http://server/v1", "model": "m-72B"}}
    resolved = decide("openai", source=endpoint)
    assert resolved.endpoint
    assert (resolved.accelerators, resolved.source_arg) == (0, "model_version")
    assert "device_map" not in resolved.args


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "7B"),
        ("liuhaotian/llava-v1.5-13b", "13B"),
        ("llava-hf/llava-interleave-qwen-0.5b-hf", "0.5B"),
        ("lmms-lab/llava-onevision-qwen2-7b-ov", "7B"),
        ("HuggingFaceTB/SmolVLM-256M-Instruct", "256M"),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", "30B"),
        ("llava-hf/llava_1.5_7b_hf", "7B"),
        ("owner/7b", "7B"),
        ("meta-llama/Llama-3.2-11B-Vision", "11B"),
        ("owner/model-7b-4bit", "7B"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None),
        ("Qwen/Qwen2.5-7B-Instruct-1M", "7B"),
        ("openai/whisper-large-v3", None),
        ("mistralai/Mixtral-8x7B-v0.1", None),
        ("", None),
    ],
)
def test_the_size_that_a_name_tells(name: str, size: str | None) -> None:
    assert size_in_name(name) == size


def test_sizes_are_numbers_of_parameters() -> None:
    assert parameters("350M") == 350e6
    assert parameters("0.5B") == 0.5e9
    assert parameters("1550M") < parameters("2B")
