"""What the files of a custom benchmark bring and define, told without running any of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import Fault, Refused
from evalrun_api.planning import Planned
from evalrun_api.reading import read
from evalrun_api.task_files import inspect

pytestmark = pytest.mark.decisions
Plan = Callable[..., Planned]


def benchmark(files: dict[str, str], name: str = "own", **spec: Any) -> Benchmark:
    document = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": name},
        "spec": {"tasks": ["a"], "files": files, **spec},
    }
    return read(Benchmark, document)


@pytest.mark.parametrize(
    "files",
    [
        {"a.yaml": "task: a", "b.py": ""},
        {"a.yaml": "doc_to_text: !function b.f"},
        {"a.yaml": "doc_to_text: !funct%69on b.f"},
        {"a.yaml": "doc_to_text: !<!function> b.f"},
        {"a.yaml": "%TAG !e! !func\n---\ndoc_to_text: !e!tion b.f"},
        {"a.yaml": "x: [{y: !function b.f }]"},
        {"a.yaml": "? !function b.f\n: x"},
        {"a.yaml": "x: !!python/name:os.system"},
        {"a.yaml": "x: !<tag:yaml.org,2002:python/name:os.system> ''"},
        {"a.yaml": "x: !func${DATA}tion b.f"},
        {"a.yaml": "include: part", "part": "doc_to_text: !function b.f"},
        {"a.yaml": "x: 'not: closed"},
        {"a.yaml": "a: &a [*a]"},
        {"a.yaml": "- a list"},
        {"a.yaml": "x: '{{ q.__class__ }}'"},
        {"a.yaml": "x: '{{ f() }}'"},
        {"a.yaml": "x: '{{ q | attr(p) }}'"},
        {"a.yaml": "x: '{{ q[0] }}'"},
        {"a.yaml": "x: '{{ q }}{{{q}}.x }}'"},
        {"a.yaml": "x: '{% for q in p %}{% endfor %}'"},
        {"a.yaml": "x: '{${DATA}{ q.x }}'"},
        {"a.yaml": 'x: "\\x7b{ q.x }}"'},
        {"a.yaml": "metric_list: [{metric: ${DATA}/evil}]"},
        {"a.yaml": "metric_list: [{metric: a, hf_evaluate: true}]"},
    ],
    ids=str,
)
def test_files_that_run_python_are_told(files: dict[str, str]) -> None:
    assert benchmark(files).spec.has_code


@pytest.mark.parametrize(
    "files",
    [
        {"a.yaml": "task: a"},
        {"a.yaml": "doc_to_text: '{{ question }} {{answer}} {{- x -}}'"},
        {"a.yaml": "doc_to_text: 'a !function stands here'"},
        {"a.yaml": "# !function in a comment\ntask: a"},
        {"a.yaml": "x: {a: {b: 1}}\ny: 'a } and { and {x}'"},
        {"a.yaml": "x: !!str 5\ny: 2024-01-01\nz: &z [~, 1.5, true]\nw: *z\nv: {<<: {a: 1}}"},
        {"a.yaml": "include: part", "part": "x: 1"},
        {"a.yaml": "dataset_path: ${DATA}/x.parquet", "notes.txt": "!function"},
        {"a.yaml": "metric_list: [{metric: exact_match, aggregation: mean}]"},
    ],
    ids=str,
)
def test_files_that_are_data_alone_are_told(files: dict[str, str]) -> None:
    assert not benchmark(files).spec.has_code


def test_a_path_within_the_volume_is_judged_as_it_will_stand_in_the_file() -> None:
    hostile = {"volume": {"claimName": "data", "path": "x\ny: !function b.f"}}
    assert benchmark({"a.yaml": "x: ${DATA}"}, data=hostile).spec.has_code


@pytest.mark.parametrize(
    ("included", "told"),
    [
        ("${DATA}/evil.yaml", "/volumes/data/evil.yaml"),
        ("/etc/evil.yaml", "/etc/evil.yaml"),
        ("../other/evil.yaml", "../other/evil.yaml"),
        ("[part, missing.yaml]", "missing.yaml"),
    ],
)
def test_an_include_from_elsewhere_is_refused(included: str, told: str) -> None:
    files = {"a.yaml": f"task: a\ninclude: {included}", "part": "x: 1"}
    with pytest.raises(Refused) as refused:
        benchmark(files, data={"volume": {"claimName": "data"}})
    (fault,) = refused.value.faults
    assert fault.where == "spec"
    assert f"files.a.yaml: include names {told!r}".replace("data/evil", "data//evil") in fault.what
    assert "name one of: a.yaml, part" in fault.what


def test_an_include_deeper_in_is_refused_too() -> None:
    with pytest.raises(Refused, match="include names 'evil'"):
        benchmark({"a.yaml": "group: a\ntask: [{task: b, include: evil}]"})


def test_names_stand_in_tasks_groups_and_tags_and_in_what_they_include() -> None:
    found = inspect(
        {
            "a.yaml": "task: a\ntag: [t, u]\ngroup: old",
            "b.yaml": "include: [first, second]",
            "first": "task: b",
            "second": "task: hidden",
            "g.yaml": "group: g\ntask: [a, {task: far}, {group: h, task: [x]}]",
            "rest.yaml": "unrelated: 1",
        }
    )
    assert sorted(found.defined) == ["a", "b", "g", "old", "t", "u"]
    assert found.defined["b"] == "b.yaml"
    assert found.foreign == {"far": "g.yaml", "x": "g.yaml"}


def test_files_that_include_each_other_end() -> None:
    assert inspect({"a.yaml": "include: b.yaml\ntask: a", "b.yaml": "include: a.yaml"}).defined


def faults(plan_run: Plan, *customs: Benchmark) -> tuple[Fault, ...]:
    wanted = [{"benchmarkRef": {"name": custom.metadata.name}} for custom in customs]
    with pytest.raises(Refused) as refused:
        plan_run(customs=customs, benchmarks=wanted, security={"allowCodeExecution": True})
    return refused.value.faults


def test_a_task_that_no_file_defines_is_told_with_those_near(plan_run: Plan) -> None:
    custom = benchmark({"x.yaml": "task: shapes_easy"}, tasks=["shapes_esy"])
    (fault,) = faults(plan_run, custom)
    assert fault.where == "Benchmark/own spec.tasks"
    assert fault.what == "no file defines 'shapes_esy'; did you mean shapes_easy?"
    assert fault.remedy == "The files define: shapes_easy"


def test_a_name_that_two_benchmarks_define_is_told(plan_run: Plan) -> None:
    one = benchmark({"a.yaml": "task: a", "same.yaml": "task: same"}, "one")
    two = benchmark({"b.yaml": "task: b", "other.yaml": "task: same"}, "two", tasks=["b"])
    (fault,) = faults(plan_run, one, two)
    assert fault.where == "Benchmark/two spec.files.other.yaml"
    assert fault.what == "Benchmark one defines 'same' too"


@pytest.mark.parametrize("name", ["mme", "docvqa", "ocr"])
def test_a_task_of_one_s_own_may_not_hide_behind_lmms_eval_s_name(
    plan_run: Plan, name: str
) -> None:
    (fault,) = faults(plan_run, benchmark({"a.yaml": "task: a", "b.yaml": f"task: {name}"}))
    assert fault.where == "Benchmark/own spec.files.b.yaml"
    assert f"has a task, group or tag {name!r} of its own" in fault.what


def test_what_a_group_takes_in_has_to_be_known(plan_run: Plan) -> None:
    (fault,) = faults(plan_run, benchmark({"a.yaml": "group: a\ntask: [mne]"}))
    assert fault.where == "Benchmark/own spec.files.a.yaml"
    assert fault.what == "its group takes in 'mne', which nothing defines; did you mean mme?"


def test_a_file_that_is_no_yaml_is_told(plan_run: Plan) -> None:
    (fault,) = faults(plan_run, benchmark({"a.yaml": "a: b: c"}))
    assert fault.where == "Benchmark/own spec.files.a.yaml"
    assert "mapping values are not allowed here" in fault.what


def test_aliases_do_not_make_reading_slow() -> None:
    lines = ["a: &a {k: 1}"] + [
        f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert "100,000" in inspect({"a.yaml": "\n".join(lines)}).unreadable["a.yaml"]
    assert yaml.compose("\n".join(lines)) is not None


def test_files_that_include_each_other_in_countless_ways_are_read_all_the_same() -> None:
    names = [f"f{number}.yaml" for number in range(60)]
    texts = {
        name: f"tag: t{number}\ninclude: [{', '.join(names[number + 1 :])}]"
        for number, name in enumerate(names)
    }
    found = inspect({**texts, "f0.yaml": f"task: a\n{texts['f0.yaml']}"})
    assert found.defined == {"a": "f0.yaml", "t0": "f0.yaml"}


def test_of_included_files_the_first_one_that_says_it_names_the_task() -> None:
    files = {
        "a.yaml": "include: [b, c]",
        "b": "include: c\ntag: of-b",
        "c": "task: of-c\ntag: of-c-too",
    }
    assert set(inspect(files).defined) == {"of-c", "of-b"}


@pytest.mark.parametrize(
    "text",
    ["!x {task: a}", "!!set {task, a}", "x: !!bool maybe", "x: !!timestamp y"],
)
def test_a_file_whose_tags_make_no_sense_is_unreadable(text: str) -> None:
    assert inspect({"a.yaml": text}).unreadable


def test_more_yaml_than_a_benchmark_can_need_is_not_parsed() -> None:
    large = "task: a\nx: [" + "a, " * 60_000 + "]"
    found = inspect({"a.yaml": large, "b.yaml": large, "data.json": "x" * 800_000})
    assert list(found.unreadable) == ["a.yaml"]
    assert set(found.defined) == {"a"}


@pytest.mark.parametrize("text", ["x: " + "[" * 12_000 + "]" * 12_000, "x: " + "{a: " * 12_000])
def test_deep_nesting_is_not_read_on(text: str) -> None:
    assert inspect({"a.yaml": text}).unreadable == {"a.yaml": "it is nested deeper than 100 levels"}


def test_placeholders_are_not_there_to_fill_the_memory() -> None:
    with pytest.raises(Refused) as refused:
        benchmark({"a.yaml": "task: a", "data.txt": "${DATA}" * 1001})
    assert "1001 times" in str(refused.value)


def test_of_thousands_of_names_that_nothing_defines_some_are_told(plan_run: Plan) -> None:
    names = ", ".join(f"nobody_defines_{number}" for number in range(8_000))
    found = faults(plan_run, benchmark({"a.yaml": f"group: a\ntask: [{names}]"}))
    assert len(found) == 100
    assert [("near" in fault.what) for fault in found].count(True) == 5


def test_of_a_hundred_tasks_that_no_file_defines_the_first_few_come_with_a_hint(
    plan_run: Plan,
) -> None:
    wanted = [f"b{number}" for number in range(100)]
    found = faults(plan_run, benchmark({"a.yaml": "task: a"}, tasks=wanted))
    assert len(found) == 100
    assert [("near" in fault.what) for fault in found].count(True) == 5
