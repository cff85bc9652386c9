"""Agentic requests: a conversation of model and tools, journaled round by round.

lmms-eval's own loop asks the model for one round, hands what it said to the task's tools, and asks
again. Here the same loop runs one conversation at a time: in the answer step with the journal and
the model behind it, in the score step with what was said. So a conversation that is cut short
goes on at the round where it was, and none is lost.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lmms_eval.evaluator import _run_generate_until_agentic

from evalrun_api import reasons
from evalrun_api.digests import feed
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import ErrorClass, Record
from evalrun_runner.failures import classify, describe
from evalrun_runner.harness.outputs import Episode, Round, decode, encode
from evalrun_runner.journal.reading import Outcome
from evalrun_runner.journal.request_list import FINGERPRINT_DIGITS, Request, fingerprint

ROUND_TYPE = "generate_until"
"""What lmms-eval asks the model for in each round."""


def round_fingerprint(instance: Any, said: Sequence[Any]) -> str:
    """What the model is asked in a round: the prompt, and all that it said before.

    What tools show the model (images, too) follows from the document and from what it said, so
    two histories never share a round even where their words are the same.
    """
    hasher = hashlib.sha256()
    feed(hasher, fingerprint(ROUND_TYPE, instance))
    feed(hasher, [encode(output)[0] for output in said])
    return hasher.hexdigest()[:FINGERPRINT_DIGITS]


class _Driver:
    """What lmms-eval's loop takes for the model."""

    def __init__(
        self, is_simple: bool, task_dict: Any, request: Request, ask: Callable[[Request], Any]
    ) -> None:
        self.is_simple = is_simple
        self.task_dict = task_dict
        self.rounds: list[Round] = []
        self._request = request
        self._ask = ask

    def generate_until(self, instances: list[Any]) -> list[Any]:
        """One round. It is numbered from 1: 0 is the whole conversation."""
        (instance,) = instances
        mark = round_fingerprint(instance, [entry.output for entry in self.rounds])
        key = self._request.key._replace(request_type=ROUND_TYPE, round=len(self.rounds) + 1)
        output = self._ask(Request(key, mark, instance))
        self.rounds.append(Round(mark, output))
        return [output]


def play(
    request: Request, is_simple: bool, task_dict: Any, ask: Callable[[Request], Any]
) -> Episode:
    """Hold one conversation. ask: the model's output to a round's request.

    Raises `EvalrunError` when the task's tools fail.
    """
    driver = _Driver(is_simple, task_dict, request, ask)
    try:
        # "basic" whatever the plan says: the journal does not depend on how results are shown
        (text,) = _run_generate_until_agentic(driver, [request.instance], "basic")
    except EvalrunError:
        raise
    except Exception as error:  # tools are code of the task, which raises anything
        where = f"benchmark {request.task}, document {request.key.doc_id}"
        what = f"its tools fail in round {len(driver.rounds)}: {describe(error)}"
        raise fail(classify(error, reasons.BENCHMARK_UNUSABLE), where, what) from error
    return Episode(tuple(driver.rounds), str(text))


@dataclass
class Conversation:
    """One agentic request in the answer step.

    find: the journal's answer to a round, if it has a final one. ask: has the model answer one,
    journals that, and returns it.
    """

    request: Request
    find: Callable[[Request], Record | None]
    ask: Callable[[Request], Record]

    def hold(self, is_simple: bool, task_dict: Any, earlier: Outcome) -> Record:
        """The record of the conversation. earlier: how it ended before."""
        begun = time.monotonic()
        found: list[Record] = []

        def answer(asked: Request) -> Any:
            found.append(self.find(asked) or self.ask(asked))
            return decode(found[-1].response, found[-1].tokens)

        episode = play(self.request, is_simple, task_dict, answer)
        error = failure_of_rounds([each.error for each in found])
        response, _ = encode(episode)
        return Record(
            **self.request.key._asdict(),
            fingerprint=self.request.fingerprint,
            response=response,
            error=error,
            said=next((each.said for each in found if each.said), None) if error else None,
            device=next((each.device for each in reversed(found) if each.device), None),
            attempts=1 + (earlier.attempts if error is not None and earlier.error == error else 0),
            seconds=round(time.monotonic() - begun, 6),
        )


def failure_of_rounds(failures: Sequence[ErrorClass | None]) -> ErrorClass | None:
    """How a conversation fails to be an answer, by how its rounds did.

    A model may say nothing once; one that never said anything has not answered.
    """
    for failure in failures:
        if failure is not None and failure != "Empty":
            return failure
    return "Empty" if failures and all(failures) else None


class Replay:
    """The rounds of many conversations, given back in the order in which lmms-eval asks."""

    def __init__(self, episodes: Sequence[tuple[Any, Episode]], begin: Callable[[], None]) -> None:
        """episodes: lmms-eval's instance and what was said. begin: called as each one begins."""
        self._waiting = list(reversed(episodes))
        self._begin = begin
        self._said: list[Any] = []
        self._rounds: list[Round] = []
        self._where = "agentic benchmarks"

    def next(self, instance: Any) -> Any:
        """The output to this round."""
        if not self._rounds:
            if not self._waiting:
                raise self._mismatch("lmms-eval asks for more rounds than were answered")
            begun, episode = self._waiting.pop()
            self._where = f"benchmark {begun.task_name}, document {begun.doc_id}"
            self._rounds = list(reversed(episode.rounds))
            self._said = []
            self._begin()
        if not self._rounds:
            raise self._mismatch("its conversation has no rounds")
        following = self._rounds.pop()
        if following.fingerprint != round_fingerprint(instance, self._said):
            raise self._mismatch(f"round {len(self._said) + 1} asks what was not answered")
        self._said.append(following.output)
        return following.output

    def finish(self) -> None:
        """To be called after the last round: refuse conversations that went another way."""
        if self._rounds or self._waiting:
            raise self._mismatch("its conversation ends before the answered one did")

    def _mismatch(self, what: str) -> EvalrunError:
        return fail(reasons.LOCK_MISMATCH, self._where, f"{what}: the task's tools have changed")
