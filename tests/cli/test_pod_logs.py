"""Which pods are read, and how their lines look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evalrun_cli import pod_logs
from evalrun_cli.pod_logs import rendered, split_stamp, wanted

pytestmark = pytest.mark.decisions


def pod(
    name: str, step: str, index: int | None = None, created: int = 0, **state: Any
) -> dict[str, Any]:
    labels = {"lmms-eval.io/run": "shapes", "lmms-eval.io/step": step}
    if index is not None:
        labels["batch.kubernetes.io/job-completion-index"] = str(index)
    return {
        "metadata": {
            "name": name,
            "labels": labels,
            "creationTimestamp": f"2026-03-01T12:00:{created:02}Z",
        },
        "status": {"containerStatuses": [{"name": "runner", "state": state or {"running": {}}}]},
    }


PODS = [
    pod("score", "score"),
    pod("answer-1", "answer", 1),
    pod("answer-0-again", "answer", 0, created=9),
    pod("answer-0", "answer", 0, terminated={"exitCode": 1}),
    pod("prepare", "prepare", terminated={"exitCode": 0}),
]


def names(step: str | None = None, shard: int | None = None, every: bool = False) -> list[str]:
    return [entry.pod for entry in wanted(PODS, step, shard, every=every)]


def test_pods_are_read_in_the_order_of_the_steps_the_latest_of_each_shard() -> None:
    assert names() == ["prepare", "answer-0-again", "answer-1", "score"]


def test_attempts_that_were_replaced_are_read_when_asked_for() -> None:
    assert names(every=True) == ["prepare", "answer-0", "answer-0-again", "answer-1", "score"]


def test_a_step_and_a_shard_can_be_chosen() -> None:
    assert names(step="answer") == ["answer-0-again", "answer-1"]
    assert names(step="answer", shard=1) == ["answer-1"]


def test_a_pod_that_does_all_steps_is_part_of_each() -> None:
    found = wanted([pod("all", "all")], "score", 0, every=False)
    assert [entry.label for entry in found] == ["all"]


def test_an_index_may_be_an_annotation() -> None:
    only = pod("old", "answer")
    only["metadata"]["annotations"] = {"batch.kubernetes.io/job-completion-index": "7"}
    assert pod_logs.attempt(only).label == "answer/7"


def test_a_pod_that_has_not_begun_says_why() -> None:
    waits = pod("p", "answer", waiting={"reason": "ImagePullBackOff", "message": "no \x1b[1mimage"})
    found = pod_logs.attempt(waits)
    assert (found.begun, found.ended, found.waiting) == (False, False, "ImagePullBackOff: no image")
    unscheduled = {
        "metadata": {"name": "q"},
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
            ]
        },
    }
    assert pod_logs.attempt(unscheduled).waiting == "0/3 nodes are available"


@pytest.mark.parametrize(
    ("step", "shard", "pods", "told"),
    [
        (None, None, [], "the run has no pods"),
        (None, 9, PODS, "Its shards: 0-1"),
        ("score", None, PODS[4:], "Steps that have pods: prepare"),
    ],
)
def test_when_there_is_nothing_to_read_it_says_what_there_is(
    step: str | None, shard: int | None, pods: list[dict[str, Any]], told: str
) -> None:
    assert told in str(pod_logs.nothing_to_read("shapes", pods, step, shard, finished=False))


LINE = {
    "time": "2026-03-01T12:34:56.789Z",
    "level": "warning",
    "logger": "evalrun_runner.answering",
    "message": "a chunk is slow",
    "run": "shapes",
    "step": "answer",
    "chunk": 12,
    "why": "two words",
    "flag": True,
}


def test_a_line_of_the_runner_is_time_level_message_and_fields() -> None:
    text = rendered(json.dumps(LINE)).plain
    assert text == '12:34:56 warning a chunk is slow  chunk=12  why="two words"  flag=true'


def test_where_several_pods_write_each_line_says_which() -> None:
    assert rendered(json.dumps(LINE), "answer/3").plain.startswith("answer/3   12:34:56 warning")


def test_a_foreign_logger_is_named_and_a_traceback_stands_below() -> None:
    entry = {"message": "oh", "logger": "lmms_eval.models", "traceback": "Traceback\n  oh\x07"}
    assert rendered(json.dumps(entry)).plain.splitlines() == [
        " info    oh  [lmms_eval.models]",
        "Traceback",
        "  oh",
    ]


@pytest.mark.parametrize("line", ["not json", "[1, 2]", '"text"', '{"no": "message"}', ""])
def test_a_line_of_another_form_stays_as_it_is(line: str) -> None:
    assert rendered(line).plain == line


def test_a_line_cannot_command_the_terminal() -> None:
    assert rendered("\x1b[2J[bold]x[/bold]").plain == "[bold]x[/bold]"
    assert "\x1b" not in rendered(json.dumps({"message": "\x1b]0;t\x07m", "\x1b[1m": "\x1b"})).plain


def test_the_kubelets_time_is_taken_off() -> None:
    assert split_stamp(b"2026-03-01T12:00:00.123456789Z a  line\r") == (
        "2026-03-01T12:00:00.123456789Z",
        "a  line",
    )
