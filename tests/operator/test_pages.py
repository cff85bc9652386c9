"""A long list is read page by page, and a page that fails costs no other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from evalrun_operator import cluster as clusters
from evalrun_operator.api_errors import ApiError, Unavailable
from evalrun_operator.cluster import Cluster
from evalrun_operator.resources import PODS

pytestmark = pytest.mark.decisions

Answer = dict[str, Any] | ApiError


def page(name: str, token: str = "") -> Answer:
    return {
        "metadata": {"resourceVersion": "7", "continue": token},
        "items": [{"metadata": {"name": name}}],
    }


class Listing(Cluster):
    """A cluster whose API server has these answers to lists; what it was asked for."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def _list(self, resource: Any, namespace: str, query: dict[str, str]) -> bytes:
        self.asked.append(query["continue"])
        answer = self.answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return json.dumps(answer).encode()

    async def names(self) -> list[str]:
        pages = [items async for items, _ in self.pages(PODS)]
        return [item["metadata"]["name"] for items in pages for item in items]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "PAGE_PAUSES", (0.0, 0.0))


def test_a_page_that_fails_is_asked_for_again_and_those_before_it_are_not() -> None:
    broken = [Unavailable("list", 500), Unavailable("list", 429, retry_after=0.0)]
    cluster = Listing(page("a", "1"), page("b", "2"), *broken, page("c"))
    assert asyncio.run(cluster.names()) == ["a", "b", "c"]
    assert cluster.asked == ["", "1", "2", "2", "2"]


def test_a_page_that_fails_for_good_ends_the_reading() -> None:
    cluster = Listing(page("a", "1"), *[Unavailable("list", 503)] * 3)
    with pytest.raises(Unavailable):
        asyncio.run(cluster.names())


def test_a_list_that_expired_is_not_asked_for_again() -> None:
    cluster = Listing(page("a", "1"), ApiError("list", 410, "expired"))
    with pytest.raises(ApiError):
        asyncio.run(cluster.names())
    assert cluster.asked == ["", "1"]
