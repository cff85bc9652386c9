"""The model that lmms-eval sees in every step: it hands each request list to us.

lmms-eval's evaluator takes a model object, builds all requests in its own order, asks for each
type's answers once, calls `clean()`, and scores. So one small class serves all three steps: what
answers the lists, and what happens at `clean()`, differ by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmms_eval.api.model import lmms

Respond = Callable[[str, list[Any]], list[Any]]


class AllAsked(Exception):  # noqa: N818  # it is an outcome, not an error
    """Every request list has been asked for; what follows (scoring) is not this step's work."""


class JournaledModel(lmms):  # type: ignore[misc]  # lmms-eval ships no types
    """A model without weights.

    respond: takes a request type and lmms-eval's instances, returns an output for each, in order.
    finish: called when all lists have been asked for, before scoring. It may raise `AllAsked`.
    """

    def __init__(self, is_simple: bool, respond: Respond, finish: Callable[[], None]) -> None:
        super().__init__()
        self.is_simple = is_simple
        self._respond = respond
        self._finish = finish

    def generate_until(self, requests: list[Any]) -> list[Any]:
        """See `lmms`."""
        return self._respond("generate_until", requests)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """See `lmms`."""
        return self._respond("loglikelihood", requests)

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        """See `lmms`."""
        return self._respond("generate_until_multi_round", requests)

    def generate_visual_cot(self, requests: list[Any]) -> list[Any]:
        """See `lmms`."""
        return self._respond("generate_visual_cot", requests)

    def clean(self) -> None:
        """Called between answering and scoring. There are no weights here to free."""
        self._finish()
