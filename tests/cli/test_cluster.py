"""Requests to an API server, and what becomes of answers of the wrong form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from api_stub import Answer, Api, Asked, listed, unfit
from cli_samples import condition, run
from kubernetes.client import Configuration
from kubernetes.config import ConfigException

from evalrun_cli.cluster import PODS, RUNS, Cluster
from evalrun_cli.refusals import NO_ANSWER, ApiError

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("name", ["", ".", ".."])
@pytest.mark.parametrize(
    "ask",
    [
        lambda cluster, name: cluster.get(RUNS, "team", name),
        lambda cluster, name: cluster.get(RUNS, name, "shapes"),
        lambda cluster, name: cluster.merge(RUNS, "team", name, {}, "me"),
        lambda cluster, name: cluster.delete(RUNS, "team", name, "uid"),
        lambda cluster, name: cluster.log("team", name),
        lambda cluster, name: cluster.apply(
            RUNS, "team", {"metadata": {"name": name}}, force=False, dry_run=False
        ),
    ],
)
def test_without_a_name_nothing_is_asked(
    api: Api, ask: Callable[[Cluster, str], Any], name: str
) -> None:
    with pytest.raises(ValueError, match="is no name of an object"):
        ask(api.cluster, name)
    assert api.asked == []


def test_an_object_without_a_uid_is_not_deleted(api: Api) -> None:
    with pytest.raises(ValueError, match="shapes has no uid"):
        api.cluster.delete(RUNS, "team", "shapes", "")
    assert api.asked == []


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'"text"', b""])
def test_an_answer_that_is_no_object_is_none(api: Api, body: bytes) -> None:
    api.answer = lambda _: Answer(body)
    with pytest.raises(ApiError) as error:
        api.cluster.get(RUNS, "team", "shapes")
    assert error.value.code == NO_ANSWER


def test_credentials_that_cannot_be_renewed_are_not_quoted(api: Api) -> None:
    def renew(_: object) -> None:
        raise ConfigException("helper --token SECRET-TOKEN-123 failed")

    configuration = Configuration(host=api.address, api_key={"BearerToken": "t"})
    configuration.refresh_api_key_hook = renew
    cluster = Cluster(configuration, "prod", "team")
    with pytest.raises(ApiError, match="credentials cannot be renewed") as error:
        cluster.get(RUNS, "team", "shapes")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("rest", [b'{"type": "MODIF', b"[]\n"])
def test_a_watch_that_is_cut_in_a_line_may_be_tried_again(api: Api, rest: bytes) -> None:
    api.answer = lambda _: Answer(b'{"type": "ADDED"}\n' + rest)
    events = api.cluster.watch(RUNS, "team", "1")
    assert next(events) == {"type": "ADDED"}
    with pytest.raises(ApiError) as error:
        next(events)
    assert error.value.passes


def test_a_list_whose_pages_expired_is_begun_again(api: Api) -> None:
    pages = iter(
        [
            listed(run("old"), **{"continue": "a"}),
            unfit(410, "the continue token is too old"),
            listed(run("one"), **{"continue": "b"}),
            listed(run("two")),
        ]
    )
    api.answer = lambda _: next(pages)
    found, _ = api.cluster.list(RUNS, "team")
    assert [item["metadata"]["name"] for item in found] == ["one", "two"]
    assert [asked.query.get("continue") for asked in api.asked] == [None, "a", None, "b"]


def test_a_list_that_always_expires_is_given_up(api: Api) -> None:
    api.answer = lambda asked: (
        unfit(410) if "continue" in asked.query else listed(**{"continue": "a"})
    )
    with pytest.raises(ApiError):
        api.cluster.list(PODS, "team")


@pytest.mark.parametrize("command", ["cancel", "resume"])
def test_only_the_run_that_was_looked_at_is_suspended(api: Api, invoke: Any, command: str) -> None:
    found = run("shapes", condition("Reconciling"))
    found["spec"]["suspend"] = command == "resume"
    api.answer = lambda asked: Answer(found) if asked.method == "GET" else unfit(409, "other uid")
    done = invoke(command, "shapes")
    assert done.exit_code == 2
    assert "try again" in done.stderr
    assert api.asked[-1].body["metadata"] == {"uid": "uid-shapes"}


def test_a_command_that_is_suggested_names_the_runs_namespace(api: Api, invoke: Any) -> None:
    complete = run("shapes", condition("Complete"))
    complete["metadata"]["namespace"] = "other"
    api.answer = lambda _: Answer(complete)
    text = "apiVersion: lmms-eval.io/v1alpha1\nkind: EvaluationRun\n"
    text += "metadata: {name: shapes, namespace: other}\n"
    done = invoke("apply", "-", "--no-check", "--context", "prod", stdin=text)
    told = " ".join(done.stderr.split())
    assert "cancel shapes --delete --context prod -n other" in told
    assert "cancel shapes --delete -n team" in invoke("cancel", "shapes").stderr


def test_a_proxys_page_cannot_be_markup(api: Api, invoke: Any) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(b"[/x] [bold]bad[/bold]", 502)

    api.answer = answer
    assert "[/x] [bold]bad[/bold]" in invoke("list").stderr


def test_a_run_that_is_nested_as_deep_as_can_be_hides_no_other(api: Api, invoke: Any) -> None:
    hostile = run("hostile")
    hostile["spec"]["model"] = {"args": {"deep": "HERE"}}
    page = json.dumps({"items": [hostile, run("shapes")], "metadata": {"resourceVersion": "1"}})
    body = page.replace('"HERE"', "[" * 9_900 + "]" * 9_900).encode()
    api.answer = lambda _: Answer(body)
    before = sys.getrecursionlimit()
    try:
        done = invoke("list")
    finally:
        sys.setrecursionlimit(before)
    assert done.exit_code == 0
    assert "shapes" in done.stdout


def test_an_answer_that_is_deeper_still_is_none(api: Api) -> None:
    api.answer = lambda _: Answer(b"[" * 100_000)
    with pytest.raises(ApiError) as error:
        api.cluster.get(RUNS, "team", "shapes")
    assert error.value.code == NO_ANSWER


def test_what_was_applied_before_a_refusal_is_told_to_people_where_programs_get_no_document(
    api: Api, invoke: Any
) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.method == "GET" or asked.path.endswith("/second"):
            return unfit(404 if asked.method == "GET" else 403, "exceeded quota")
        return Answer(run("first"))

    api.answer = answer
    text = "".join(
        "---\napiVersion: lmms-eval.io/v1alpha1\nkind: EvaluationRun\n"
        f"metadata: {{name: {name}, namespace: team}}\n"
        for name in ("first", "second")
    )
    done = invoke("apply", "-", "--no-check", "-o", "json", stdin=text)
    assert done.exit_code == 3
    assert "evaluationrun.lmms-eval.io/first created" in done.stderr
    assert json.loads(done.stdout)["outcome"] in ("Failed", "Refused")
