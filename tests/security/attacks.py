"""The attacks of docs/security/threat-model.md: how a test says which one it tries."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

Gets = Callable[[object], None]
"""Tells what an attack gets."""

AUTHOR: Final = "hostile run author"
POD: Final = "hostile pod"
OBJECT: Final = "hostile S3 object"
BENCHMARK: Final = "hostile benchmark"
ATTACKERS: Final = {
    "AUTHOR": AUTHOR,
    "POD": POD,
    "OBJECT": OBJECT,
    "BENCHMARK": BENCHMARK,
}


class Attack(NamedTuple):
    """An attack: the test that tries it tells what it gets with the fixture `gets`."""

    number: int
    attacker: str
    tries: str
    test: str = ""


def attack(number: int, attacker: str, tries: str) -> pytest.MarkDecorator:
    """Marks the test of an attack."""
    return pytest.mark.attack(number, attacker, tries)


def written() -> Iterator[Attack]:
    """All attacks of this folder's tests, read from their source."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "attack":
                    number, attacker, tries = call.args
                    assert isinstance(number, ast.Constant)
                    assert isinstance(attacker, ast.Name)
                    yield Attack(
                        number.value,
                        ATTACKERS[attacker.id],
                        ast.literal_eval(tries),
                        f"{file.name}::{node.name}",
                    )
