"""Every fault that stops a run before it starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evalrun_api.checks import TYPED_ARGS
from evalrun_api.digests import canonical_json
from evalrun_api.errors import Fault, Refused
from evalrun_api.plan import MAX_PLAN_BYTES
from evalrun_api.planning import Planned
from evalrun_api.policy import LAPTOP, Policy

pytestmark = pytest.mark.decisions

Plan = Callable[..., Planned]
Faults = Callable[..., tuple[Fault, ...]]
FOLDER = {"volume": {"claimName": "models"}}
SERVER = {"endpoint": {"url": "http://server/v1", "model": "m"}}
CODE = {"allowCodeExecution": True}


@pytest.fixture
def faults(plan_run: Plan) -> Callable[..., tuple[Fault, ...]]:
    def find(**spec: Any) -> tuple[Fault, ...]:
        with pytest.raises(Refused) as refused:
            plan_run(**spec)
        return refused.value.faults

    return find


@pytest.mark.parametrize(
    ("spec", "where", "what"),
    [
        (
            {"model": {"source": FOLDER}},
            "spec.model",
            "neither profile nor backend is set",
        ),
        (
            {"model": {"profile": "llava_fh", "source": FOLDER}},
            "spec.model.profile",
            "there is no profile 'llava_fh'; did you mean llava_hf",
        ),
        (
            {"model": {"backend": "gema3", "source": FOLDER}},
            "spec.model.backend",
            "has no backend 'gema3'; did you mean gemma3?",
        ),
        (
            {"model": {"profile": "qwen2_vl", "source": FOLDER}},
            "spec.model.profile",
            "has no backend 'qwen2_vl'; did you mean qwen2_5_vl?",
        ),
        (
            {"model": {"profile": "llava_hf", "source": FOLDER, "args": {"x": [1]}}},
            "spec.model.args.x",
            "list cannot be a model argument",
        ),
        (
            {"model": {"profile": "openai", "source": FOLDER}},
            "spec.model.source",
            "profile openai asks a server, and the source is not one",
        ),
        (
            {"model": {"profile": "llava_hf", "source": SERVER}},
            "spec.model.source.endpoint",
            "backend llava_hf loads weights and cannot ask a server",
        ),
        (
            {
                "model": {"profile": "openai", "source": SERVER},
                "parallelism": {"acceleratorsPerShard": 2},
            },
            "spec.parallelism.acceleratorsPerShard",
            "2 accelerators would stand idle while a server answers",
        ),
        (
            {
                "model": {"profile": "whisper", "source": FOLDER},
                "parallelism": {"acceleratorsPerShard": 0},
            },
            "spec.parallelism.acceleratorsPerShard",
            "backend whisper cannot run without an accelerator",
        ),
        (
            {"evaluation": {"batchSize": 2}},
            "spec.evaluation.batchSize",
            "backend llava_hf refuses batches above 1",
        ),
        (
            {"benchmarks": [{"name": "mne"}]},
            "spec.benchmarks[0].name",
            "lmms-eval 0.7.3 has no task, group or tag 'mne'; did you mean mme?",
        ),
        (
            {"benchmarks": [{"name": "mme"}, {"name": "ai2d"}, {"name": "mme", "limit": 1}]},
            "spec.benchmarks[2]",
            "mme is already asked for by spec.benchmarks[0]",
        ),
        (
            {"benchmarks": [{"benchmarkRef": {"name": "shape"}}], "security": CODE},
            "spec.benchmarks[0].benchmarkRef.name",
            "there is no Benchmark 'shape'; did you mean shapes?",
        ),
        (
            {"benchmarks": [{"name": "mme"}, {"benchmarkRef": {"name": "shapes"}}]},
            "spec.benchmarks[1].benchmarkRef.name",
            "Benchmark shapes brings Python code",
        ),
        (
            {"generation": {"temperature": 0.5, "doSample": False}},
            "spec.generation.temperature",
            "0.5 contradicts doSample: false",
        ),
        (
            {"benchmarks": [{"name": "mme", "generation": {"temperature": 0, "doSample": True}}]},
            "spec.benchmarks[0].generation.doSample",
            "true contradicts temperature: 0",
        ),
    ],
)
def test_a_fault_names_the_field_and_what_is_wrong(
    faults: Faults, spec: dict[str, Any], where: str, what: str
) -> None:
    (fault,) = [entry for entry in faults(**spec) if entry.where == where]
    assert what in fault.what
    assert fault.remedy


@pytest.mark.parametrize("argument", TYPED_ARGS)
def test_an_argument_with_a_field_of_its_own_is_refused_with_that_field(
    faults: Faults, argument: str
) -> None:
    model = {"profile": "llava_hf", "source": FOLDER, "args": {argument: "x"}}
    (fault,) = faults(model=model)
    assert fault.where == f"spec.model.args.{argument}"
    assert fault.remedy == f"Use spec.{TYPED_ARGS[argument]} instead"


@pytest.mark.parametrize(
    "value", ["text", 1, 2.5, True, None], ids=lambda value: type(value).__name__
)
def test_scalars_are_model_arguments(plan_run: Plan, value: Any) -> None:
    model = {"profile": "llava_hf", "source": FOLDER, "args": {"x": value}}
    args = plan_run(model=model).plan.model.args
    assert args.get("x") == value
    assert ("x" in args) == (value is not None)


@pytest.mark.parametrize("field", ["trustRemoteCode", "allowOnline", "allowCodeExecution"])
def test_a_risky_thing_needs_the_administrator_s_key_too(
    faults: Faults, plan_run: Plan, field: str
) -> None:
    (fault,) = faults(policy=Policy(), security={field: True})
    assert fault.where == f"spec.security.{field}"
    assert "policy does not allow it" in fault.what
    assert plan_run(security={field: True}).plan.security.document()[field] is True
    assert plan_run(policy=Policy(), security={field: False}).plan.tasks == ["mme"]


@pytest.mark.parametrize(
    "argument",
    [
        *("openai_api_key", "API_KEY", "apikey", "access_token", "client_secret", "password"),
        "db_password",
    ],
)
def test_a_secret_among_the_arguments_is_refused(faults: Faults, argument: str) -> None:
    model = {"profile": "llava_hf", "source": FOLDER, "args": {argument: "x"}}
    (fault,) = faults(model=model)
    assert fault.where == f"spec.model.args.{argument}"
    assert "source.endpoint.secret" in fault.remedy


@pytest.mark.parametrize("argument", ["max_tokens", "tokenizer", "passwordless", "secretive"])
def test_an_argument_that_only_sounds_like_a_secret_is_none(plan_run: Plan, argument: str) -> None:
    model = {"profile": "llava_hf", "source": FOLDER, "args": {argument: 5}}
    assert plan_run(model=model).plan.model.args[argument] == 5


def own(**args: Any) -> dict[str, Any]:
    return {"backend": "gemma3", "source": FOLDER, "args": args}


@pytest.mark.parametrize("argument", ["server_url", "host", "api_url", "nim_base_url", "proxies"])
def test_an_argument_that_names_a_server_needs_the_policy(plan_run: Plan, argument: str) -> None:
    model = own(**{argument: "http://elsewhere"})
    with pytest.raises(Refused) as refused:
        plan_run(policy=Policy(), model=model)
    assert [fault.where for fault in refused.value.faults] == [f"spec.model.args.{argument}"]
    assert plan_run(policy=Policy(allow_endpoints=True), model=model).plan.model.args


@pytest.mark.parametrize("argument", ["hosted", "url_prefix_length", "server_timeout"])
def test_an_argument_that_only_sounds_like_a_server_is_none(plan_run: Plan, argument: str) -> None:
    assert plan_run(policy=Policy(), model=own(**{argument: 5})).plan.model.args == {argument: 5}


def test_an_argument_that_names_a_program_needs_both_keys(plan_run: Plan) -> None:
    model, asked = own(mcp_server_path="/volumes/x/evil.py"), {"allowCodeExecution": True}
    for policy, security in ((Policy(allow_code_execution=True), {}), (LAPTOP, {})):
        with pytest.raises(Refused, match="mcp_server_path: it is a program"):
            plan_run(policy=policy, model=model, security=security)
    assert plan_run(policy=LAPTOP, model=model, security=asked).plan.model.args
    weights = {"backend": "gemma3", "source": FOLDER, "sourceArgument": "mcp_server_path"}
    with pytest.raises(Refused, match="sourceArgument: it is a program"):
        plan_run(policy=LAPTOP, model=weights)


def test_the_argument_that_takes_the_weights_does_not_stand_in_args(faults: Faults) -> None:
    model = {
        "backend": "gemma3",
        "source": FOLDER,
        "sourceArgument": "model_path",
        "args": {"model_path": "x"},
    }
    (fault,) = faults(model=model)
    assert fault.where == "spec.model.args.model_path"
    assert "sourceArgument" in fault.what


@pytest.mark.parametrize("argument", ["trust_remote_code", "base_url", "hf_token", "batch_size"])
def test_the_argument_that_takes_the_weights_takes_nothing_else(
    faults: Faults, argument: str
) -> None:
    (fault,) = faults(model={"backend": "gemma3", "source": FOLDER, "sourceArgument": argument})
    assert fault.where == "spec.model.sourceArgument"


@pytest.mark.parametrize(
    ("extra", "what", "remedy"),
    [
        ({"temperature": 1}, "it has a field of its own", "Use spec.generation.temperature"),
        ({"top_p": 1}, "it has a field of its own", "Use spec.generation.topP instead"),
        ({"maxNewTokens": 1}, "it has a field of its own", "Use spec.generation.maxNewTokens"),
        ({"stop": None}, "null is no value", "Leave it out"),
    ],
)
def test_an_extra_generation_argument_is_one_without_a_field_and_with_a_value(
    faults: Faults, extra: dict[str, Any], what: str, remedy: str
) -> None:
    (fault,) = faults(generation={"extra": extra})
    assert fault.where == f"spec.generation.extra.{next(iter(extra))}"
    assert what in fault.what
    assert remedy in fault.remedy


def test_all_faults_are_told_at_once(faults: Faults) -> None:
    found = faults(
        policy=Policy(),
        model={"profile": "llava_hf", "source": FOLDER, "args": {"token": "x"}},
        benchmarks=[{"name": "mne"}, {"benchmarkRef": {"name": "none"}}],
        security={"allowOnline": True},
        evaluation={"batchSize": 8},
    )
    assert {entry.where for entry in found} == {
        "spec.security.allowOnline",
        "spec.model.args.token",
        "spec.benchmarks[0].name",
        "spec.benchmarks[1].benchmarkRef.name",
        "spec.evaluation.batchSize",
    }


def test_a_plan_of_32_kibibytes_is_made_and_a_larger_one_refused(
    faults: Faults, plan_run: Plan
) -> None:
    def spec(length: int) -> dict[str, Any]:
        return {"generation": {"extra": {"filler": "x" * length}}}

    rest = len(canonical_json(plan_run(**spec(0)).plan.document()))
    largest = plan_run(**spec(MAX_PLAN_BYTES - rest)).plan
    assert len(canonical_json(largest.document())) == MAX_PLAN_BYTES
    (fault,) = faults(**spec(MAX_PLAN_BYTES - rest + 1))
    assert fault.what == f"the plan takes {MAX_PLAN_BYTES + 1} bytes; {MAX_PLAN_BYTES} fit"


def test_of_a_hundred_unknown_names_the_first_few_come_with_a_hint(plan_run: Plan) -> None:
    with pytest.raises(Refused) as refused:
        plan_run(benchmarks=[{"name": f"mmee{number}"} for number in range(100)])
    assert len(refused.value.faults) == 100
    assert [("mean" in fault.what) for fault in refused.value.faults].count(True) == 5
