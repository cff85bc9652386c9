"""Following logs of many pods, some of which cannot be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from api_stub import Answer, Api, Asked, listed, unfit
from cli_samples import condition, run

from evalrun_cli import log_reading, log_streams, pod_logs

pytestmark = pytest.mark.contract

AT_WORK = run("shapes", condition("Reconciling"))
COMPLETE = run("shapes", condition("Complete", reason="Completed"))
STAMP = "2026-03-01T12:00:00.5Z"


def pod(index: int, state: str = "running") -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"a{index}",
            "labels": {
                "lmms-eval.io/step": "answer",
                "batch.kubernetes.io/job-completion-index": str(index),
            },
        },
        "status": {"containerStatuses": [{"name": "runner", "state": {state: {}}}]},
    }


class Play:
    """A run with pods; `over` ends it. logs: what is asked of each."""

    def __init__(self, pods: int) -> None:
        self.pods = [pod(index) for index in range(pods)]
        self.over = False

    def __call__(self, asked: Asked) -> Answer:
        *_, last = asked.path.split("/")
        if last == "log":
            return self.log(asked.path.split("/")[-2])
        if last == "pods":
            return listed(*self.pods)
        if "/pods/" in asked.path:
            return Answer(pod(int(last[1:]), "terminated" if self.over else "running"))
        return Answer(COMPLETE if self.over else AT_WORK)

    def log(self, name: str) -> Answer:
        raise NotImplementedError


def lines(*texts: str) -> bytes:
    return "".join(f"{STAMP[:-2]}{n}Z {text}\n" for n, text in enumerate(texts)).encode()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long streams would pause: for which number of early ends. They do not."""
    found: list[int] = []

    def pause(times: int, longest: float) -> float:
        found.append(times)
        return 0.01

    monkeypatch.setattr(log_streams, "pause", pause)
    monkeypatch.setattr(log_reading, "LOOK_SECONDS", 0.1)
    return found


def test_a_server_that_fails_once_does_not_end_following(api: Api, invoke: Any) -> None:
    class Once(Play):
        looks = 0

        def __call__(self, asked: Asked) -> Answer:
            if asked.path.endswith("/pods"):
                self.looks += 1
                if self.looks == 2:
                    return unfit(503)
                self.over = self.looks > 3
            return super().__call__(asked)

        def log(self, name: str) -> Answer:
            return Answer(lines("working"))

    api.answer = Once(1)
    done = invoke("logs", "shapes", "-f")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "answer/0   working\n"
    assert "HTTP 503: not now; trying again" in " ".join(done.stderr.split())


def test_a_server_that_never_answers_again_is_given_up(
    api: Api, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reading, "SILENT_SECONDS", 0.5)
    api.answer = lambda asked: unfit(503) if asked.path.endswith("/pods") else Answer(AT_WORK)
    assert invoke("logs", "shapes", "-f").exit_code == 3


def test_a_pod_on_a_dead_node_is_given_up_and_the_others_are_read(api: Api, invoke: Any) -> None:
    class Dead(Play):
        def log(self, name: str) -> Answer:
            if name == "a0":
                return unfit(500, "dial tcp: no route to host")
            return Answer(self.slowly())

        def slowly(self) -> Iterator[bytes]:
            yield lines("working")
            time.sleep(1.5)
            self.over = True

    api.answer = Dead(2)
    done = invoke("logs", "shapes", "-f")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "answer/1   working\n"
    assert "the log of a0 can no longer be read: " in " ".join(done.stderr.split())


def test_who_may_not_read_logs_is_told_at_once(api: Api, invoke: Any) -> None:
    class Forbidden(Play):
        def log(self, name: str) -> Answer:
            return unfit(403, 'User "jo" cannot get resource "pods/log"')

    api.answer = Forbidden(2)
    done = invoke("logs", "shapes", "-f")
    assert done.exit_code == 3
    assert 'user "jo" may not get pods/log' in " ".join(done.stderr.split())


def test_a_stream_that_ends_at_once_is_asked_for_again_after_pauses_that_grow(
    api: Api, invoke: Any, pauses: list[int]
) -> None:
    class Cut(Play):
        streams = 0

        def log(self, name: str) -> Answer:
            self.streams += 1
            self.over = self.streams > 3
            return Answer(lines("working"))

    api.answer = Cut(1)
    assert invoke("logs", "shapes", "-f").stdout.count("working") == 1
    assert pauses == [1, 2, 3]


def test_of_many_shards_some_are_followed_and_the_others_when_there_is_room(
    api: Api, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_streams, "MANY", 3)

    class Many(Play):
        def __init__(self) -> None:
            super().__init__(8)
            self.lock, self.open, self.most, self.read = threading.Lock(), 0, 0, 0

        def log(self, name: str) -> Answer:
            return Answer(self.slowly(name))

        def slowly(self, name: str) -> Iterator[bytes]:
            with self.lock:
                self.open += 1
                self.most = max(self.most, self.open)
                self.read += 1
                self.over = self.over or self.read > 3
            yield lines(name)
            time.sleep(0.3)
            with self.lock:
                self.open -= 1

        def __call__(self, asked: Asked) -> Answer:
            if asked.path.rpartition("/")[2].startswith("a") and "/pods/" in asked.path:
                return Answer(pod(0, "terminated"))
            return super().__call__(asked)

    play = Many()
    api.answer = play
    done = invoke("logs", "shapes", "-f")
    assert done.exit_code == 0, done.stderr
    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == [
        f"a{index}" for index in range(8)
    ]
    assert play.most <= 3
    assert "those of the others when one of these ends; --shard chooses one" in " ".join(
        done.stderr.split()
    )


def test_no_more_is_read_than_a_reader_who_stands_still_can_hold(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_streams, "MANY_LINES", 3)

    class Endless(Play):
        def log(self, name: str) -> Answer:
            return Answer(lines(*(["x"] * 9)))

    api.answer = Endless(1)
    streams = log_streams.Streams(api.cluster, tail=None)
    (attempt,) = pod_logs.wanted([pod(0)], None, None, every=False)
    streams.start([attempt])
    time.sleep(0.3)
    assert streams.lines.qsize() == 3
    api.answer.over = True
    read = [streams.lines.get(timeout=5) for _ in range(9)]
    assert all(isinstance(line, log_streams.Line) for line in read)
