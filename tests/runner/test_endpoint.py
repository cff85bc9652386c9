"""A model behind a server: no weights, no accelerator, and a server that can be away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from evalrun_api.manifest import Manifest
from evalrun_runner.journal.segments import unpacked

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

KEY = "key-of-the-test-that-must-not-leak"


class Chat(BaseHTTPRequestHandler):
    """Speaks as much of the OpenAI API as lmms-eval's backend uses; answers "yes"."""

    asked: list[dict[str, Any]]
    refused: str | None = None
    """The messages that the server always refuses; "first": those of the first request."""
    quotes: bool = False
    """Whether the server refuses the key, and quotes it."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(request)
        messages = json.dumps(request["messages"])
        if Chat.quotes:
            said = f"unknown key: {self.headers['Authorization']}"
            self._send(401, {"error": {"message": said, "code": "invalid_api_key"}})
            return
        if Chat.refused == "first":
            Chat.refused = messages
        if messages == Chat.refused:
            self.send_error(400, "content filter")
            return
        message = {"role": "assistant", "content": "yes"}
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(
            200,
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [choice],
                "usage": usage,
            },
        )

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output readable."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    Chat.asked, Chat.refused, Chat.quotes = [], None, False
    made = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def remote(workbench: Any, port: int) -> Any:
    endpoint = {"url": f"http://127.0.0.1:{port}/v1", "model": "someones-model"}
    args = {"max_retries": 1, "retry_backoff_s": 0.01, "timeout": 5}
    return workbench.run(
        model={"profile": "openai", "source": {"endpoint": endpoint}, "args": args},
        parallelism={},
        benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": 24}],
    )


def test_a_server_answers_and_is_known_as_such(workbench: Any, server: ThreadingHTTPServer) -> None:
    run = remote(workbench, server.server_address[1])
    outcome = workbench.execute(run)
    assert outcome.code == 0, outcome.message
    assert len(Chat.asked) == 24
    assert {request["model"] for request in Chat.asked} == {"someones-model"}
    manifest = Manifest.model_validate_json(workbench.file(run, "manifest.json"))
    assert manifest.provenance.determinism == "Remote"
    assert manifest.answers.invalid == 0
    _, samples = workbench.results(run)
    assert [sample["token_counts"][0]["output_tokens"] for sample in samples] == [1] * 24
    assert leaks(workbench) == []


def leaks(workbench: Any) -> list[str]:
    """Files that hold the key, or most of it; segments are unpacked."""
    found = []
    for path in workbench.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".zst":
                data = b"".join(unpacked(data, path.name))
            if KEY[:20].encode() in data:
                found.append(path.name)
    return found


def test_a_server_that_quotes_the_key_does_not_make_it_known(
    workbench: Any, server: ThreadingHTTPServer, show_message: Any
) -> None:
    Chat.quotes = True
    step = workbench.start(run := remote(workbench, server.server_address[1]))
    assert step.wait(120) == 1
    outcome = step.outcome()
    show_message(outcome.reason, outcome.message)
    assert "401" in outcome.message
    assert "unknown key" in run.log.read_text()
    assert leaks(workbench) == []


def test_a_request_that_always_fails_does_not_stop_the_others(
    workbench: Any, server: ThreadingHTTPServer
) -> None:
    Chat.refused = "first"
    run = remote(workbench, server.server_address[1])
    generous = run.plan.integrity.model_copy(update={"max_invalid_fraction": 0.2})
    run = replace(run, plan=run.plan.model_copy(update={"integrity": generous}))
    for _ in range(3):
        run = workbench.again(run)
        outcome = workbench.execute(run)
        assert outcome.code == 0, outcome.message
        assert outcome.message.invalid == 1
        assert outcome.message.trusted is True


def test_a_server_that_is_away_fails_the_run_and_is_asked_again_later(
    workbench: Any, server: ThreadingHTTPServer, show_message: Any
) -> None:
    gone = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    port = gone.server_address[1]
    gone.server_close()
    run = remote(workbench, port)
    outcome = workbench.execute(run)
    show_message(f"exit {outcome.code}, {outcome.reason}", outcome.message.message)
    assert (outcome.code, outcome.reason) == (1, "BackendFailed")
    assert "the server answered none of 24 requests" in outcome.message.message

    back = ThreadingHTTPServer(("127.0.0.1", port), Chat)
    thread = threading.Thread(target=back.serve_forever)
    thread.start()
    try:
        message = workbench.execute(workbench.again(run)).message
    finally:
        back.shutdown()
        thread.join()
        back.server_close()
    assert (message.outcome, message.computed, message.invalid) == ("Succeeded", 24, 0)
