"""The commands for a cluster at a real API server; the test plays the operator.

Those that follow a run are processes, since they are watched while they work, and stopped.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster.control_plane import ControlPlane
from cluster.processes import without_proxy
from evalrun_api.errors import Refused
from evalrun_cli import cancelling, connection
from evalrun_cli.cluster import RUNS
from evalrun_cli.cluster_choice import choose
from evalrun_cli.main import app

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
NOW = "2026-03-01T12:00:00Z"
RUN = """\
apiVersion: lmms-eval.io/v1alpha1
kind: EvaluationRun
metadata: {name: shapes}
spec:
  model: {profile: llava_hf, source: {volume: {claimName: models, path: tiny}}}
  benchmarks: [{benchmarkRef: {name: marks}}, {name: mme, limit: 20}]
  parallelism: {acceleratorsPerShard: 0}
---
apiVersion: lmms-eval.io/v1alpha1
kind: Benchmark
metadata: {name: marks}
spec:
  tasks: [marks_task]
  files: {marks.yaml: "task: marks_task"}
  data: {volume: {claimName: data}}
"""


@dataclass(frozen=True)
class Ended:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> str:
        return " ".join(self.err.split())


@dataclass(frozen=True)
class Team:
    """A namespace, a folder, and the commands with a kubeconfig for it."""

    server: ControlPlane
    namespace: str
    folder: Path
    kubeconfig: Path
    program: str = "evalrun"
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command as a process, which does not outlive the test."""
        process = subprocess.Popen(
            [str(BIN / self.program), *arguments],
            cwd=self.folder,
            env={**without_proxy(), "KUBECONFIG": str(self.kubeconfig), "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str) -> Ended:
        """Run a command in this process, which has loaded the Kubernetes client already."""
        environment = {"KUBECONFIG": str(self.kubeconfig), "COLUMNS": "120"}
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.folder):
            patch.setattr(sys, "argv", [self.program])
            for name in ("HTTPS_PROXY", "https_proxy"):
                patch.delenv(name, raising=False)
            done = CliRunner().invoke(app, list(arguments), env=environment)
        return Ended(done.exit_code, done.stdout, done.stderr)

    def applied(self, name: str = "shapes") -> None:
        text = RUN.replace("name: shapes", f"name: {name}")
        (self.folder / f"{name}.yaml").write_text(text)
        options = ("apply", "--server-side", "--field-manager=evalrun", "-f", "-")
        self.server.kubectl("-n", self.namespace, *options, input=text)

    def get(self, name: str = "shapes") -> dict[str, Any]:
        found = self.server.kubectl("-n", self.namespace, "get", "evr", name, "-o", "json")
        document: dict[str, Any] = json.loads(found.stdout)
        return document

    def report(
        self, *conditions: tuple[str, str, str, str], name: str = "shapes", **more: Any
    ) -> None:
        """Write a status, as the operator does."""
        status = {
            "observedGeneration": self.get(name)["metadata"]["generation"],
            "conditions": [
                dict(zip(("type", "status", "reason", "message"), entry, strict=True))
                | {"lastTransitionTime": NOW}
                for entry in conditions
            ],
            **more,
        }
        self.server.kubectl(
            *("-n", self.namespace, "patch", "evr", name, "--subresource=status", "--type=merge"),
            *("--patch", json.dumps({"status": status})),
        )


def ended(process: subprocess.Popen[str], seconds: float = 60) -> Ended:
    out, err = process.communicate(timeout=seconds)
    return Ended(process.returncode, out, err)


def read_until(process: subprocess.Popen[str], text: str, seconds: float = 60) -> str:
    """What a process writes to standard error, to the line that holds a text.

    A process that does not say it in time is killed.
    """
    assert process.stderr is not None
    seen = ""
    deadline = threading.Timer(seconds, process.kill)
    deadline.start()
    try:
        for line in process.stderr:
            seen += line
            if text in line:
                return seen
    finally:
        deadline.cancel()
    raise AssertionError(f"never said {text!r} in {seconds} seconds: {seen}")


def kill(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        with process:  # closes its pipes
            process.kill()


def for_namespace(server: ControlPlane, namespace: str, path: Path, **user: str) -> Path:
    """The administrator's kubeconfig with the namespace, or with another user's credentials."""
    document = yaml.safe_load(server.kubeconfig.read_text())
    document["contexts"][0]["context"]["namespace"] = namespace
    if user:
        document["users"][0]["user"] = user
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def team(api_server: ControlPlane, tmp_path: Path) -> Iterator[Team]:
    namespace = api_server.namespace("cli")
    kubeconfig = for_namespace(api_server, namespace, tmp_path / "kubeconfig.json")
    found = Team(api_server, namespace, tmp_path, kubeconfig)
    yield found
    kill(found.started)


DONE = (
    ("Complete", "True", "Completed", "done"),
    ("Reconciling", "False", "Completed", ""),
    ("Trusted", "True", "Completed", ""),
)
RESULTS = {
    "phase": "Succeeded",
    "completionTime": NOW,
    "scores": [{"benchmark": "mme", "metric": "acc", "value": "0.5123456", "n": 20}],
    "headline": "acc 0.5123456",
    "results": {"uri": "s3://evals/runs/shapes/manifest.json", "digest": "ab" * 32},
    "usage": {"gpuSeconds": "1234.6"},
    "provenance": {"determinism": "Exact", "modelRevision": "sha256:12"},
}
FAILED = (("Failed", "True", "OutOfMemory", "shard 3: memory ran out\x1b[2J"),)


def test_apply_creates_then_changes_nothing_then_what_may_change(team: Team) -> None:
    (team.folder / "run.yaml").write_text(RUN)
    dry = team("apply", "run.yaml", "--dry-run")
    assert (dry.code, dry.out.splitlines()) == (
        0,
        [
            "benchmark.lmms-eval.io/marks created (server dry run)",
            "evaluationrun.lmms-eval.io/shapes created (server dry run)",
        ],
    )
    first = team("apply", "run.yaml")
    assert first.out.splitlines() == [
        "benchmark.lmms-eval.io/marks created",
        "evaluationrun.lmms-eval.io/shapes created",
    ]
    assert "unchanged" in team("apply", "run.yaml").out.splitlines()[1]
    (team.folder / "run.yaml").write_text(RUN.replace("shapes}", "shapes, labels: {a: b}}"))
    assert "configured (server dry run)" in team("apply", "run.yaml", "--dry-run").out
    assert "configured" in team("apply", "run.yaml").out.splitlines()[1]
    found = team.get()
    assert found["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (("path: tiny", "path: huge"), (), "model cannot change once the run exists"),
        (("Shard: 0", "Shard: 0, shards: 2"), (), "parallelism can change only while the run is"),
        (("profile:", "profle:"), ("--no-check",), "the cluster's release has no such field"),
        (("limit: 20", "limit: many"), ("--no-check",), "spec.benchmarks"),
        (("name: mme", "name: mmme"), (), "did you mean mme"),
    ],
)
def test_what_is_refused_is_told_as_field_fault_and_remedy(
    team: Team,
    change: tuple[str, str],
    options: tuple[str, ...],
    told: str,
    show_message: Callable[[object, str], None],
) -> None:
    team.applied()
    (team.folder / "run.yaml").write_text(RUN.replace(*change))
    done = team("apply", "run.yaml", *options)
    show_message(f"exit {done.code}", done.err)
    assert done.code == 2
    assert done.err.startswith("refused (InvalidSpec)")
    assert told in done.told


def test_a_field_that_somebody_else_set_is_taken_over_only_when_asked(
    team: Team, show_message: Callable[[object, str], None]
) -> None:
    team.applied()
    assert team("cancel", "shapes").code == 0
    (team.folder / "run.yaml").write_text(
        RUN.replace("spec:\n  model", "spec:\n  suspend: false\n  model")
    )
    done = team("apply", "run.yaml")
    show_message(f"exit {done.code}", done.err)
    assert done.code == 2
    assert "last set by evalrun-suspend" in done.told
    assert team("apply", "run.yaml", "--force-conflicts").code == 0
    assert team.get()["spec"]["suspend"] is False


def test_a_benchmark_of_the_cluster_need_not_be_given_again(team: Team) -> None:
    run, benchmark = RUN.split("---\n")
    (team.folder / "run.yaml").write_text(run)
    (team.folder / "benchmark.yaml").write_text(benchmark)
    done = team("apply", "run.yaml")
    assert done.code == 2
    assert "there is no Benchmark 'marks'" in done.told
    assert team("apply", "benchmark.yaml").code == 0
    assert team("apply", "run.yaml").code == 0


def test_runs_are_listed_newest_first_and_as_documents(team: Team) -> None:
    assert f"no run in namespace {team.namespace}" in team("list").err
    team.applied("first")
    time.sleep(1.1)  # creation counts in seconds
    team.applied("second")
    team.report(*DONE, name="first", **RESULTS)
    lines = team("list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "second", "first"]
    assert "acc 0.5123456" in lines[2]
    assert "GPU-SECONDS" in team("list", "-o", "wide").out
    assert team.namespace in team("list", "-A").out
    items = json.loads(team("list", "-o", "json").out)["items"]
    assert [item["metadata"]["name"] for item in items] == ["second", "first"]
    assert yaml.safe_load(team("list", "-o", "yaml").out)["kind"] == "List"


def test_a_run_is_watched_from_its_first_pod_to_its_scores(team: Team) -> None:
    team.applied()
    watching = team.start("watch", "shapes")
    read_until(watching, "no operator has looked at the run yet")
    stalled = ("Stalled", "True", "ImagePullFailed", "image r/i: not found\x1b[31m")
    team.report(("Reconciling", "True", "Preparing", "waits"), stalled, phase="Preparing")
    said = read_until(watching, "ImagePullFailed")
    assert "preparing, stalled (ImagePullFailed): image r/i: not found" in said
    assert "\x1b" not in said
    progress = {"requestsDone": 5, "requestsTotal": 20, "percent": 25, "etaSeconds": 9}
    at_work = ("Reconciling", "True", "Answering", "answering")
    team.report(at_work, phase="Answering", startTime=NOW, progress=progress)
    assert "5/20 answers, 0:09 left" in read_until(watching, "5/20")
    team.report(*DONE, **RESULTS)
    done = ended(watching)
    assert done.code == 0
    assert "0.5123" in done.out
    assert "results   s3://evals/runs/shapes/manifest.json" in done.out
    assert "1,235 GPU-seconds" in done.out


def test_a_failed_run_ends_a_watch_with_1_and_its_reason(
    team: Team, show_message: Callable[[object, str], None]
) -> None:
    team.applied()
    team.report(*FAILED, phase="Failed", completionTime=NOW)
    done = team("watch", "shapes")
    show_message(f"exit {done.code}", done.out)
    assert done.code == 1
    assert "failed: OutOfMemory" in done.out
    assert "shard 3: memory ran out" in done.out
    assert "logs: evalrun logs shapes" in done.out
    assert "\x1b" not in done.out


def test_apply_can_wait_and_then_gives_the_run_as_a_document(team: Team) -> None:
    (team.folder / "run.yaml").write_text(RUN)
    applying = team.start("apply", "run.yaml", "--wait", "-o", "json")
    read_until(applying, "no operator has looked")
    team.report(*DONE, **RESULTS)
    done = ended(applying)
    assert done.code == 0
    assert json.loads(done.out)["status"]["headline"] == "acc 0.5123456"


def test_ctrl_c_leaves_the_run_alone_and_says_so(team: Team) -> None:
    team.applied()
    watching = team.start("watch", "shapes", "-n", team.namespace)
    read_until(watching, "no operator has looked")
    watching.send_signal(signal.SIGINT)
    done = ended(watching)
    assert done.code == 130
    assert "shapes goes on in the cluster" in done.told
    assert f"stop it with: evalrun cancel shapes -n {team.namespace}" in done.told
    assert "suspend" not in team.get()["spec"] or not team.get()["spec"]["suspend"]


def test_a_run_that_is_deleted_ends_a_watch(team: Team) -> None:
    team.applied()
    watching = team.start("watch", "shapes")
    read_until(watching, "no operator has looked")
    assert team("cancel", "shapes", "--delete").code == 0
    done = ended(watching)
    assert done.code == 1
    assert "the run was deleted while it was followed" in done.told


def test_wait_ends_with_a_code_for_pipelines(team: Team) -> None:
    team.applied()
    over = team("wait", "shapes", "--timeout", "1s")
    assert over.code == 124
    assert "shapes has not ended after 0:01 and goes on" in over.told
    assert team("wait", "shapes", "--timeout", "0").code == 124
    waiting = team.start("wait", "shapes", "--for", "Suspended")
    assert team("cancel", "shapes").code == 0
    team.report(("Suspended", "True", "Suspended", "stopped"), phase="Suspended")
    assert (ended(waiting).code, waiting.returncode) == (0, 0)
    waiting = team.start("wait", "shapes")
    team.report(*FAILED, phase="Failed", completionTime=NOW)
    done = ended(waiting)
    assert (done.code, done.out) == (1, "shapes failed (OutOfMemory)\n")
    assert team("wait", "shapes", "--for", "failed").code == 0


def test_a_run_is_cancelled_resumed_and_deleted(
    team: Team, show_message: Callable[[object, str], None]
) -> None:
    team.applied()
    done = team("cancel", "shapes")
    assert done.out == (
        "shapes is being suspended: accelerators are given back, no answer is lost\n"
    )
    assert "go on with: evalrun resume shapes" in done.told
    assert team.get()["spec"]["suspend"] is True
    assert "was already suspended" in team("cancel", "shapes").out
    assert "goes on where it stopped" in team("resume", "shapes").out
    assert team.get()["spec"]["suspend"] is False
    assert "nothing was changed" in team("resume", "shapes").out
    team.report(*DONE, **RESULTS)
    done = team("cancel", "shapes")
    show_message(f"exit {done.code}", done.err)
    assert done.code == 2
    assert "a finished run cannot be cancelled" in done.told
    assert "evalrun cancel shapes --delete" in done.told
    assert "it has ended (Complete) and is not started again" in team("apply", "shapes.yaml").told
    assert "answers stay in the store" in team("cancel", "shapes", "--delete").told
    assert "there is no run 'shapes'" in team("watch", "shapes").told


def test_results_come_from_the_cluster_when_asked_or_when_there_is_no_store(team: Team) -> None:
    team.applied()
    early = team("results", "shapes")
    assert early.code == 2
    assert "the run has no results yet" in early.told
    team.report(*DONE, **RESULTS)
    done = team("results", "shapes", "-o", "wide")
    assert "from namespace" in done.err
    assert "0.5123" in done.out
    assert "model     sha256:12" in done.out
    (team.folder / "evalrun-results").mkdir()
    assert "from the store file://" in team("results").err
    assert "0.5123" in team("results", "shapes", "--cluster").out
    plugin = replace(team, program="kubectl-evalrun")
    assert "0.5123" in plugin("results", "shapes").out
    assert json.loads(plugin("results", "shapes", "-o", "json").out)["kind"] == "EvaluationRun"
    assert "acc 0.5123456" in plugin("results").out
    assert "not u-1" in plugin("results", "shapes", "u-1").told


def test_a_name_that_is_nearly_right_is_offered(
    team: Team, show_message: Callable[[object, str], None]
) -> None:
    team.applied()
    done = team("watch", "shaeps")
    show_message(f"exit {done.code}", done.err)
    assert done.code == 2
    assert "did you mean shapes?" in done.told


def test_whoever_may_not_is_told_what_and_where(
    team: Team, show_message: Callable[[object, str], None]
) -> None:
    team.server.kubectl("-n", team.namespace, "create", "serviceaccount", "guest")
    token = team.server.kubectl("-n", team.namespace, "create", "token", "guest").stdout.strip()
    path = team.folder / "guest.json"
    guest = replace(team, kubeconfig=for_namespace(team.server, team.namespace, path, token=token))
    done = guest("list")
    show_message(f"exit {done.code}", done.err)
    assert done.code == 3
    assert f"may not list evaluationruns.lmms-eval.io in namespace {team.namespace}" in done.told
    stranger = replace(team, kubeconfig=for_namespace(team.server, "x", path, token="expired"))
    done = stranger("list")
    show_message(f"exit {done.code}", done.err)
    assert done.code == 3
    assert "they have expired" in done.told


def test_nothing_is_asked_of_a_name_that_is_empty(team: Team) -> None:
    team.applied()
    for command in (("cancel", "", "--delete"), ("watch", ""), ("list", "-n", "")):
        done = team(*command)
        assert done.code == 2, command
        assert "'' is not the name of a" in done.told
    assert team.get()["metadata"]["name"] == "shapes"


def test_a_run_of_another_namespace_is_suggested_with_that(team: Team) -> None:
    home = team.server.namespace("home")
    path = for_namespace(team.server, home, team.folder / "home.json")
    there = replace(team, kubeconfig=path)
    placed = RUN.replace("name: shapes}", f"name: shapes, namespace: {team.namespace}}}")
    placed = placed.replace(
        "name: marks}\nspec", f"name: marks, namespace: {team.namespace}}}\nspec"
    )
    (team.folder / "placed.yaml").write_text(placed)
    applying = there.start("apply", "placed.yaml", "--wait")
    read_until(applying, "no operator has looked")
    applying.send_signal(signal.SIGINT)
    done = ended(applying)
    assert done.code == 130
    assert f"evalrun watch shapes -n {team.namespace}" in done.told
    team.report(*FAILED, phase="Failed", completionTime=NOW)
    done = there("apply", "placed.yaml", "--wait")
    assert f"logs: evalrun logs shapes -n {team.namespace}" in done.out
    assert f"evalrun cancel shapes --delete -n {team.namespace}" in done.told


def test_a_run_that_was_created_anew_meanwhile_is_not_suspended_instead(team: Team) -> None:
    team.applied()
    cluster = connection.connect(choose(str(team.kubeconfig), None, None, {}, team.folder))
    found = cluster.get(RUNS, team.namespace, "shapes")
    assert team("cancel", "shapes", "--delete").code == 0
    team.applied()
    with pytest.raises(Refused, match="another one has its name now"):
        cancelling.suspend(cluster, found, wanted=True)
    assert "suspend" not in team.get()["spec"] or not team.get()["spec"]["suspend"]


def test_a_gate_that_did_not_pass_counts_unless_only_the_condition_is_waited_for(
    team: Team,
) -> None:
    team.applied()
    team.report(*DONE, ("Passed", "False", "Failed", "acc is too low"), **RESULTS)
    done = team("wait", "shapes", "--for", "Complete")
    assert (done.code, done.out) == (0, "shapes is complete, and a gate did not pass\n")
    assert team("wait", "shapes").code == 1
    assert team("watch", "shapes", "--timeout", "0").code == 1


def test_a_process_that_does_not_say_what_is_expected_is_killed(team: Team) -> None:
    team.applied()
    watching = team.start("watch", "shapes")
    with pytest.raises(AssertionError, match="never said 'nonsense'"):
        read_until(watching, "nonsense", 5)
    assert watching.wait(10) == -signal.SIGKILL


def test_a_namespace_that_is_not_there_is_named(
    team: Team, show_message: Callable[[object, str], None]
) -> None:
    (team.folder / "benchmark.yaml").write_text(RUN.split("---\n")[1])
    done = team("apply", "benchmark.yaml", "-n", "nowhere")
    show_message(f"exit {done.code}", done.err)
    assert done.code == 2
    assert "there is no namespace 'nowhere'" in done.told


def test_logs_say_why_there_are_none_yet(
    team: Team, show_message: Callable[[object, str], None]
) -> None:
    team.applied()
    done = team("logs", "shapes")
    show_message(f"exit {done.code}", done.err)
    assert done.code == 2
    assert "the run has no pods" in done.told
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "shapes-answer-0",
            "labels": {
                "lmms-eval.io/run": "shapes",
                "lmms-eval.io/run-uid": team.get()["metadata"]["uid"],
                "lmms-eval.io/step": "answer",
                "batch.kubernetes.io/job-completion-index": "0",
            },
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "runner", "image": "none"}],
        },
    }
    team.server.kubectl("-n", team.namespace, "create", "-f", "-", input=json.dumps(pod))
    done = team("logs", "shapes")
    assert done.code == 1
    assert "shapes-answer-0 has not begun" in done.told
    assert "Its shards: 0" in team("logs", "shapes", "--shard", "4").told
    assert "Steps that have pods: answer" in team("logs", "shapes", "--step", "score").told


class Relay:
    """Passes connections on to the API server, and can cut them all."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()


@pytest.fixture
def relay(team: Team) -> Iterator[Relay]:
    found = Relay(team.server.api_port)
    yield found
    found.close()


def test_a_watch_survives_connections_that_break(team: Team, relay: Relay) -> None:
    team.applied()
    document = json.loads(team.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
    path = team.folder / "relayed.json"
    path.write_text(json.dumps(document))
    watching = replace(team, kubeconfig=path).start("watch", "shapes")
    read_until(watching, "no operator has looked")
    for percent in (10, 20):
        relay.cut()
        progress = {"requestsDone": percent, "requestsTotal": 100, "percent": percent}
        working = ("Reconciling", "True", "Answering", "answering")
        team.report(working, phase="Answering", progress=progress)
        read_until(watching, f"{percent}/100 answers")
    relay.cut()
    team.report(*DONE, **RESULTS)
    assert ended(watching).code == 0


def test_without_a_terminal_nothing_but_text_is_written(team: Team) -> None:
    team.applied()
    team.report(*DONE, **RESULTS)
    for command in (("list",), ("watch", "shapes"), ("results", "shapes", "--cluster")):
        done = team(*command)
        assert "\x1b" not in done.out + done.err, command
