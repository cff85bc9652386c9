"""Reasons and exit codes: the contract with the Job's podFailurePolicy."""

from __future__ import annotations

import re

import pytest

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault, Refused, fail
from evalrun_api.reasons import PERMANENT, REASONS, ExitCode, Reason

pytestmark = pytest.mark.contract

EACH = pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: reason.name)
CONSTANTS = {name: value for name, value in vars(reasons).items() if isinstance(value, Reason)}


def test_each_reason_has_a_name_of_its_own() -> None:
    assert len(CONSTANTS) == len(REASONS) > 20
    assert set(CONSTANTS.values()) == set(REASONS.values())


@pytest.mark.parametrize("constant", CONSTANTS)
def test_a_reason_is_spelt_like_its_constant(constant: str) -> None:
    assert CONSTANTS[constant].name.lower() == constant.replace("_", "").lower()


@EACH
def test_a_reason_is_camel_case_and_explained(reason: Reason) -> None:
    assert re.fullmatch(r"([A-Z][a-z]+)+", reason.name)
    assert reason.meaning.endswith(".")
    assert reason.remedy.endswith(".")
    assert reason.meaning != reason.remedy


def test_no_two_reasons_mean_the_same() -> None:
    assert len({reason.meaning for reason in REASONS.values()}) == len(REASONS)


def test_exit_codes_are_the_ones_that_the_pod_failure_policy_names() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "INTERNAL": 1,
        "INVALID": 10,
        "DENIED": 11,
        "UNTRUSTED": 12,
        "CORRUPT": 13,
        "STORE": 20,
        "RESOURCES": 21,
        "STOPPED": 30,
    }
    assert {int(code) for code in PERMANENT} == {10, 11, 12, 13}


def test_only_completed_exits_with_zero_and_only_stopped_counts_for_nothing() -> None:
    by_code: dict[ExitCode, set[str]] = {}
    for reason in REASONS.values():
        by_code.setdefault(reason.exit_code, set()).add(reason.name)
    assert by_code[ExitCode.DONE] == {"Completed"}
    assert by_code[ExitCode.STOPPED] == {"Stopped"}
    assert set(by_code) == set(ExitCode)


def test_an_error_without_faults_speaks_by_its_reason() -> None:
    text = str(EvalrunError(reasons.DISK_FULL))
    assert reasons.DISK_FULL.meaning in text
    assert reasons.DISK_FULL.remedy in text


def test_an_error_says_where_what_and_the_remedy() -> None:
    error = fail(reasons.MODEL_NOT_FOUND, "spec.model.source", "the folder is empty.")
    assert str(error) == (
        "spec.model.source: the folder is empty. " + reasons.MODEL_NOT_FOUND.remedy
    )
    closer = fail(reasons.MODEL_NOT_FOUND, "spec.model.source", "it is empty", "Fill it")
    assert str(closer) == "spec.model.source: it is empty. Fill it"


def test_a_refusal_lists_every_fault_on_a_line() -> None:
    refused = Refused([Fault("a", "is wrong", "Mend it"), Fault("b", "too", "Mend it too")])
    assert str(refused).splitlines() == ["a: is wrong. Mend it", "b: too. Mend it too"]
    assert refused.reason.exit_code in PERMANENT
