"""Real parts for the runner's tests: the easy-VQA model and data, lmms-eval, an S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config

from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.index import builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.spec import EvaluationRun
from evalrun_api.termination import TerminationMessage
from evalrun_runner import layout, local
from evalrun_runner.journal.segments import read_segment
from evalrun_runner.stores import Store, open_store

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "easy-vqa"
VERSITYGW = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "lmms-eval-operator"
    / "versitygw-v1.8.0"
    / "versitygw"
)

sys.path.insert(0, str(Path(__file__).parent))  # lmms-eval imports the hostile backends by name


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two OpenMP threads on two busy cores answer slower than one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data() -> Path:
    """The easy-VQA test split as a folder that stands for the claim `data`."""
    folder = EXAMPLE / "data"
    subprocess.run([sys.executable, EXAMPLE / "make_data.py"], check=True, cwd=EXAMPLE)
    return folder


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    code: int
    message: TerminationMessage

    @property
    def reason(self) -> str:
        return self.message.reason


@dataclass
class Workbench:
    """Makes runs of the example and executes them.

    spec: merged into the example's run. benchmark: merged into its Benchmark's spec.
    """

    folder: Path
    data: Path
    spec: dict[str, Any] = field(default_factory=dict)
    benchmark: dict[str, Any] = field(default_factory=dict)

    def run(self, store: StorePlan | None = None, **spec: Any) -> local.LocalRun:
        """A run of the example in a workspace of its own, with changes to its spec."""
        written = yaml.safe_load((EXAMPLE / "run.yaml").read_text())
        written["spec"] = {**written["spec"], **self.spec, **spec}
        custom = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())
        custom["spec"] = {**custom["spec"], **self.benchmark}
        planned = make_plan(
            EvaluationRun.model_validate(written),
            uuid.uuid4().hex,
            store or StorePlan(uri=(self.folder / "store").as_uri()),
            Surroundings(
                builtin_profiles(),
                builtin_index(),
                LAPTOP,
                {"easy-vqa": Benchmark.model_validate(custom)},
            ),
        )
        return local.LocalRun(
            plan=planned.plan,
            files=planned.files,
            volumes={"models": EXAMPLE / "models", "data": self.data},
            workspace=self.folder / planned.plan.run.uid,
            spool=self.folder / "spool",
        )

    def again(self, run: local.LocalRun, **plan: Any) -> local.LocalRun:
        """The same run applied anew: another uid, another workspace."""
        uid = uuid.uuid4().hex
        identity = run.plan.run.model_copy(update={"uid": uid})
        return replace(
            run,
            plan=run.plan.model_copy(update={"run": identity, **plan}),
            workspace=self.folder / uid,
        )

    def execute(
        self, run: local.LocalRun, step: str = "all", *options: str, supervised: bool = False
    ) -> Outcome:
        """Run a step in this process, in which lmms-eval is imported once for all tests.

        supervised: answer in worker processes, as a pod does, and not here as its one worker.
        """
        from evalrun_runner.main import run as run_command

        handlers = {
            number: signal.getsignal(number)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
        }
        if step == "answer" and run.plan.workers == 1 and not supervised:
            options += ("--worker", "0")
        environment = dict(os.environ)  # the command may keep its process from asking the hub
        try:
            code = run_command([*local.arguments(run, step), *options])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.environ.clear()
            os.environ.update(environment)
        return Outcome(code, TerminationMessage.model_validate_json(run.termination.read_bytes()))

    def start(self, run: local.LocalRun, step: str = "all") -> local.RunningStep:
        """Start a step in a process of its own."""
        return local.start(run, step)

    def store(self, run: local.LocalRun) -> Store:
        """The run's store."""
        return open_store(run.plan.store)

    def file(self, run: local.LocalRun, path: str) -> bytes:
        """An object of the run."""
        found = self.store(run).get(f"{layout.run(run.plan.run)}/{path}")
        assert found is not None, path
        return found

    def results(self, run: local.LocalRun) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """results.json and the samples of a finished run."""
        samples = self.file(run, "results/samples_easy_vqa.jsonl").splitlines()
        return json.loads(self.file(run, "results/results.json")), [json.loads(s) for s in samples]

    def journaled(self, run: local.LocalRun) -> tuple[int, int]:
        """(records, different requests) in the store's journal of a locked run."""
        store = self.store(run)
        lock = json.loads(self.file(run, "lock.json"))
        keys = []
        for key in store.list(layout.segments(run.plan.run.namespace, lock["answers"])):
            keys += [record.key for record in read_segment(store.get(key) or b"", key)]
        return len(keys), len(set(keys))


@pytest.fixture
def workbench(tmp_path: Path, data: Path) -> Workbench:
    return Workbench(tmp_path, data)


@dataclass(frozen=True)
class S3Server:
    """A versitygw process with one bucket."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def plan(self, uri: str = "s3://evaluations/team") -> StorePlan:
        return StorePlan(uri=uri, endpoint=self.endpoint)


ACCESS_KEY, SECRET_KEY = "evalrun-test", "evalrun-test-secret"


@pytest.fixture(scope="session")
def start_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., S3Server]]:
    """Starts S3 servers; all end with the session."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path | None = None, port: int | None = None) -> S3Server:
        if not VERSITYGW.exists():
            pytest.skip("no S3 server: `make versitygw` builds one, and needs Go")
        folder = folder or tmp_path_factory.mktemp("s3")
        (folder / "data").mkdir(exist_ok=True)
        (folder / "meta").mkdir(exist_ok=True)
        if port is None:
            with contextlib.closing(socket.socket()) as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
        environment = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        with (folder / "versitygw.log").open("ab") as log:
            command = [VERSITYGW, "--port", f"127.0.0.1:{port}", "posix", "--sidecar"]
            process = subprocess.Popen(
                [*command, folder / "meta", folder / "data"],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        started.append(process)
        server = S3Server(f"http://127.0.0.1:{port}", process)
        _make_bucket(server)
        return server

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def _make_bucket(server: S3Server) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )
    deadline = time.monotonic() + 15
    while True:
        try:
            client.create_bucket(Bucket="evaluations")
        except client.exceptions.BucketAlreadyOwnedByYou:
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def s3(start_s3: Callable[..., S3Server], monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 server of the test's own, and right credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return start_s3()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[dict[str, Any]]:
    """A plain `python -m lmms_eval` run of the example at batch 1, on 5,000 documents."""
    folder = tmp_path_factory.mktemp("plain")
    include = folder / "include"
    include.mkdir()
    written = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())
    for name, text in written["spec"]["files"].items():
        (include / name).write_text(text.replace("${DATA}", str(data)))
    command = [sys.executable, "-m", "lmms_eval", "--model", "llava_hf", "--device", "cpu"]
    command += ["--model_args"]
    command += [
        f"pretrained={EXAMPLE / 'models' / 'full'},"
        "dtype=float32,device_map=cpu,attn_implementation=sdpa"
    ]
    command += ["--tasks", "easy_vqa", "--include_path", str(include), "--batch_size", "1"]
    command += ["--process_docs_parallel", "1", "--log_samples", "--output_path", str(folder)]
    command += ["--limit", "5000"]
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    begun = time.monotonic()
    with (folder / "log").open("wb") as log:
        subprocess.run(
            command, check=True, env={**os.environ, **environment}, stdout=log, stderr=log
        )
    (results,) = folder.rglob("*_results.json")
    (samples,) = folder.rglob("*_samples_easy_vqa.jsonl")
    yield {
        "results": json.loads(results.read_text()),
        "samples": [json.loads(line) for line in samples.read_text().splitlines()],
        "seconds": time.monotonic() - begun,
    }
    shutil.rmtree(folder)
