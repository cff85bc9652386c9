"""What `evalrun score` makes of an old run before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.digests import canonical_json, digest
from evalrun_api.errors import EvalrunError, Refused
from evalrun_api.lock import GroupLock, Lock, ModelLock, TaskLock
from evalrun_api.plan import RunIdentity, RunPlan
from evalrun_api.reading import read
from evalrun_cli import rescoring
from evalrun_cli.destination import StoreChoice
from evalrun_cli.rescoring import prepare_score
from evalrun_cli.running import Work
from evalrun_runner.local import Store, layout

pytestmark = pytest.mark.contract
FILES = {"shapes.yaml": "task: shapes_task", "marks.py": "def mark(): ..."}
SHA = digest({})


@pytest.fixture
def old(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunIdentity:
    """A run that was locked and not finished, as the runner leaves it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "models").mkdir()
    run = RunIdentity(namespace="default", name="shapes-run", uid="old-1")
    plan = read(
        RunPlan,
        {
            "run": run.document(),
            "model": {
                "backend": "llava_hf",
                "source": {"volume": {"claimName": "models"}},
                "sourceArg": "pretrained",
                "args": {},
            },
            "batchSize": 1,
            "accelerators": 0,
            "seed": {},
            "groups": [{"name": "g0", "tasks": ["shapes_task"]}],
            "customBenchmarks": [
                {
                    "name": "shapes",
                    "digest": digest(FILES),
                    "tasks": ["shapes_task"],
                    "data": {"claimName": "data"},
                }
            ],
            "store": {"uri": "s3://where-it-was-then"},
        },
    )
    task = TaskLock(
        name="shapes_task",
        version="1",
        request_type="generate_until",
        documents=3,
        requests=3,
        fingerprint=SHA,
        data=SHA,
    )
    lock = Lock(
        answers=SHA,
        model=ModelLock(revision="sha256:0", model_type="chat"),
        versions={},
        groups=[GroupLock(name="g0", batch_size=1, chunk_size=16, tasks=[task])],
    )
    store.put(layout.plan(run), canonical_json(plan.document()))
    store.put(layout.lock_of_run(run), canonical_json(lock.document()))
    store.put(f"{layout.segments(run.namespace, SHA)}pod-000001.jsonl.zst", b"answers")
    for name, text in FILES.items():
        store.put(f"{layout.run(run)}/benchmarks/shapes/{name}", text.encode())
    return run


def prepared(*volumes: str, allow_code: bool = True, allow_online: bool = False) -> Work:
    return prepare_score(
        StoreChoice(),
        "default",
        "shapes-run",
        None,
        volumes,
        allow_code=allow_code,
        allow_online=allow_online,
    )


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize("allowed", [False, True])
def test_the_network_is_reached_only_where_it_was_allowed(allowed: bool) -> None:
    assert prepared(allow_online=allowed).plan.security.allow_online is allowed


def test_code_is_run_only_after_it_was_allowed(
    old: RunIdentity, store: Store, tmp_path: Path
) -> None:
    before = list(store.list("runs/"))
    with pytest.raises(Refused) as refused:
        prepared(allow_code=False)
    (fault,) = refused.value.faults
    assert fault.where == "--allow-code"
    assert fault.what.startswith("Benchmark shapes brings Python code")
    folder = (tmp_path / "evalrun-results" / layout.run(old) / "benchmarks" / "shapes").as_uri()
    assert fault.remedy == f"Read the files at {folder} first, then add --allow-code"
    assert list(store.list("runs/")) == before


def test_files_without_code_need_no_permission(old: RunIdentity, store: Store) -> None:
    harmless = {"shapes.yaml": "task: shapes_task"}
    kept = store.get(layout.plan(old))
    assert kept is not None
    store.put(layout.plan(old), kept.replace(digest(FILES).encode(), digest(harmless).encode()))
    (Path(store.uri("").removeprefix("file://")) / benchmark_key(old, "marks.py")).unlink()
    assert prepared(allow_code=False).files == {"shapes": harmless}


def test_files_of_the_store_that_no_benchmark_can_have_are_refused(
    old: RunIdentity, store: Store
) -> None:
    kept = store.get(layout.plan(old))
    assert kept is not None
    foreign = {"shapes.yaml": "include: /etc/evil.yaml"}
    store.put(layout.plan(old), kept.replace(digest(FILES).encode(), digest(foreign).encode()))
    store.put(benchmark_key(old, "shapes.yaml"), foreign["shapes.yaml"].encode())
    (Path(store.uri("").removeprefix("file://")) / benchmark_key(old, "marks.py")).unlink()
    for allow_code in (False, True):
        with pytest.raises(Refused, match=r"include names '/etc/evil\.yaml'"):
            prepared(allow_code=allow_code)


@pytest.mark.parametrize("name", ["../../../evil.py", "sub/evil.py", "..", "/etc/evil", "a b", ""])
def test_a_name_that_would_lead_out_of_the_run_s_folder_is_refused(
    old: RunIdentity, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hostile = HostileStore(store, benchmark_key(old, name))
    monkeypatch.setattr(rescoring, "open_store", lambda plan: hostile)
    with pytest.raises(EvalrunError, match="cannot be a file of a Benchmark") as refused:
        prepared()
    assert refused.value.reason.name == "CorruptStore"
    assert refused.value.faults[0].where == f"s3://bucket/{benchmark_key(old, name)}"


@pytest.mark.parametrize("name", ["shapes.yaml", "_default", "a-b.c_d", "9.py"])
def test_a_name_that_a_benchmark_may_use_is_a_file_name(name: str) -> None:
    assert rescoring.is_file_name(name)


def test_a_benchmark_s_name_that_leads_elsewhere_is_refused(old: RunIdentity, store: Store) -> None:
    kept = store.get(layout.plan(old))
    assert kept is not None
    store.put(layout.plan(old), kept.replace(b'"name":"shapes"', b'"name":"../../evil"'))
    with pytest.raises(EvalrunError, match="the document is damaged: customBenchmarks"):
        prepared()


def benchmark_key(run: RunIdentity, name: str) -> str:
    return f"{layout.run(run)}/benchmarks/shapes/{name}"


class HostileStore:
    """A bucket in which someone put an object; a folder could not hold one of such a name."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key

    def list(self, prefix: str) -> Iterator[str]:
        yield from self._store.list(prefix)
        if self._key.startswith(prefix):
            yield self._key

    def uri(self, key: str) -> str:
        return f"s3://bucket/{key}"

    def get(self, key: str, limit: int = 0) -> bytes | None:
        return self._store.get(key)


def test_the_new_attempt_has_the_old_plan_and_lock_under_a_uid_of_its_own(
    old: RunIdentity, store: Store, tmp_path: Path
) -> None:
    work = prepared()
    assert work.plan.run.uid != old.uid
    assert work.plan.store.uri == (tmp_path / "evalrun-results").as_uri()
    assert work.files == {"shapes": FILES}
    assert work.volumes == {"data": tmp_path / "data"}, "scoring needs no weights"
    assert store.get(layout.lock_of_run(work.plan.run)) == store.get(layout.lock_of_run(old))
    kept = store.get(layout.plan(work.plan.run))
    assert kept is not None
    assert RunPlan.model_validate_json(kept) == work.plan


def test_a_scored_attempt_can_be_scored_again(old: RunIdentity, finish: Callable[..., Any]) -> None:
    first = prepared().plan.run
    finish(first.uid)
    assert prepared().files == {"shapes": FILES}


def test_a_claim_without_a_folder_here_is_refused_before_anything_is_written(
    old: RunIdentity, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "data").rmdir()
    before = list(store.list("runs/"))
    with pytest.raises(Refused, match="--volume data=DIR"):
        prepared()
    assert list(store.list("runs/")) == before


def test_code_that_the_run_was_not_given_is_not_run(old: RunIdentity, store: Store) -> None:
    store.put(f"{layout.run(old)}/benchmarks/shapes/marks.py", b"import os")
    with pytest.raises(EvalrunError, match="not those that the run was given") as refused:
        prepared()
    assert refused.value.reason.name == "CorruptStore"


def test_benchmarks_that_were_not_kept_are_asked_for(
    old: RunIdentity, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "evalrun-results" / layout.run(old) / "benchmarks" / "shapes"
    for name in FILES:
        (folder / name).unlink()
    with pytest.raises(Refused, match="are not in the store"):
        prepared()


def test_a_store_without_the_run_s_answers_is_said_before_anything_is_written(
    old: RunIdentity, store: Store
) -> None:
    for key in store.list(layout.segments(old.namespace, SHA)):
        store.delete(key)
    before = list(store.list("runs/"))
    with pytest.raises(EvalrunError, match="holds no answer of run shapes-run") as raised:
        prepared()
    assert raised.value.reason.name == "MissingAnswers"
    assert "evalrun gc" in str(raised.value)
    assert list(store.list("runs/")) == before
