"""Keys, fingerprints and chunks: what makes an answer findable again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalrun_runner.journal.request_list import chunks, combined, fingerprint, keyed

pytestmark = pytest.mark.decisions


@dataclass
class Instance:
    """The part of lmms-eval's Instance that counts here."""

    task_name: str
    doc_id: int
    idx: int = 0
    arguments: tuple[Any, ...] = ("prompt", {"max_new_tokens": 4})
    metadata: dict[str, Any] = field(default_factory=lambda: {"split": "test"})

    @property
    def args(self) -> tuple[Any, ...]:
        return self.arguments


def listed(*sizes: int) -> list[Instance]:
    """Tasks a, b, … with so many documents."""
    return [
        Instance("abcdefgh"[number], doc_id)
        for number, size in enumerate(sizes)
        for doc_id in range(size)
    ]


def test_repeats_of_one_request_are_told_apart_by_their_number() -> None:
    one, two = Instance("a", 0), Instance("a", 1)
    found = keyed("g0", "generate_until", [one, one, one, two, two, two])
    assert [request.key.repeat for request in found] == [0, 1, 2, 0, 1, 2]
    assert len({request.key for request in found}) == 6


def test_two_questions_under_one_idx_are_told_apart_by_their_ordinal() -> None:
    conditional = Instance("a", 0, 1, ("prompt", "answer"))
    unconditional = Instance("a", 0, 1, ("", "answer"))
    found = keyed("g0", "loglikelihood", [conditional, unconditional])
    assert [request.key.ordinal for request in found] == [0, 1]
    assert found[0].fingerprint != found[1].fingerprint


def test_the_fingerprint_depends_on_what_is_asked_and_not_on_objects_in_memory() -> None:
    asked = Instance("a", 0, 0, ("prompt", {"b": 1, "a": [2]}, partial(print, 1), "test"))
    again = Instance("a", 0, 0, ("prompt", {"a": [2], "b": 1}, lambda: None, "test"))
    assert fingerprint("generate_until", asked) == fingerprint("generate_until", again)


@pytest.mark.parametrize(
    "other",
    [
        Instance("a", 0, 0, ("another prompt", {"max_new_tokens": 4})),
        Instance("a", 0, 0, ("prompt", {"max_new_tokens": 5})),
        Instance("a", 0, 0, ("prompt", {"max_new_tokens": "4"})),
        Instance("a", 0, 0, ("prompt",)),
        Instance("a", 0, metadata={"split": "validation"}),
    ],
)
def test_another_prompt_argument_or_split_gives_another_fingerprint(other: Instance) -> None:
    assert fingerprint("generate_until", other) != fingerprint("generate_until", Instance("a", 0))
    assert fingerprint("loglikelihood", other) != fingerprint("generate_until", other)


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(1, 17))
def test_chunks_hold_every_request_once_in_order_and_never_two_tasks(
    sizes: list[int], size: int
) -> None:
    requests = keyed("g0", "generate_until", listed(*sizes))
    found = list(chunks(requests, size))
    assert [request for chunk in found for request in chunk.requests] == requests
    assert all(len({request.task for request in chunk.requests}) == 1 for chunk in found)
    assert all(len(chunk.requests) <= size for chunk in found)
    assert [chunk.number for chunk in found] == list(range(len(found)))


def test_the_combined_fingerprint_sees_order_and_content() -> None:
    requests = keyed("g0", "generate_until", listed(3))
    assert combined(requests) == combined(keyed("g7", "generate_until", listed(3)))
    assert combined(requests) != combined(requests[::-1])
    assert combined(requests) != combined(requests[:2])
