"""When a wait is over, and with which exit code."""

from __future__ import annotations

from typing import Any

import pytest
from cli_samples import condition, run

from evalrun_cli.exits import Exit
from evalrun_cli.verdicts import Goal, verdict

pytestmark = pytest.mark.decisions

COMPLETE = run("r", condition("Complete", reason="Completed"))
FAILED = run("r", condition("Failed", reason="OutOfMemory"))
SUSPENDED = run("r", condition("Suspended", reason="Suspended"))
AT_WORK = run("r", condition("Reconciling"), condition("Suspended", "False"))
GATE = run("r", condition("Complete"), condition("Passed", "False", "Failed"))


@pytest.mark.parametrize(
    ("document", "goal", "code"),
    [
        (COMPLETE, Goal.FINISHED, Exit.DONE),
        (COMPLETE, Goal.COMPLETE, Exit.DONE),
        (COMPLETE, Goal.FAILED, Exit.FAILED),
        (COMPLETE, Goal.SUSPENDED, Exit.FAILED),
        (FAILED, Goal.FINISHED, Exit.FAILED),
        (FAILED, Goal.COMPLETE, Exit.FAILED),
        (FAILED, Goal.FAILED, Exit.DONE),
        (FAILED, Goal.SUSPENDED, Exit.FAILED),
        (SUSPENDED, Goal.SUSPENDED, Exit.DONE),
        (SUSPENDED, Goal.FINISHED, None),
        (AT_WORK, Goal.FINISHED, None),
        (AT_WORK, Goal.SUSPENDED, None),
        (run(), Goal.FINISHED, None),
        (GATE, Goal.FINISHED, Exit.FAILED),
        (GATE, Goal.COMPLETE, Exit.DONE),
        (GATE, Goal.FAILED, Exit.FAILED),
    ],
)
def test_a_wait_ends_when_its_goal_has_come_or_can_no_longer_come(
    document: dict[str, Any], goal: Goal, code: Exit | None
) -> None:
    found = verdict(document, goal)
    assert (found.exit_code if found else None) == code


def test_a_failure_is_told_with_its_reason() -> None:
    found = verdict(FAILED, Goal.FINISHED)
    assert found is not None
    assert found.text == "failed (OutOfMemory)"


def test_a_suspension_that_the_operator_has_not_seen_ended_is_no_goal() -> None:
    document = {**SUSPENDED, "metadata": {**SUSPENDED["metadata"], "generation": 2}}
    assert verdict(document, Goal.SUSPENDED) is None
