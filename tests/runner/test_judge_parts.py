"""What the judges' proxy is made of: requests, waits, the journal, the desk, the variables."""

from __future__ import annotations

import http.client
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.errors import EvalrunError
from evalrun_api.judge import JudgeSpec, Verdict
from evalrun_runner import given_secrets
from evalrun_runner.judges import variables
from evalrun_runner.judges.desk import Desk, Failures
from evalrun_runner.judges.proxy import JudgeProxy
from evalrun_runner.judges.request import judge_request
from evalrun_runner.judges.server import Answered, Failed, JudgeServer, delay, failed, retry_after
from evalrun_runner.judges.survey import survey, tasks_folder
from evalrun_runner.judges.verdicts import (
    SEGMENT_VERDICTS,
    VerdictWriter,
    adopt_verdicts,
    read_verdicts,
)
from evalrun_runner.stores import FolderStore
from judged.server import KEY, Judge

pytestmark = pytest.mark.runner

SPEC = JudgeSpec(endpoint="http://judge/v1")
CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "good?"}], "temperature": 0}


def digest(body: dict[str, Any], spec: JudgeSpec = SPEC, target: str = CHAT) -> str:
    return judge_request(spec, target, body).digest


def test_a_request_is_known_by_what_it_asks_of_which_judge() -> None:
    same = [
        BODY | {"user": "me", "metadata": {"id": "7"}, "stream": True},
        dict(reversed(BODY.items())),
    ]
    assert {digest(body) for body in same} == {digest(BODY)}
    others = [
        digest(BODY | {"temperature": 0.1}),
        digest(BODY | {"seed": 1}),
        digest(BODY | {"model": "gpt-4"}),
        digest(BODY | {"messages": [{"role": "user", "content": "good? \ud83d"}]}),
        digest(BODY, JudgeSpec(endpoint="http://other/v1")),
        digest(BODY, target="/v1/completions"),
    ]
    assert len({digest(BODY), *others}) == 7
    assert digest(BODY, JudgeSpec(endpoint="http://judge/v1/")) == digest(BODY)


def test_the_runs_own_model_is_asked_whatever_the_benchmark_names() -> None:
    spec = SPEC.model_copy(update={"model": "local"})
    request = judge_request(spec, CHAT, BODY)
    assert request.body["model"] == "local"
    assert digest(BODY, spec) == digest(BODY | {"model": "gpt-4"}, spec)
    azure = "/token/openai/deployments/gpt%2D4/chat/completions?api-version=1"
    named = judge_request(SPEC, azure, {"messages": []})
    assert (named.call, named.body["model"]) == ("chat/completions", "gpt-4")


@pytest.mark.parametrize(
    ("target", "body", "reason"),
    [
        ("/v1/embeddings", BODY, "JudgeRefused"),
        (CHAT, [], "JudgeRefused"),
        (CHAT, None, "JudgeRefused"),
        (CHAT, {"messages": []}, "InvalidSpec"),
    ],
)
def test_what_is_no_request_to_a_judge_is_refused(target: str, body: Any, reason: str) -> None:
    with pytest.raises(EvalrunError) as caught:
        judge_request(SPEC, target, body)
    assert caught.value.reason.name == reason


def test_waits_grow_and_never_undercut_the_server() -> None:
    longest = [delay(failures, None, 1.0) for failures in range(1, 30)]
    assert longest == sorted(longest)
    assert longest[0] == 0.5
    assert longest[-1] == 60
    assert all(delay(3, wanted, 0.0) >= wanted for wanted in (0.0, 7.0, 120.0))
    assert delay(3, None, 0.0) == delay(3, None, 1.0) / 2


def test_a_wait_that_the_server_names_is_read_in_both_forms() -> None:
    assert retry_after({"Retry-After": "7"}, 0) == 7
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert retry_after({"retry-after": date}, 1445412470) == 10
    assert retry_after({"Retry-After": "-3"}, 0) == 0
    assert retry_after({"Retry-After": "1e9"}, 0) == 300
    assert [retry_after({"Retry-After": v}, 0) for v in ("soon", "nan", "")] == [None] * 3
    assert retry_after({}, 0) is None


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_what_passes_by_itself_is_asked_again(status: int) -> None:
    assert failed(SPEC, status, {"Retry-After": "2"}, "busy").error is None
    assert failed(SPEC, status, {"Retry-After": "2"}, "busy").retry_after == 2


def test_an_account_without_money_is_not_waited_for() -> None:
    error = failed(SPEC, 429, {}, '{"error": {"code": "insufficient_quota"}}').error
    assert error is not None
    assert error.reason.name == "AccessDenied"


def verdict(number: int, run: str = "r") -> Verdict:
    return Verdict(request=f"{number:064x}", draw=0, run=run, response={"choices": [number]})


def test_a_verdict_is_in_the_store_before_its_task_has_it(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    writer = VerdictWriter(store, "j/", tmp_path / "spool", "pod")
    for number in range(SEGMENT_VERDICTS + 3):
        writer.keep(verdict(number))
        assert len(read_verdicts(store, "j/")) == number + 1
    assert len(list(store.list("j/"))) == 2
    writer.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_verdicts_of_many_threads_are_all_kept(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    writer = VerdictWriter(store, "j/", tmp_path / "spool", "pod")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: writer.keep(verdict(number)), range(200)))
    writer.close()
    assert len(read_verdicts(store, "j/")) == 200


def test_what_the_store_did_not_take_is_stored_by_the_next_process(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    writer = VerdictWriter(store, "j/", tmp_path / "spool", "pod")
    writer.keep(verdict(1))
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(EvalrunError), pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalrun_runner.judges.verdicts.STORE_SECONDS", 0)
        writer.keep(verdict(2))
    assert adopt_verdicts(store, "j/", tmp_path / "spool") == 0  # its process lives
    writer.close()
    (tmp_path / "store").unlink()
    (tmp_path / "away").rename(tmp_path / "store")
    assert adopt_verdicts(store, "j/", tmp_path / "spool") == 1
    assert {found.response["choices"][0] for found in read_verdicts(store, "j/").values()} == {1, 2}
    assert adopt_verdicts(store, "j/", tmp_path / "spool") == 0


def test_a_run_is_scored_again_by_the_verdicts_that_it_bought(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    for run in ("a", "b"):  # both were scored at the same time
        writer = VerdictWriter(store, "j/", tmp_path / "spool", run)
        writer.keep(verdict(1, run))
        writer.close()
    bought = {run: [*read_verdicts(store, "j/", run).values()] for run in ("a", "b", "c")}
    assert [found[0].run for found in bought.values()] == ["a", "b", "a"]


def test_a_damaged_segment_of_verdicts_is_named(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("j/a-000000.jsonl.zst", b"nonsense")
    with pytest.raises(EvalrunError, match=r"a-000000\.jsonl\.zst") as caught:
        read_verdicts(store, "j/")
    assert caught.value.reason.name == "CorruptJournal"


class Server:
    """Answers with a number that grows; first fails as often as it is told."""

    def __init__(self, failures: int = 0, seconds: float = 0.0) -> None:
        self.failures, self.seconds, self.sold = failures, seconds, 0
        self.lock = threading.Lock()

    def ask(self, request: Any) -> Answered | Failed:
        time.sleep(self.seconds)
        with self.lock:
            if self.failures:
                self.failures -= 1
                return Failed("busy", retry_after=0.0)
            self.sold += 1
            message = {"role": "assistant", "content": str(self.sold)}
            return Answered({"choices": [{"message": message}], "usage": {"prompt_tokens": 5}})


@contextmanager
def open_desk(server: Server, **changes: Any) -> Iterator[tuple[Desk, JudgeProxy, list[Verdict]]]:
    kept: list[Verdict] = []
    recorded = changes.pop("recorded", {})
    desk = Desk(SPEC, "run", recorded, kept.append, server, Failures(), **changes)
    proxy = JudgeProxy("local")
    proxy.desk = desk
    try:
        yield desk, proxy, kept
    finally:
        desk.close()
        proxy.close()


def post(
    proxy: JudgeProxy,
    body: Any = BODY,
    path: str | None = None,
    timeout: float = 30,
    **headers: str,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    try:
        path = path or f"/{proxy.token}/v1/chat/completions"
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def content(answer: tuple[int, bytes]) -> str:
    status, data = answer
    assert status == 200, data
    return str(json.loads(data)["choices"][0]["message"]["content"])


def test_equal_requests_are_draws_and_a_later_scoring_gets_them_in_the_same_order() -> None:
    with open_desk(Server()) as (_, proxy, kept):
        assert [content(post(proxy)) for _ in range(3)] == ["1", "2", "3"]
    recorded = {(entry.request, entry.draw): entry for entry in kept}
    with open_desk(Server(), recorded=recorded) as (desk, proxy, kept):
        assert [content(post(proxy)) for _ in range(3)] == ["1", "2", "3"]
        assert kept == []
        assert (desk.usage.requests, desk.usage.recorded) == (3, 0)  # this very run paid for them


@pytest.mark.parametrize(
    "path",
    ["/{}/v1/chat/completions/chat/completions", "/{}/v1/chat/completions/v1/chat/completions"],
)
def test_clients_that_append_to_a_full_address_are_served(path: str) -> None:
    with open_desk(Server()) as (_, proxy, _kept):
        assert content(post(proxy, path=path.format(proxy.token))) == "1"


def test_nobody_without_the_token_spends_the_runs_money() -> None:
    server = Server()
    with open_desk(server) as (desk, proxy, _):
        assert post(proxy, path=CHAT)[0] == 401
        assert post(proxy, path=CHAT, Authorization="Bearer guess")[0] == 401
        assert server.sold == 0
        desk.check()
        bearer = {"Authorization": f"Bearer {proxy.token}"}
        assert content(post(proxy, path=CHAT, **bearer)) == "1"


def test_a_stream_is_answered_as_one() -> None:
    with open_desk(Server()) as (_, proxy, _kept):
        status, data = post(proxy, BODY | {"stream": True})
    first, second, *_ = data.decode().split("\n\n")
    chunk = json.loads(first.removeprefix("data: "))
    assert status == 200
    assert chunk["choices"][0]["delta"]["content"] == "1"
    assert second == "data: [DONE]"


def test_a_slow_verdict_begins_early_so_that_no_client_hangs_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evalrun_runner.judges.proxy.BLANK_SECONDS", 0.1)
    with open_desk(Server(seconds=1.0)) as (desk, proxy, _):
        assert content(post(proxy, timeout=0.5)) == "1"
        desk.check()


def test_who_hangs_up_and_asks_again_means_the_same_verdict_and_is_found_out() -> None:
    server = Server(seconds=0.5)
    with open_desk(server) as (desk, proxy, _):
        with pytest.raises(TimeoutError):
            post(proxy, timeout=0.1)
        time.sleep(1)
        assert content(post(proxy)) == "1"
        assert server.sold == 1
        with pytest.raises(EvalrunError, match="did not wait") as caught:
            desk.check()
    assert caught.value.reason.name == "JudgeUnavailable"


def test_a_failure_is_final_whatever_the_task_makes_of_it() -> None:
    server = Server(failures=1000)
    with open_desk(server, patience=0.0) as (desk, proxy, kept):
        assert post(proxy)[0] == 503
        server.failures = 0
        assert post(proxy)[0] == 503
        assert kept == []
        with pytest.raises(EvalrunError, match="failed 1 times"):
            desk.check()


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"0\r\n\r\n", {"Transfer-Encoding": "chunked"}),
        (b"not JSON", {"Content-Length": "8"}),
        (b"[" * 200_000, {"Content-Length": "200000"}),
    ],
    ids=["without a length", "no JSON", "too deep to read"],
)
def test_no_request_of_a_task_fails_unseen(data: bytes, headers: dict[str, str]) -> None:
    with open_desk(Server()) as (desk, proxy, _):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        connection.putrequest("POST", f"/{proxy.token}/v1/chat/completions")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        status = connection.getresponse().status
        connection.close()
        assert status == 503
        with pytest.raises(EvalrunError):
            desk.check()


def test_failures_are_counted_with_the_verdict_that_followed_them() -> None:
    with open_desk(Server(failures=2)) as (desk, proxy, kept):
        assert content(post(proxy)) == "1"
        assert [entry.failures for entry in kept] == [2]
        used = desk.usage
    assert (used.requests, used.failures, used.input_tokens) == (3, 2, 5)


def test_a_budget_of_requests_holds_for_threads_too() -> None:
    spec = JudgeSpec.model_validate({"endpoint": "http://judge/v1", "budget": {"requests": 5}})
    server = Server(seconds=0.05)
    desk = Desk(spec, "run", {}, lambda verdict: None, server, Failures())
    with suppress(EvalrunError):
        for number in range(12):
            desk.take(CHAT, BODY | {"seed": number})
    desk.close()
    assert server.sold == 5
    with pytest.raises(EvalrunError, match="5 of 5"):
        desk.check()


def test_tasks_see_the_proxy_and_the_backend_its_own_server() -> None:
    environment = {"OPENAI_API_KEY": "real", "AZURE_ENDPOINT": "https://azure", "PATH": "/bin"}
    before = dict(environment)
    with variables.led(environment, 80, "token", "m", keep=True):
        assert environment["OPENAI_API_KEY"] == "token"
        assert environment["AZURE_ENDPOINT"] == "http://127.0.0.1:80/token/v1/chat/completions"
        assert environment["MODEL_VERSION"] == "m"
        with variables.given(environment):
            assert environment["OPENAI_API_KEY"] == "real"
            assert "OPENAI_BASE_URL" not in environment
        worker = dict(environment)
        with (
            variables.led(worker, 9, "none", "m", keep=True),
            variables.given(worker),
        ):
            assert worker["OPENAI_API_KEY"] == "real"
            assert "MODEL_VERSION" not in worker
        variables.forget_given(environment)
        assert "real" not in environment.values()
        with variables.given(environment):
            assert environment["OPENAI_API_KEY"] == "token"
    assert environment == before


def test_order_of_arrival_is_all_that_numbers_draws() -> None:
    bodies = [BODY | {"seed": random.Random(n).randrange(3)} for n in range(30)]
    with open_desk(Server()) as (_, proxy, kept):
        said = [content(post(proxy, body)) for body in bodies]
    recorded = {(entry.request, entry.draw): entry for entry in kept}
    with open_desk(Server(), recorded=recorded) as (_, proxy, _kept):
        assert [content(post(proxy, body)) for body in bodies] == said


def test_the_guide_names_every_folder_that_is_not_heard_of() -> None:
    found = survey(tasks_folder())
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "judges.md").read_text()
    table = guide.partition("which of them are not heard")[2].partition("They behave")[0]
    assert set(re.findall(r"(?m)^\| `([^`]+)`", table)) == {
        entry.folder for entry in found if entry.unheard
    }
    assert f"({len(found)} in 0.7.3)" in guide
    assert len(found) > 50


def test_a_hard_coded_address_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "utils.py").write_text(
        "from openai import OpenAI\nURL = 'https://judge.example'\nc = OpenAI(base_url=URL)\n"
    )
    (entry,) = survey(tmp_path)
    assert entry.unheard == ("mine/utils.py: its address is fixed: https://judge.example",)
    (folder / "utils.py").write_text(
        "import os\nfrom openai import OpenAI\nc = OpenAI(base_url=os.getenv('OPENAI_API_URL'))\n"
    )
    (entry,) = survey(tmp_path)
    assert entry.unheard == ()


def test_no_words_of_a_server_or_a_library_hold_the_key() -> None:
    with Judge().open() as judge:
        judge.refusing = 401
        judge.quotes_key = True
        request = judge_request(JudgeSpec(endpoint=judge.url), CHAT, BODY)
        said = []
        for key in (KEY, f"{KEY}\n"):
            server = JudgeServer(JudgeSpec(endpoint=judge.url), key)
            found = server.ask(request)
            assert isinstance(found, Failed)
            said.append(f"{found.what} {found.error}")
            server.close()
    assert "Illegal header value" in said[1]
    assert not any(KEY in text for text in said)


def test_white_space_around_a_secret_is_cut_off_and_what_is_no_secret_is_refused() -> None:
    environment = {"HF_TOKEN": "hf_x\n", "OPENAI_API_KEY": " \n", "OTHER": "kept\n"}
    given_secrets.tidy(environment)
    assert environment == {"HF_TOKEN": "hf_x", "OTHER": "kept\n"}
    for value in ("sk-one\nsk-two", "sk-\u00e9", "sk-\x00x"):
        with pytest.raises(EvalrunError) as refused:
            given_secrets.tidy({"EVALRUN_JUDGE_API_KEY": value})
        assert refused.value.reason.name == "CredentialsRefused"
        assert "EVALRUN_JUDGE_API_KEY" in str(refused.value)
        assert "sk-" not in str(refused.value)


@contextmanager
def saying(body: Iterator[bytes]) -> Iterator[str]:
    """The address of a server that answers once, with these pieces."""

    class Once(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                for piece in body:
                    self.wfile.write(piece)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output readable."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Once)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}/v1"
    made.shutdown()
    thread.join()
    made.server_close()


def ask_once(url: str) -> Answered | Failed:
    server = JudgeServer(JudgeSpec(endpoint=url), None)
    try:
        return server.ask(judge_request(JudgeSpec(endpoint=url), CHAT, BODY))
    finally:
        server.close()


def test_a_verdict_that_json_cannot_hold_is_kept_as_its_task_saw_it(tmp_path: Path) -> None:
    said = (
        b'{"choices": [{"message": {"content": "cut \\ud83d"}, "logprob": NaN}], "id": "\\u00e9"}'
    )
    with saying(iter([said])) as url:
        found = ask_once(url)
    assert isinstance(found, Answered)
    assert found.response["id"] == "\u00e9"
    assert found.response["choices"][0]["message"]["content"] == "cut ?"
    writer = VerdictWriter(store := FolderStore(tmp_path), "judge/", tmp_path / "spool", "w")
    writer.keep(verdict(0).model_copy(update={"response": found.response}))
    writer.close()
    (kept,) = read_verdicts(store, "judge/").values()
    assert kept.response == found.response


def test_a_judge_that_talks_for_ever_is_not_listened_to_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []

    def piece(size: int, pause: float) -> Iterator[bytes]:
        while len(sent) < 2000:
            sent.append(size)
            time.sleep(pause)
            yield b" " * size

    monkeypatch.setattr("evalrun_runner.judges.server.MAX_ANSWER_BYTES", 1 << 20)
    monkeypatch.setattr("evalrun_runner.judges.server.ANSWER_SECONDS", 0.5)
    for size, pause in ((1 << 20, 0.0), (1, 0.05)):
        sent.clear()
        with saying(piece(size, pause)) as url:
            found = ask_once(url)
        assert isinstance(found, Failed)
        assert found.error is None, "it is asked again"
        assert len(sent) < 200
