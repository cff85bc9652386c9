"""From a run to its plan, and every fault that stops one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evalrun_api.benchmark import Benchmark
from evalrun_api.digests import canonical_json, digest
from evalrun_api.plan import RunPlan
from evalrun_api.planning import Planned, generation_arguments
from evalrun_api.reading import read
from evalrun_api.spec import GenerationSpec

pytestmark = pytest.mark.decisions

Plan = Callable[..., Planned]
FOLDER = {"volume": {"claimName": "models"}}
SERVER = {"endpoint": {"url": "http://server/v1", "model": "m"}}
CODE = {"allowCodeExecution": True}


def test_a_plan_has_nothing_left_to_choose(run_plan: RunPlan) -> None:
    assert run_plan.model.backend == "llava_hf"
    assert run_plan.model.source_arg == "pretrained"
    assert run_plan.model.args == {"attn_implementation": "sdpa", "device_map": "cuda"}
    assert (run_plan.batch_size, run_plan.groups[0].chunk_size) == (1, 16)
    assert (run_plan.accelerators, run_plan.shards) == (1, 1)
    assert run_plan.seed.model_dump() == {
        "python": 0,
        "numpy": 1234,
        "torch": 1234,
        "few_shot": 1234,
    }
    assert run_plan.tasks == ["mme"]
    assert not run_plan.is_remote


def test_a_plan_survives_being_written_and_read(plan_run: Plan) -> None:
    plan = plan_run(
        benchmarks=[{"name": "mme", "limit": 5}, {"benchmarkRef": {"name": "shapes"}}],
        generation={"temperature": 0.5, "extra": {"a": {"b": [1, None]}}},
        security=CODE,
    ).plan
    assert RunPlan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan
    assert read(RunPlan, plan.document()) == plan


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"shards": 8, "accelerators": 4, "offline": True}, True),
        ({"store": {"uri": "s3://moved"}}, True),
        ({"accelerators": 0}, False),
        ({"batchSize": 64}, False),
    ],
)
def test_a_plan_stays_the_same_however_its_work_is_spread(
    run_plan: RunPlan, change: dict[str, Any], same: bool
) -> None:
    begun = run_plan.model_copy(update={"accelerators": 1})
    changed = RunPlan.model_validate(begun.document() | change)
    assert begun.asks_the_same(changed) is same
    assert changed.asks_the_same(begun) is same


def test_benchmarks_with_equal_settings_share_a_group_in_order_of_appearance(
    plan_run: Plan,
) -> None:
    plan = plan_run(
        benchmarks=[
            {"name": "mme", "limit": 5},
            {"name": "ai2d"},
            {"name": "docvqa_val", "limit": 5, "offset": 0, "repeats": 1},
            {"name": "ocr", "generation": {"temperature": 0}},
        ]
    ).plan
    assert [(group.name, group.tasks) for group in plan.groups] == [
        ("g0", ["mme", "docvqa_val"]),
        ("g1", ["ai2d"]),
        ("g2", ["ocr"]),
    ]
    assert [group.limit for group in plan.groups] == [5, None, None]
    assert plan.tasks == ["mme", "docvqa_val", "ai2d", "ocr"]


@pytest.mark.parametrize(
    "differing",
    [
        {"limit": 5},
        {"offset": 5},
        {"fewShot": 2},
        {"repeats": 2},
        {"generation": {"topK": 5}},
        {"generation": {"extra": {"a": 1}}},
    ],
)
def test_benchmarks_that_differ_in_a_setting_stand_apart(
    plan_run: Plan, differing: dict[str, Any]
) -> None:
    plan = plan_run(benchmarks=[{"name": "mme"}, {"name": "ai2d", **differing}]).plan
    assert [group.tasks for group in plan.groups] == [["mme"], ["ai2d"]]


def test_a_benchmark_s_setting_wins_over_the_run_s(plan_run: Plan) -> None:
    plan = plan_run(
        benchmarks=[
            {"name": "mme"},
            {"name": "ai2d", "fewShot": 0, "repeats": 1, "generation": {"temperature": 0}},
        ],
        evaluation={"fewShot": 3, "repeats": 4},
        generation={"temperature": 0.7, "maxNewTokens": 16, "doSample": True},
    ).plan
    common, own = plan.groups
    assert (common.few_shot, common.repeats, common.generation["temperature"]) == (3, 4, 0.7)
    assert (own.few_shot, own.repeats) == (0, 1)
    assert own.generation == {"temperature": 0, "max_new_tokens": 16, "do_sample": True}


def test_generation_arguments_are_lmms_eval_s_and_extra_ones_win() -> None:
    first = read(GenerationSpec, {"maxNewTokens": 5, "topP": 0.5, "until": ["\n"]})
    second = read(GenerationSpec, {"topP": 0.9, "extra": {"top_k": 3, "max_new_tokens": 7}})
    assert generation_arguments(None, first, None, second) == {
        "max_new_tokens": 7,
        "top_p": 0.9,
        "top_k": 3,
        "until": ["\n"],
    }
    assert generation_arguments(None) == {}


def test_a_custom_benchmark_stands_in_the_plan_by_digest_and_beside_it_by_text(
    plan_run: Plan, shapes: Benchmark
) -> None:
    planned = plan_run(benchmarks=[{"benchmarkRef": {"name": "shapes"}}], security=CODE)
    assert planned.plan.tasks == ["shapes_easy", "shapes_hard"]
    (custom,) = planned.plan.custom_benchmarks
    assert custom.name == "shapes"
    assert custom.digest == digest(shapes.spec.files)
    assert custom.data is not None
    assert custom.data.claim_name == "data"
    assert planned.files == {"shapes": shapes.spec.files}
    assert "LIMIT = 1" not in canonical_json(planned.plan.document()).decode()


def test_a_run_may_name_a_backend_alone(plan_run: Plan) -> None:
    planned = plan_run(model={"backend": "gemma3", "source": FOLDER, "size": "27B"})
    assert planned.plan.model.backend == "gemma3"
    assert planned.plan.accelerators == 2
    assert planned.model.origins["backend"] == "run"
    assert planned.model.origins["accelerators"] == "profile generic, up to 40B"


def test_an_endpoint_run_is_remote_and_holds_no_accelerator(plan_run: Plan) -> None:
    plan = plan_run(model={"profile": "openai", "source": SERVER}).plan
    assert plan.is_remote
    assert (plan.accelerators, plan.batch_size, plan.groups[0].chunk_size) == (0, 64, 512)


def test_a_backend_without_a_profile_may_take_its_weights_by_another_argument(
    plan_run: Plan,
) -> None:
    model = {"backend": "gemma3", "source": FOLDER}
    assert plan_run(model=model).plan.model.source_arg == "pretrained"
    planned = plan_run(model={**model, "sourceArgument": "model_path"})
    assert planned.plan.model.source_arg == "model_path"
    assert planned.model.origins["sourceArgument"] == "run"


def test_lmms_eval_s_own_tasks_are_needed_where_a_custom_group_takes_one_in(
    plan_run: Plan,
) -> None:
    def own(text: str) -> RunPlan:
        custom = benchmark(tasks=["mine"], files={"mine.yaml": text, "x.yaml": "task: x"})
        return plan_run(customs=[custom], benchmarks=[{"benchmarkRef": {"name": "mine"}}]).plan

    assert own("group: mine\ntask: [x]").is_only_custom
    assert not own("group: mine\ntask: [x, mme]").is_only_custom
    assert not own("group: mine\ntask: [{group: in, task: [{task: mme}]}]").is_only_custom


def benchmark(**spec: Any) -> Benchmark:
    head = {"apiVersion": "lmms-eval.io/v1alpha1", "kind": "Benchmark"}
    return read(Benchmark, {**head, "metadata": {"name": "mine"}, "spec": spec})
