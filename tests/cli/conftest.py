"""A run on disk, and finished runs in a folder store, for the tests of the CLI."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evalrun_api.digests import canonical_json, digest
from evalrun_api.manifest import (
    AnswerCounts,
    FileEntry,
    GroupResults,
    Manifest,
    Provenance,
    SampleFile,
    TaskAnswers,
)
from evalrun_api.plan import RunIdentity, StorePlan
from evalrun_api.status import Score, StageSeconds
from evalrun_cli.main import app
from evalrun_runner.local import Store, layout, open_store

sys.path.append(str(Path(__file__).parent))

from api_stub import Api
from cli_samples import BENCHMARK, RUN

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs a command line in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    for name in ("EVALRUN_DEBUG", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    runner = CliRunner()

    def call(*arguments: str, stdin: str | None = None) -> Result:
        return runner.invoke(app, list(arguments), input=stdin)

    return call


@pytest.fixture
def api(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """An API server that says what the test wants; commands ask it, in namespace team."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    found = Api()
    path = tmp_path / "api.json"
    path.write_text(found.kubeconfig("team"))
    monkeypatch.setenv("KUBECONFIG", str(path))
    yield found
    found.close()


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A folder with a run, its Benchmark and its volumes."""
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "benchmark.yaml").write_text(BENCHMARK)
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The default store of a command that runs in the test's folder."""
    folder = tmp_path / "evalrun-results"
    folder.mkdir()
    return open_store(StorePlan(uri=folder.as_uri()))


FIRST = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def finish(store: Store) -> Callable[..., Manifest]:
    """Puts a finished run into the store; `hour` orders runs by completion."""

    def put(uid: str, name: str = "shapes-run", hour: int = 0, **changes: Any) -> Manifest:
        run = RunIdentity(namespace="default", name=name, uid=uid)
        results = canonical_json({"results": {"shapes_task": {"exact_match": 0.5}}})
        samples = b'{"doc_id": 0}\n'
        folder = layout.run(run)
        store.put(f"{folder}/results/results.json", results)
        store.put(f"{folder}/results/samples.jsonl", samples)
        manifest = Manifest(
            run=run,
            plan=digest({}),
            answers_digest=digest({}),
            completed_at=FIRST + timedelta(hours=hour),
            groups=[
                GroupResults(
                    name="g0",
                    results=entry("results/results.json", results),
                    samples=[
                        SampleFile(
                            **dict(entry("results/samples.jsonl", samples)), task="shapes_task"
                        )
                    ],
                )
            ],
            scores=[
                Score(
                    benchmark="shapes_task",
                    metric="exact_match",
                    value="0.5123456",
                    stderr="0.01",
                    n=1200,
                    higher_is_better=True,
                )
            ],
            answers=AnswerCounts(
                total=1200,
                reused=200,
                computed=1000,
                invalid=0,
                tasks=[TaskAnswers(task="shapes_task", requests=1200, invalid=0)],
            ),
            trusted=True,
            provenance=Provenance(
                versions={"lmms-eval": "0.7.3"}, model_revision="sha256:00", determinism="Exact"
            ),
            seconds=StageSeconds(generate=12),
        ).model_copy(update=changes)
        store.put(layout.manifest(run), canonical_json(manifest.document()))
        return manifest

    return put


def entry(path: str, data: bytes) -> FileEntry:
    return FileEntry(path=path, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
