"""Going on with an attempt whose answers are its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalrun_api import reasons
from evalrun_api.digests import canonical_json
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.plan import RunPlan, StorePlan
from evalrun_cli.destination import StoreChoice
from evalrun_cli.resumption import needs_uid
from evalrun_cli.running import prepare_run
from evalrun_runner.local import Store, layout

pytestmark = pytest.mark.contract
Command = Callable[..., RunPlan]


@pytest.fixture
def command(example: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The plan of `evalrun run` in the example's folder, before it starts."""
    monkeypatch.chdir(example)

    def plan(fresh: bool = False, limit: int | None = None, resume: str | None = None) -> RunPlan:
        names = ["run.yaml", "benchmark.yaml"]
        return prepare_run(names, None, [], StoreChoice(), fresh, limit, resume).plan

    return plan


@pytest.fixture
def started(command: Command, store: Store) -> Callable[..., RunPlan]:
    """An attempt that wrote its plan and did not end."""

    def start(uid: str, **changes: Any) -> RunPlan:
        plan = command(fresh=True)
        run = plan.run.model_copy(update={"uid": uid})
        elsewhere = StorePlan(uri="s3://where-it-was-then")
        plan = plan.model_copy(update={"run": run, "store": elsewhere, **changes})
        store.put(layout.plan(run), canonical_json(plan.document()))
        return plan

    return start


def refused(command: Command, **options: Any) -> Fault:
    with pytest.raises(Refused) as error:
        command(**options)
    (fault,) = error.value.faults
    assert fault.where == "--resume"
    return fault


@pytest.mark.parametrize("uid", ["abc-1", "abc", "a"])
def test_an_attempt_goes_on_under_its_uid_and_with_its_own_answers(
    command: Command, started: Callable[..., RunPlan], uid: str
) -> None:
    started("abc-1")
    plan = command(resume=uid)
    assert plan.run.uid == "abc-1"
    assert plan.reuse_answers == "Never"
    assert plan.store == command().store


def test_a_whole_uid_is_meant_even_where_it_begins_another(
    command: Command, started: Callable[..., RunPlan]
) -> None:
    started("abc")
    started("abc-1")
    assert command(resume="abc").run.uid == "abc"


def test_an_attempt_that_reuses_answers_goes_on_so(
    command: Command, started: Callable[..., RunPlan]
) -> None:
    started("abc", reuse_answers="Auto")
    assert command(resume="abc").reuse_answers == "Auto"


def test_without_such_an_attempt_those_that_there_are_are_told(
    command: Command, started: Callable[..., RunPlan]
) -> None:
    assert "no attempts of shapes-run" in refused(command, resume="x").what
    started("abc-1")
    fault = refused(command, resume="x")
    assert "have a uid that begins with 'x'" in fault.what
    assert fault.remedy == "Unfinished ones: abc-1"


def test_a_beginning_of_several_uids_is_refused(
    command: Command, started: Callable[..., RunPlan]
) -> None:
    started("abc-1")
    started("abc-2")
    fault = refused(command, resume="abc")
    assert fault.what.startswith("2 attempts")
    assert fault.remedy == "Unfinished ones: abc-1, abc-2"


def test_a_finished_attempt_is_refused(
    command: Command, started: Callable[..., RunPlan], finish: Callable[..., Any]
) -> None:
    started("abc-1")
    finish("abc-1")
    fault = refused(command, resume="abc")
    assert fault.what == "abc-1 has finished"
    assert fault.remedy == "See its scores with: evalrun results shapes-run abc-1"


def test_another_plan_is_refused_with_what_differs(
    command: Command, started: Callable[..., RunPlan]
) -> None:
    started("abc-1", batch_size=7)
    fault = refused(command, resume="abc", limit=3)
    assert fault.what == "abc-1 was started with another plan: batchSize, groups differ"


def test_going_on_and_starting_afresh_are_not_asked_for_together(command: Command) -> None:
    assert "--fresh" in refused(command, resume="abc", fresh=True).what


def test_an_attempt_is_named_only_where_its_stored_answers_are_its_own(
    command: Command, started: Callable[..., RunPlan], store: Store
) -> None:
    assert needs_uid(store, started("abc"))
    assert not needs_uid(store, started("abc", reuse_answers="Auto"))
    never_stored = command(fresh=True)
    assert not needs_uid(store, never_stored)


def test_an_attempt_in_a_store_that_fails_now_is_named(
    started: Callable[..., RunPlan], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = started("abc")

    def fail(key: str) -> bytes:
        raise EvalrunError(reasons.STORE_UNAVAILABLE)

    monkeypatch.setattr(store, "get", fail)
    assert needs_uid(store, plan)
