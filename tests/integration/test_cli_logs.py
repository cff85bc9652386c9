"""`evalrun logs` at a real API server, which asks a kubelet for logs: the test plays that, too."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.processes import without_proxy

pytestmark = pytest.mark.integration

EVALRUN = str(Path(sys.executable).parent / "evalrun")
NODE = "log-node"
RUN = {
    "apiVersion": "lmms-eval.io/v1alpha1",
    "kind": "EvaluationRun",
    "metadata": {"name": "shapes"},
    "spec": {
        "model": {"profile": "llava_hf", "source": {"volume": {"claimName": "models"}}},
        "benchmarks": [{"name": "mme"}],
    },
}


@dataclass
class Log:
    """What a container writes. ended: it writes nothing more. cut: how often streams were cut."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False
    cut: int = 0
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def write(self, message: str, **more: Any) -> None:
        stamp = f"2026-03-01T12:00:{len(self.lines):02}.5Z"
        entry = {"time": stamp, "level": "info", "message": message, **more}
        self.lines.append((stamp, json.dumps(entry)))


class Kubelet(ThreadingHTTPServer):
    """Serves /containerLogs as a kubelet does, as far as the command needs it."""

    daemon_threads = True

    def __init__(self, pki: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "kubelet-serving.crt", pki / "kubelet-serving.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.logs: dict[str, Log] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Kubelet

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        log = self.server.logs[parts.path.split("/")[3]]
        log.asked.append(query)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        since = query.get("sinceTime", [""])[0]
        at = next((i for i, (stamp, _) in enumerate(log.lines) if stamp[:19] >= since[:19]), 0)
        if tail := query.get("tailLines"):
            at = max(len(log.lines) - int(tail[0]), 0)
        cut = log.cut
        while True:
            for stamp, line in log.lines[at:]:
                self._chunk(f"{stamp} {line}\n" if "timestamps" in query else f"{line}\n")
            at = len(log.lines)
            if "follow" not in query or log.ended or log.cut > cut:
                break
            time.sleep(0.05)
        self._chunk("")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is not the place."""


@dataclass(frozen=True)
class Team:
    """A namespace with a run, and its pods on the kubelet."""

    server: ControlPlane
    kubelet: Kubelet
    namespace: str
    uid: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command as a process, which does not outlive the test."""
        process = subprocess.Popen(
            [EVALRUN, "logs", "shapes", "-n", self.namespace, *arguments],
            env={**without_proxy(), "KUBECONFIG": str(self.server.kubeconfig), "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def logs(self, *arguments: str) -> list[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out.splitlines()

    def pod(self, name: str, step: str, index: int = 0) -> Log:
        """A pod whose container runs."""
        labels = {
            "lmms-eval.io/run": "shapes",
            "lmms-eval.io/run-uid": self.uid,
            "lmms-eval.io/step": step,
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": NODE, "containers": [{"name": "runner", "image": "none"}]},
        }
        log = self.kubelet.logs[name] = Log()
        self.server.kubectl("-n", self.namespace, "create", "-f", "-", input=json.dumps(document))
        self.state(name, "Running", running={})
        return log

    def end(self, name: str, code: int = 0) -> None:
        """The container ends."""
        self.kubelet.logs[name].ended = True
        phase = "Failed" if code else "Succeeded"
        self.state(name, phase, terminated={"exitCode": code})

    def state(self, name: str, phase: str, **state: Any) -> None:
        container = {
            "name": "runner",
            "image": "none",
            "imageID": "none",
            "containerID": f"test://{name}",
            "ready": True,
            "restartCount": 0,
            "state": state,
        }
        self._patch("pod", name, {"phase": phase, "containerStatuses": [container]})

    def report(self, condition: str) -> None:
        """The operator ends the run."""
        found = {
            "type": condition,
            "status": "True",
            "reason": "Completed",
            "message": "",
            "lastTransitionTime": "2026-03-01T12:00:00Z",
        }
        self._patch("evr", "shapes", {"conditions": [found], "observedGeneration": 1})

    def _patch(self, kind: str, name: str, status: dict[str, Any]) -> None:
        self.server.kubectl(
            *("-n", self.namespace, "patch", kind, name, "--subresource=status", "--type=merge"),
            *("--patch", json.dumps({"status": status})),
        )


@pytest.fixture(scope="module")
def kubelet(api_server: ControlPlane) -> Iterator[Kubelet]:
    """A node that is nothing but a server of logs."""
    found = Kubelet(api_server.folder / "pki")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    api_server.kubectl("create", "-f", "-", input=json.dumps(node))
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": found.server_address[1]}},
    }
    api_server.kubectl(
        *("patch", "node", NODE, "--subresource=status", "--type=merge"),
        *("--patch", json.dumps({"status": status})),
    )
    yield found
    api_server.kubectl("delete", "node", NODE)
    found.shutdown()
    found.server_close()


@pytest.fixture
def team(api_server: ControlPlane, kubelet: Kubelet) -> Iterator[Team]:
    namespace = api_server.namespace("logs")
    api_server.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(RUN))
    found = api_server.kubectl("-n", namespace, "get", "evr", "shapes", "-o", "json").stdout
    team = Team(api_server, kubelet, namespace, json.loads(found)["metadata"]["uid"])
    # A test reads lines without a deadline of its own; at this one the process, and so they, end.
    deadline = threading.Timer(120, lambda: [process.kill() for process in team.started])
    deadline.start()
    yield team
    deadline.cancel()
    for process in team.started:
        with process:  # closes its pipes
            process.kill()


def test_logs_are_shown_step_by_step_and_line_by_line(team: Team) -> None:
    prepare = team.pod("p", "prepare")
    prepare.write("locked", requests=9)
    team.end("p")
    for index in (1, 0):
        team.pod(f"a{index}", "answer", index).write(f"answering {index}")
    lines = team.logs()
    assert lines == [
        "prepare    12:00:00 info    locked  requests=9",
        "answer/0   12:00:00 info    answering 0",
        "answer/1   12:00:00 info    answering 1",
    ]
    assert team.logs("--step", "answer", "--shard", "1") == ["12:00:00 info    answering 1"]
    (raw,) = team.logs("--step", "prepare", "--raw", "--tail", "1")
    assert json.loads(raw)["requests"] == 9
    assert prepare.asked[-1]["tailLines"] == ["1"]


def test_a_followed_run_is_read_to_its_end_over_steps_breaks_and_new_pods(team: Team) -> None:
    prepare = team.pod("p", "prepare")
    prepare.write("looking")
    following = team.start("-f")
    assert following.stdout is not None
    told = [following.stdout.readline()]
    prepare.write("locked")
    team.end("p")
    first = team.pod("a", "answer")
    first.write("answering")
    told += [following.stdout.readline() for _ in range(2)]
    first.cut += 1  # the stream ends, the container does not
    until("the stream is asked for again", lambda: len(first.asked) > 1, 30)
    assert "sinceTime" in first.asked[-1]
    first.write("still answering")
    team.end("a", 1)
    second = team.pod("b", "answer")
    second.write("answering again")
    told += [following.stdout.readline() for _ in range(2)]
    team.end("b")
    team.report("Complete")
    out, err = following.communicate(timeout=60)
    assert following.returncode == 0, err
    assert out == ""
    messages = [line.split("info", 1)[1].strip() for line in told]
    assert messages == ["looking", "locked", "answering", "still answering", "answering again"]
    assert "shapes is complete" in err


def test_ctrl_c_ends_following_and_not_the_run(team: Team) -> None:
    team.pod("p", "prepare").write("looking")
    following = team.start("-f")
    assert following.stdout is not None
    following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=60)
    assert following.returncode == 130
    assert "shapes goes on in the cluster" in err
