"""The threat model's page and the attacks of this folder say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from attacks import ATTACKERS, Attack, written
from tenancy import policy

pytestmark = pytest.mark.contract

PAGE = (Path(__file__).parents[2] / "docs" / "security" / "threat-model.md").read_text()


def told() -> list[Attack]:
    """The attacks of the page's tables."""
    found = []
    for attacker in ATTACKERS.values():
        _, _, section = PAGE.partition(f"### A {attacker}\n")
        assert section, f"the page has no section on a {attacker}"
        section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
        for row in re.findall(r"^\| (\d+) \|(.*)\|$", section, re.MULTILINE):
            tries, holds, test = (cell.strip() for cell in row[1].split(" | "))
            assert holds
            plain = re.sub(r"\\(.)", r"\1", tries)
            found.append(Attack(int(row[0]), attacker, plain, test.strip("`")))
    return sorted(found)


def test_the_page_and_the_tests_agree() -> None:
    assert told() == sorted(written())


def test_the_attacks_are_numbered_without_gaps_and_there_are_enough() -> None:
    numbers = [one.number for one in sorted(written())]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 25
    assert {one.attacker for one in written()} == {*ATTACKERS.values()}


def test_the_bucket_policy_of_the_page_is_the_one_that_the_tests_set() -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    shown = json.loads(text)["Statement"]
    assert shown == policy()["Statement"][: len(shown)]
