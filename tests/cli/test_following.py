"""Following a run over whatever an API server does meanwhile."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from api_stub import Answer, Api, Asked, event, listed, unfit
from cli_samples import condition, run

from evalrun_cli.following import pause

pytestmark = pytest.mark.contract

AT_WORK = run("shapes", condition("Reconciling"))
COMPLETE = run("shapes", condition("Complete", reason="Completed"))


def test_a_run_that_has_ended_is_no_timeout_however_slow_the_server(api: Api, invoke: Any) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/shapes"):
            return Answer(COMPLETE)
        time.sleep(0.8)
        return listed(COMPLETE)

    api.answer = answer
    for command in ("wait", "watch"):
        assert invoke(command, "shapes", "--timeout", "0").exit_code == 0


def test_a_watch_that_is_cut_in_a_line_goes_on(api: Api, invoke: Any) -> None:
    runs = iter([AT_WORK, COMPLETE])

    def answer(asked: Asked) -> Answer:
        if asked.watches:
            return Answer(event("MODIFIED", AT_WORK)[:-20])
        return Answer(AT_WORK) if asked.path.endswith("/shapes") else listed(next(runs))

    api.answer = answer
    done = invoke("wait", "shapes", "--timeout", "30")
    assert (done.exit_code, done.stdout) == (0, "shapes is complete\n")


@pytest.mark.parametrize(
    "watched",
    [
        Answer(event("ERROR", {"kind": "Status", "code": 410})),
        Answer(b""),
        Answer(b'{"type": "MODIFIED"}\n'),
        unfit(410),
    ],
    ids=["error", "early-end", "no-object", "expired"],
)
def test_a_watch_that_ends_at_once_is_not_begun_again_at_once(
    api: Api, invoke: Any, watched: Answer
) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.watches:
            return watched
        return Answer(AT_WORK) if asked.path.endswith("/shapes") else listed(AT_WORK)

    api.answer = answer
    assert invoke("wait", "shapes", "--timeout", "2").exit_code == 124
    assert 2 <= sum(asked.watches for asked in api.asked) <= 3


@pytest.mark.decisions
def test_pauses_grow_from_one_second_to_the_longest() -> None:
    assert [pause(times, 20) for times in (0, 1, 2, 3, 6, 5000)] == [0, 1, 2, 4, 20, 20]


def test_markup_in_what_a_server_says_is_text(api: Api, invoke: Any) -> None:
    faults = itertools.chain([Answer(b"[/x]", 502)], itertools.repeat(listed(COMPLETE)))
    api.answer = lambda asked: Answer(AT_WORK) if asked.path.endswith("/shapes") else next(faults)
    done = invoke("watch", "shapes")
    assert done.exit_code == 0
    assert "HTTP 502: [/x]; trying again" in " ".join(done.stderr.split())
