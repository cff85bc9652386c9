"""What `helm test` says when something is wrong. All is well in `make helm-e2e`."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHART = Path(__file__).parents[2] / "charts" / "lmms-eval-operator"
spec = importlib.util.spec_from_file_location("smoke", CHART / "files" / "smoke.py")
assert spec is not None
assert spec.loader is not None
smoke = importlib.util.module_from_spec(spec)
spec.loader.exec_module(smoke)

pytestmark = pytest.mark.contract

Doc = dict[str, Any]
RUN: Doc = {"metadata": {"name": "test", "namespace": "team"}, "spec": {"model": {}}}
OWN = "/apis/lmms-eval.io/v1alpha1/namespaces/team/evaluationruns/test"


class Server:
    """An API server: by method and path it gives the next of its answers, the last for ever."""

    def __init__(self, answers: dict[str, list[tuple[int, Doc]]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def ask(self, method: str, path: str, body: Doc | None = None) -> tuple[int, Doc]:
        what = f"{method} {path.partition('?')[0]}"
        self.asked.append(what)
        answers = self._answers.get(what, [(404, {"message": "not found"})])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "PAUSE", 0.0)


@pytest.fixture
def replica() -> Iterator[Callable[[str], int]]:
    """Starts a replica that says its role; its port."""
    servers = []

    def start(role: str) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"role": role}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def slices(*ports: int, ready: bool = True) -> dict[str, list[tuple[int, Doc]]]:
    endpoint = {"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}
    items = [{"endpoints": [endpoint], "ports": [{"port": port}]} for port in ports]
    path = "GET /apis/discovery.k8s.io/v1/namespaces/system/endpointslices"
    return {path: [(200, {"items": items})]}


def status(phase: str, ready: str = "", **more: Any) -> tuple[int, Doc]:
    conditions = [{"type": "Ready", "status": ready or "False", "reason": "Why", "message": "so"}]
    return 200, {"status": {"phase": phase, "conditions": conditions, **more}}


def test_replicas_are_well_when_one_leads(
    replica: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    api = Server(slices(replica("leader"), replica("standby")))
    smoke.ask_replicas(api, "system/operator", 0)
    assert "2 ready behind the Service system/operator: leader, standby" in capsys.readouterr().out


def test_nobody_who_leads_is_said(replica: Callable[[str], int]) -> None:
    api = Server(slices(replica("standby")))
    with pytest.raises(SystemExit, match="no replica leads behind the Service"):
        smoke.ask_replicas(api, "system/operator", 0)


def test_a_service_without_ready_pods_is_said() -> None:
    with pytest.raises(SystemExit, match="has no ready endpoint"):
        smoke.ask_replicas(Server(slices(1, ready=False)), "system/operator", 0)


def test_a_replica_that_does_not_answer_is_said() -> None:
    with pytest.raises(SystemExit, match=r"http://127\.0\.0\.1:1/readyz: .*refused"):
        smoke.ask_replicas(Server(slices(1)), "system/operator", 0)


def test_an_api_server_without_our_kind_is_said() -> None:
    with pytest.raises(SystemExit, match=r"a valid run is accepted .*: 404 not found"):
        smoke.ask_the_api(Server({}), RUN)


def test_an_api_server_that_takes_everything_is_said() -> None:
    path = f"POST {OWN.removesuffix('/test')}"
    with pytest.raises(SystemExit, match="a run without benchmarks is refused: 201"):
        smoke.ask_the_api(Server({path: [(201, {})]}), RUN)


def test_a_run_that_succeeds_is_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    ended = status("Succeeded", "True", completionTime="now", headline="accuracy 0.9")
    api = Server(
        {
            f"GET {OWN}": [(404, {}), (0, {"message": "reset"}), status("Answering"), ended],
            f"POST {OWN.removesuffix('/test')}": [(201, {})],
            f"DELETE {OWN}": [(200, {})],
        }
    )
    smoke.evaluate(api, RUN, 60)
    assert api.asked[-1] == f"DELETE {OWN}"
    assert "run team/test is Ready: accuracy 0.9" in capsys.readouterr().out


def test_a_run_that_fails_is_left_to_be_looked_at() -> None:
    ended = status("Failed", completionTime="now")
    posted = {f"POST {OWN.removesuffix('/test')}": [(201, {})]}
    api = Server({f"GET {OWN}": [(404, {}), ended], **posted})
    with pytest.raises(SystemExit, match="run team/test: Why: so"):
        smoke.evaluate(api, RUN, 60)
    assert f"DELETE {OWN}" not in api.asked


def test_a_run_that_lasts_too_long_is_said() -> None:
    posted = {f"POST {OWN.removesuffix('/test')}": [(201, {})]}
    api = Server({f"GET {OWN}": [(404, {}), status("Queued")], **posted})
    with pytest.raises(SystemExit, match="has not ended in 0 s"):
        smoke.evaluate(api, RUN, 0)


def test_the_run_of_an_earlier_test_goes_first() -> None:
    ended = status("Succeeded", "True", completionTime="now")
    api = Server(
        {
            f"GET {OWN}": [status("Failed"), status("Failed"), (404, {}), ended],
            f"POST {OWN.removesuffix('/test')}": [(201, {})],
            f"DELETE {OWN}": [(200, {})],
        }
    )
    smoke.evaluate(api, RUN, 60)
    assert api.asked[:2] == [f"GET {OWN}", f"DELETE {OWN}"]
