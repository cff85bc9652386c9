"""Digests: of values, of a dataset's rows, and of all that determines a run's answers."""

from __future__ import annotations

import hashlib
import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalrun_api.digests import canonical_json, digest, feed
from evalrun_api.lock import GroupLock, Lock, ModelLock, TaskLock, answers_digest
from evalrun_api.plan import CustomBenchmark, RunPlan
from evalrun_api.reading import read

pytestmark = pytest.mark.decisions

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.binary(max_size=6)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


def fed(value: Any) -> bytes:
    """What is fed, in one piece."""

    class Sink:
        data = b""

        def update(self, part: bytes) -> None:
            self.data += part

    sink = Sink()
    feed(sink, value)
    return sink.data


def typed(value: Any) -> Any:
    """A form in which 1, 1.0 and True, and 0.0 and -0.0, differ, and the order of keys does not."""
    if isinstance(value, list):
        return ("list", tuple(typed(entry) for entry in value))
    if isinstance(value, dict):
        return ("dict", tuple(sorted((key, typed(entry)) for key, entry in value.items())))
    sign = math.copysign(1, value) if isinstance(value, float) else 0
    return (type(value).__name__, sign, repr(value))


@given(values, values)
@settings(max_examples=300)
def test_different_values_are_fed_differently_and_equal_ones_alike(first: Any, second: Any) -> None:
    assert (fed(first) == fed(second)) == (repr(typed(first)) == repr(typed(second)))


@given(st.lists(values, max_size=4), st.lists(values, max_size=4))
def test_what_is_fed_cannot_be_divided_in_two_ways(first: list[Any], second: list[Any]) -> None:
    """Rows are fed one after another: the bytes of one never run into the next."""
    joined = b"".join(fed(entry) for entry in first) == b"".join(fed(entry) for entry in second)
    assert joined == (repr(typed(first)) == repr(typed(second)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["as", "b"], ["a", "sb"]),
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([12, 3], [1, 23]),
        ({"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "c": 2}}),
        ([["a"], "b"], [["a", "b"]]),
        ("1", 1),
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (None, "n;"),
        (b"a", "a"),
        ([], {}),
        ({"a": None}, {}),
        ({"a": "b"}, ["a", "b"]),
        ("s1:a", "a"),
    ],
)
def test_values_that_look_alike_are_fed_differently(first: Any, second: Any) -> None:
    assert fed(first) != fed(second)


def test_what_arrow_gives_can_be_fed() -> None:
    assert fed((1, 2)) == fed([1, 2])
    assert fed(bytearray(b"x")) == fed(memoryview(b"x")) == fed(b"x")
    assert fed(date(2024, 1, 2)) == fed("2024-01-02")
    assert fed("\ud800") != fed("?")
    assert fed(float("nan")) == fed(float("nan"))
    assert fed({"b": 1, "a": 2}) == fed({"a": 2, "b": 1})


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": [1, 2.5, None, "é"], "a": True}) == (
        '{"a":true,"b":[1,2.5,null,"é"]}'.encode()
    )
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


# ── the digest of all that determines answers ───────────────────────────────────────────────────

MODEL = ModelLock(revision="abc", model_type="chat")
VERSIONS = {"lmms-eval": "0.7.3", "torch": "2.8.0"}
TASK = TaskLock(
    name="mme",
    version="1",
    request_type="generate_until",
    documents=10,
    requests=10,
    fingerprint="1" * 64,
    data="2" * 64,
)
OTHER = "f" * 64


def groups(**changes: Any) -> list[GroupLock]:
    tasks = [TASK.model_copy(update=changes)]
    return [GroupLock(name="g0", batch_size=1, chunk_size=16, tasks=tasks)]


def address(plan: RunPlan) -> str:
    return answers_digest(plan, MODEL, VERSIONS, groups())


def changed(plan: RunPlan, path: str, value: Any) -> RunPlan:
    """The plan with the value at a path of its document replaced."""
    document = plan.document()
    at: Any = document
    *parts, last = path.split(".")
    for part in parts:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    assert at.get(last) != value, "the change changes nothing"
    at[last] = value
    return read(RunPlan, document)


@pytest.fixture(scope="module")
def plan() -> RunPlan:
    return read(
        RunPlan,
        {
            "run": {"namespace": "default", "name": "trial", "uid": "1"},
            "model": {
                "backend": "llava_hf",
                "source": {"huggingFace": {"repo": "llava-hf/llava-1.5-7b-hf"}},
                "sourceArg": "pretrained",
                "args": {"device_map": "cuda", "dtype": "bfloat16"},
            },
            "batchSize": 1,
            "accelerators": 1,
            "seed": {},
            "groups": [{"name": "g0", "tasks": ["mme"]}],
            "store": {"uri": "s3://bucket/prefix"},
        },
    )


texts = st.text("abcdefgh", min_size=1, max_size=8)
execution = st.fixed_dictionaries(
    {},
    optional={
        "shards": st.integers(2, 1024),
        "accelerators": st.integers(2, 64),
        "store": texts.map(lambda name: {"uri": f"s3://{name}", "region": name}),
        "run": texts.map(lambda name: {"namespace": name, "name": name, "uid": name}),
        "offline": st.just(True),
        "workers": st.integers(2, 64),
        "stallSeconds": st.integers(2, 64),
        "batchSize": st.integers(2, 64),  # the backend's largest; the groups' are what counts
        "answersRetentionSeconds": st.just(0),
        "logSamples": st.just(False),
        "integrity": st.just({"maxInvalidFraction": 0.5, "retries": 3, "onViolation": "Mark"}),
    },
)


@given(changes=execution, device_map=st.sampled_from(["cuda", "cpu", "auto", None]))
def test_how_and_where_a_run_is_executed_does_not_move_its_answers(
    plan: RunPlan, changes: dict[str, Any], device_map: str | None
) -> None:
    document = {**plan.document(), **changes}
    document["model"]["args"] = {"dtype": "bfloat16"} | (
        {"device_map": device_map} if device_map else {}
    )
    assert address(read(RunPlan, document)) == address(plan)


@pytest.mark.parametrize(
    "argument", ["num_concurrent", "timeout", "max_retries", "retry_backoff_s"]
)
def test_how_fast_a_server_is_asked_does_not_move_answers(plan: RunPlan, argument: str) -> None:
    assert address(changed(plan, f"model.args.{argument}", 7)) == address(plan)


def test_where_the_weights_lie_does_not_move_answers_but_what_they_are_does(plan: RunPlan) -> None:
    moved = changed(plan, "model.source", {"volume": {"claimName": "models", "path": "llava"}})
    assert address(moved) == address(plan)
    other = ModelLock(revision="def", model_type="chat")
    assert answers_digest(plan, other, VERSIONS, groups()) != address(plan)


DETERMINANTS: list[tuple[str, Any]] = [
    ("model.backend", "qwen2_5_vl"),
    ("model.args.dtype", "float32"),
    ("model.args.use_cache", False),
    ("forceSimple", True),
    ("groups.0.batchSize", 2),
    ("groups.0.chunkSize", 32),
    ("maxBatchSize", 2),
    ("maxTokens", 1000),
    ("applyChatTemplate", True),
    ("fewShotAsMultiturn", True),
    ("seed.python", 1),
    ("seed.numpy", 1),
    ("seed.torch", 1),
    ("seed.fewShot", 1),
    ("systemInstruction", "Be brief."),
    ("security.trustRemoteCode", True),
    ("groups.0.tasks", ["ai2d"]),
    ("groups.0.limit", 5),
    ("groups.0.offset", 5),
    ("groups.0.fewShot", 5),
    ("groups.0.repeats", 5),
    ("groups.0.generation.temperature", 0.5),
]


@pytest.mark.parametrize(("path", "value"), DETERMINANTS, ids=[path for path, _ in DETERMINANTS])
def test_whatever_can_change_an_answer_moves_the_answers(
    plan: RunPlan, path: str, value: Any
) -> None:
    assert address(changed(plan, path, value)) != address(plan)


def test_all_determinants_move_the_answers_to_different_places(plan: RunPlan) -> None:
    places = {address(changed(plan, path, value)) for path, value in DETERMINANTS}
    assert len(places) == len(DETERMINANTS)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "ai2d"},
        {"version": "2"},
        {"request_type": "loglikelihood"},
        {"documents": 11},
        {"requests": 11},
        {"fingerprint": OTHER},
        {"data": OTHER},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_prompts_or_documents_move_the_answers(plan: RunPlan, change: dict[str, Any]) -> None:
    assert answers_digest(plan, MODEL, VERSIONS, groups(**change)) != address(plan)


def test_other_versions_forms_or_task_files_move_the_answers(plan: RunPlan) -> None:
    newer = {**VERSIONS, "torch": "2.9.0"}
    assert answers_digest(plan, MODEL, newer, groups()) != address(plan)
    simple = ModelLock(revision="abc", model_type="simple")
    assert answers_digest(plan, simple, VERSIONS, groups()) != address(plan)
    customs = [
        CustomBenchmark(name=name, digest=sha * 64, tasks=["a"])
        for name, sha in (("a", "a"), ("b", "b"))
    ]
    with_customs = plan.model_copy(update={"custom_benchmarks": customs})
    assert address(with_customs) != address(plan)
    turned = plan.model_copy(update={"custom_benchmarks": customs[::-1]})
    assert address(turned) == address(with_customs)


def test_settings_without_a_locked_group_are_no_digest(plan: RunPlan) -> None:
    with pytest.raises(ValueError, match="zip"):
        answers_digest(plan, MODEL, VERSIONS, [])


def test_a_lock_counts_its_requests(plan: RunPlan) -> None:
    lock = Lock(
        answers=address(plan),
        model=MODEL,
        versions=VERSIONS,
        groups=[*groups(requests=7), *groups(requests=5)],
    )
    assert lock.requests_total == 12
    assert Lock.model_validate_json(lock.model_dump_json(by_alias=True)) == lock


def test_a_run_that_reuses_nothing_has_an_address_of_its_own(plan: RunPlan) -> None:
    fresh = plan.model_copy(update={"reuse_answers": "Never"})
    other = fresh.model_copy(update={"run": fresh.run.model_copy(update={"uid": "2"})})
    assert len({address(plan), address(fresh), address(other)}) == 3
    assert address(fresh) == address(fresh)


def test_a_whole_number_has_one_address_however_it_is_written(plan: RunPlan) -> None:
    model = plan.model.model_copy(update={"args": {"scale": 1}})
    written = plan.model.model_copy(update={"args": {"scale": 1.0}})
    assert address(plan.model_copy(update={"model": model})) == address(
        plan.model_copy(update={"model": written})
    )
