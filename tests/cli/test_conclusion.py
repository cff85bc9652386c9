"""How the end of a process is judged."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.plan import RunIdentity, RunPlan
from evalrun_api.progress import Progress
from evalrun_api.reading import read
from evalrun_api.reasons import REASONS, ExitCode
from evalrun_api.termination import TerminationMessage
from evalrun_cli.conclusion import Conclusion, conclude, document, go_on, tail
from evalrun_cli.exits import Exit, exit_of
from evalrun_cli.running import stored_line
from evalrun_cli.supervision import Ended

pytestmark = pytest.mark.decisions
RUN = RunIdentity(namespace="default", name="trial", uid="1")
PLAN = read(
    RunPlan,
    {
        "run": RUN.document(),
        "model": {
            "backend": "llava_hf",
            "source": {"volume": {"claimName": "models"}},
            "sourceArg": "pretrained",
            "args": {},
        },
        "batchSize": 1,
        "accelerators": 0,
        "seed": {},
        "groups": [{"name": "g0", "tasks": ["mme"]}],
        "store": {"uri": "file:///store"},
    },
)


def judged(
    code: int, left: dict[str, Any] | None = None, signals: tuple[int, ...] = (), done: int = 0
) -> Conclusion:
    outcome = (
        TerminationMessage(run=RUN, step="answer", **{"reason": "Running", **left})
        if left
        else None
    )
    seen = (
        Progress(step="answer", activity="x", requests_done=done, requests_total=900, computed=done)
        if done
        else None
    )
    return conclude(PLAN, Ended(code, outcome, seen, signals, 5.0, Path("/log")))


def test_a_clean_end_is_a_success() -> None:
    found = judged(0, {"outcome": "Succeeded", "reason": "Completed"})
    assert (found.outcome, found.exit_code) == ("Succeeded", Exit.DONE)


def test_a_failure_has_the_reason_and_message_that_the_runner_left() -> None:
    left = {"outcome": "Failed", "reason": "ModelNotFound", "message": "no weights. Check"}
    found = judged(ExitCode.INVALID, left)
    assert (found.reason.name, found.message) == ("ModelNotFound", "no weights. Check")
    assert found.exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("InvalidSpec", Exit.REFUSED),
        ("DatasetUnavailable", Exit.REFUSED),
        ("CredentialsRefused", Exit.STORE),
        ("StoreUnavailable", Exit.STORE),
        ("CorruptJournal", Exit.STORE),
        ("OutOfMemory", Exit.FAILED),
        ("InvalidAnswers", Exit.FAILED),
        ("InternalError", Exit.FAILED),
    ],
)
def test_the_exit_code_says_who_has_to_act(reason: str, code: int) -> None:
    assert exit_of(REASONS[reason]) == code


def test_every_reason_has_an_exit_code_of_the_command() -> None:
    assert all(exit_of(reason) in Exit for reason in REASONS.values())


def test_ctrl_c_counts_the_stored_answers_and_is_no_failure() -> None:
    left = {"outcome": "Stopped", "reason": "Stopped", "reused": 100, "computed": 412}
    found = judged(ExitCode.STOPPED, left, (signal.SIGINT,), done=500)
    assert (found.outcome, found.exit_code) == ("Stopped", 130)
    line = stored_line(found, "file:///store")
    assert line == "512 of 900 answers are stored in file:///store"


def test_sigterm_is_told_from_ctrl_c() -> None:
    assert judged(ExitCode.STOPPED, None, (signal.SIGTERM,)).exit_code == 143


def test_a_stop_before_the_runner_listens_is_a_stop_too() -> None:
    found = judged(-signal.SIGTERM, None, (signal.SIGINT,))
    assert (found.outcome, found.exit_code) == ("Stopped", 130)
    assert stored_line(found, "file:///store") == "no answer was computed yet"


def test_a_second_ctrl_c_kills_and_does_not_promise_an_exact_count() -> None:
    left = {"outcome": "Running", "reused": 0, "computed": 0}
    found = judged(-signal.SIGKILL, left, (signal.SIGINT, signal.SIGINT), done=300)
    assert (found.outcome, found.exit_code) == ("Killed", 130)
    assert stored_line(found, "s").startswith("about 300 of 900 answers")


def test_a_store_that_fails_while_stopping_is_told() -> None:
    left = {"outcome": "Failed", "reason": "StoreUnavailable", "message": "gone. Check it"}
    found = judged(ExitCode.STORE, left, (signal.SIGINT,))
    assert (found.reason.name, found.exit_code) == ("StoreUnavailable", Exit.STORE)


def test_answers_that_could_not_be_stored_are_not_called_stored() -> None:
    left = {"outcome": "Failed", "reason": "StoreUnavailable", "message": "m", "computed": 8}
    line = stored_line(judged(ExitCode.STORE, left), "s3://evals")
    assert line.startswith("8 answers are finished; what is not in s3://evals yet waits")


def test_a_runner_killed_by_the_system_ran_out_of_memory_most_likely() -> None:
    found = judged(-signal.SIGKILL, {"outcome": "Running"})
    assert found.reason.name == "OutOfMemory"
    assert "SIGKILL" in found.message
    assert found.reason.remedy in found.message


def test_a_runner_that_crashed_names_the_signal() -> None:
    assert "SIGSEGV" in judged(-signal.SIGSEGV, {"outcome": "Running"}).message


@pytest.mark.parametrize("left", [None, {"outcome": "Running"}, {"outcome": "Succeeded"}])
def test_no_exit_code_but_zero_is_a_success(left: dict[str, Any] | None) -> None:
    found = judged(1, left)
    assert (found.outcome, found.reason.name) == ("Failed", "InternalError")
    assert "exit code 1" in found.message


def test_a_reason_of_a_newer_runner_is_internal() -> None:
    found = judged(77, {"outcome": "Failed", "reason": "FluxLost", "message": "m"})
    assert (found.reason.name, found.message) == ("InternalError", "m")


def test_the_document_has_every_part_also_without_a_result() -> None:
    found = document(judged(1, None, done=3), {})
    assert set(found) >= {"run", "outcome", "reason", "message", "scores", "answers", "files"}
    assert found["answers"] == {"reused": 0, "computed": 3, "total": 900}
    assert found["files"] == {"log": "/log"}


@pytest.mark.parametrize(
    ("program", "arguments", "uid", "command"),
    [
        ("/venv/bin/evalrun", "run a.yaml", None, "evalrun run a.yaml"),
        ("kubectl-evalrun", "run a.yaml --fresh", "u", "kubectl evalrun run a.yaml --resume u"),
        ("evalrun", "run --fresh a.yaml --limit 5", "u", "evalrun run a.yaml --limit 5 --resume u"),
        ("evalrun", "run a.yaml", "u", "evalrun run a.yaml --resume u"),
        ("evalrun", "run --resume v a.yaml", "vu", "evalrun run a.yaml --resume vu"),
        ("evalrun", "run a.yaml --resume=v", "vu", "evalrun run a.yaml --resume vu"),
        ("evalrun", "run a.yaml --fresh", None, "evalrun run a.yaml --fresh"),
    ],
)
def test_the_command_to_go_on_is_the_same_and_names_an_attempt_whose_answers_are_its_own(
    program: str, arguments: str, uid: str | None, command: str
) -> None:
    assert go_on(program, arguments.split(), uid) == command


def test_the_command_to_go_on_can_be_pasted_into_a_shell() -> None:
    assert go_on("evalrun", ["run", "a b.yaml"], None) == "evalrun run 'a b.yaml'"


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {number}" for number in range(5000)))
    assert tail(log, 2) == "line 4998\nline 4999"
    assert tail(tmp_path / "none") == ""
