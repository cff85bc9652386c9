"""`evalrun gc`: which answers are garbage, and that nothing else is ever deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.digests import canonical_json, digest
from evalrun_api.lock import GroupLock, Lock, ModelLock, TaskLock
from evalrun_api.manifest import Manifest
from evalrun_api.plan import RunIdentity, RunPlan
from evalrun_api.reading import read
from evalrun_cli import archives, collecting, garbage
from evalrun_runner.local import DataRecord, Store, layout

pytestmark = pytest.mark.contract

NOW = datetime.now(UTC)
OLD = digest("old")
RUN = RunIdentity(namespace="default", name="shapes-run", uid="1")


def days(count: float) -> timedelta:
    return timedelta(days=count)


def answers(age: float = 100) -> garbage.Answers:
    return garbage.Answers("default", OLD, ("k",), 10, NOW - days(age))


def use(
    finished: float | None = 50, touched: float = 50, retention: float | None = 10
) -> garbage.Use:
    return garbage.Use(
        RUN,
        NOW - days(finished) if finished is not None else None,
        NOW - days(touched),
        days(retention) if retention is not None else None,
    )


@pytest.mark.parametrize(
    ("uses", "age", "older_than", "is_garbage", "why"),
    [
        ([], 100, None, True, "no run refers to it"),
        ([], 0.5, None, False, "no run refers to it yet: written 12h ago"),
        ([use()], 100, None, True, "last used 50d ago, kept for 10d"),
        ([use(retention=60)], 100, None, False, "last used 50d ago, kept for 60d"),
        ([use(retention=None)], 100, None, False, "a run keeps it"),
        ([use(), use(retention=None)], 100, None, False, "a run keeps it"),
        ([use(), use(finished=5)], 100, None, False, "last used 5d"),
        ([use(), use(retention=80)], 100, None, False, "kept for 80d"),
        ([use(finished=None, touched=6)], 100, None, False, "may be at work"),
        ([use(finished=None, touched=60, retention=0)], 6, None, False, "may be at work"),
        ([use(), use(finished=None, touched=6, retention=0)], 100, days(1), False, "may be at"),
        ([use(finished=None, touched=60)], 100, None, True, "last used 60d ago"),
        ([use(finished=None, touched=60, retention=None)], 100, None, False, "a run keeps it"),
        ([use(retention=None)], 100, days(40), True, "last used 50d ago, --older-than 40d"),
        ([use(retention=None)], 100, days(60), False, "last used 50d ago, --older-than 60d"),
        ([use(finished=100, touched=100, retention=0)], 2, None, True, "last used 2d ago"),
    ],
)
def test_answers_are_garbage_when_nobody_keeps_them(
    uses: list[garbage.Use], age: float, older_than: timedelta | None, is_garbage: bool, why: str
) -> None:
    verdict = garbage.judge(answers(age), uses, NOW, older_than)
    assert why in verdict.why
    assert verdict.is_garbage is is_garbage


def test_a_deletion_that_is_cut_off_leaves_the_first_segments_and_the_lock() -> None:
    prefix = f"answers/default/{OLD}/"
    keys = ["files/aa", "judge/j-1", "lock.json", "segments/a-1", "segments/a-2", "segments/b-1"]
    entry = garbage.Answers("default", OLD, tuple(prefix + key for key in keys), 1, NOW)
    assert [key.removeprefix(prefix) for key in garbage.to_delete(entry)] == [
        "segments/b-1",
        "segments/a-2",
        "segments/a-1",
        "judge/j-1",
        "files/aa",
        "lock.json",
    ]


@pytest.fixture
def apply(store: Store) -> Callable[..., str]:
    """Puts a locked run and its answers into the store; returns the answers' digest."""

    def put(uid: str, seed: str, retention: int | None = None) -> str:
        run = RunIdentity(namespace="default", name="shapes-run", uid=uid)
        where = digest(seed)
        task = TaskLock(
            name="shapes_task",
            version="1",
            request_type="generate_until",
            documents=3,
            requests=3,
            fingerprint=digest({}),
            data=digest({}),
        )
        lock = Lock(
            answers=where,
            model=ModelLock(revision="sha256:0", model_type="chat"),
            versions={},
            groups=[GroupLock(name="g0", batch_size=1, chunk_size=16, tasks=[task])],
        )
        document = canonical_json(lock.document())
        store.put(layout.lock("default", where), document)
        store.put(f"{layout.segments('default', where)}pod-000001.jsonl.zst", b"1" * 2048)
        store.put(f"{layout.segments('default', where)}pod-000002.jsonl.zst", b"2")
        store.put(layout.lock_of_run(run), document)
        source = {"volume": {"claimName": "models"}}
        model = {"backend": "llava_hf", "source": source, "sourceArg": "pretrained", "args": {}}
        plan = {
            "run": run.document(),
            "model": model,
            "batchSize": 1,
            "accelerators": 0,
            "seed": {},
            "groups": [{"name": "g0", "tasks": ["shapes_task"]}],
            "store": {"uri": "file:///elsewhere"},
        }
        if retention is not None:
            plan["answersRetentionSeconds"] = retention
        store.put(layout.plan(run), canonical_json(read(RunPlan, plan).document()))
        return where

    return put


@pytest.fixture
def age(tmp_path: Path) -> Callable[[float], None]:
    """Makes everything in the store so many days older."""

    def back(count: float) -> None:
        moment = (datetime.now(UTC) - days(count)).timestamp()
        for path in (tmp_path / "evalrun-results").rglob("*"):
            os.utime(path, (moment, moment))

    return back


def listed(store: Store, prefix: str = "") -> list[str]:
    return list(store.list(prefix))


def test_nothing_is_deleted_without_being_asked(
    apply: Any, age: Any, finish: Callable[..., Manifest], store: Store, invoke: Any
) -> None:
    where = apply("1", "a", retention=86400)
    finish("1", answers_digest=where, completed_at=datetime.now(UTC) - days(30))
    age(30)
    before = listed(store)
    result = invoke("gc")
    assert result.exit_code == 0, result.output
    assert where[:12] in result.stdout
    assert "shapes_task" in result.stdout
    assert "shapes-run" in result.stdout
    assert "last used 30d ago, kept for 24h" in result.stdout
    assert "can be deleted: add --delete" in result.stderr
    assert listed(store) == before


def test_deleting_takes_the_answers_and_leaves_every_result(
    apply: Any, age: Any, finish: Callable[..., Manifest], store: Store, invoke: Any
) -> None:
    gone, stays = apply("1", "a", retention=86400), apply("2", "b")
    for uid, where in (("1", gone), ("2", stays)):
        finish(uid, answers_digest=where, completed_at=datetime.now(UTC) - days(30))
    age(30)
    runs, kept = listed(store, "runs/"), listed(store, f"answers/default/{stays}/")
    result = invoke("gc", "--delete", "-o", "json")
    assert result.exit_code == 0, result.output
    told = {entry["digest"]: entry for entry in json.loads(result.stdout)["answers"]}
    assert told[gone]["deleted"]
    assert told[gone]["runs"] == [{"name": "shapes-run", "uid": "1"}]
    assert not told[stays]["garbage"]
    assert listed(store, "runs/") == runs
    assert listed(store, "answers/") == kept
    assert not (Path(store.uri("").removeprefix("file://")) / f"answers/default/{gone}").exists()
    assert invoke("results", "shapes-run").exit_code == 0


def test_answers_that_two_runs_share_stay_while_one_needs_them(
    apply: Any, age: Any, finish: Callable[..., Manifest], store: Store, invoke: Any
) -> None:
    where = apply("1", "a", retention=0)
    finish("1", answers_digest=where, completed_at=datetime.now(UTC) - days(30))
    age(30)
    apply("2", "a", retention=0)  # at work: it has no manifest
    before = listed(store)
    result = invoke("gc", "--delete", "--older-than", "1d", "-o", "wide")
    assert result.exit_code == 0, result.output
    assert "has no manifest and may be at work" in result.stdout
    assert listed(store) == before


def test_answers_of_deleted_runs_go_and_those_of_unreadable_runs_stay(
    apply: Any, age: Any, store: Store, invoke: Any, tmp_path: Path
) -> None:
    apply("1", "a")
    for key in listed(store, "runs/"):
        store.delete(key)
    apply("2", "b")
    broken = layout.lock_of_run(RUN.model_copy(update={"uid": "2"}))
    store.put(broken, b"{}")
    age(30)
    before = listed(store)
    result = invoke("gc", "--delete", "-o", "wide")
    assert "damaged: " in result.stderr
    assert "a run whose lock cannot be read may refer to it" in result.stdout
    assert listed(store) == before
    store.delete(broken)
    result = invoke("gc", str(tmp_path / "evalrun-results"), "--delete", "-A")
    assert "no run refers to it" in result.stdout
    assert listed(store, "answers/") == []


def test_a_run_that_begins_between_judging_and_deleting_keeps_its_answers(
    apply: Any, age: Any, store: Store
) -> None:
    where = apply("1", "a", retention=0)
    age(30)
    findings = collecting.look(store, "default", datetime.now(UTC), None)
    (verdict,) = findings.garbage
    apply("2", "other")
    before = listed(store)
    assert not collecting.delete(store, findings, verdict, lambda size: None)
    assert listed(store) == before
    assert where in before[0]


def test_half_written_files_of_killed_processes_go_after_a_day(
    apply: Any, age: Any, store: Store, invoke: Any, tmp_path: Path
) -> None:
    where = apply("1", "a")
    left = tmp_path / "evalrun-results" / "answers" / "default" / where / ".writing-x"
    left.write_bytes(b"half")
    assert "half-written" not in invoke("gc", "--delete").stdout
    age(2)
    before = listed(store)
    assert "1 half-written file of killed processes, 4 B" in invoke("gc").stdout
    assert left.exists()
    assert invoke("gc", "--delete").exit_code == 0
    assert not left.exists()
    assert listed(store) == before


def test_what_killed_runs_left_empty_in_the_spool_goes_and_answers_stay(
    apply: Any, store: Store, invoke: Any, tmp_path: Path
) -> None:
    spool = tmp_path / "cache" / "lmms-eval-operator" / "spool"
    for name in ("used/w-000001.jsonl", "used/w-000002.opening", "used/young.opening"):
        (spool / name).parent.mkdir(parents=True, exist_ok=True)
        (spool / name).write_text("answers\n" if name.endswith("jsonl") else "")
    (spool / "empty").mkdir()
    old = (datetime.now(UTC) - days(30)).timestamp()
    for name in ("used/w-000001.jsonl", "used/w-000002.opening", "empty"):
        os.utime(spool / name, (old, old))
    before = sorted(spool.rglob("*"))
    told = json.loads(invoke("gc", "-o", "json").stdout)["spool"]
    assert told["waiting"] == 1
    assert [Path(path).name for path in told["leftovers"]] == ["empty", "w-000002.opening"]
    assert sorted(spool.rglob("*")) == before
    result = invoke("gc", "--delete")
    assert "answers wait in this machine's spool (1 files)" in result.stderr
    assert sorted(path.name for path in (spool / "used").iterdir()) == [
        "w-000001.jsonl",
        "young.opening",
    ]
    assert not (spool / "empty").exists()


def test_the_store_can_be_that_of_a_manifest(
    example: Path, apply: Any, age: Any, store: Store, invoke: Any
) -> None:
    apply("1", "a", retention=0)
    age(30)
    result = invoke("gc", "run.yaml", "benchmark.yaml", "-o", "json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["answers"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--store", "nowhere"], 3, "there is no folder"),
        (["--older-than", "soon"], 2, "'soon' is not a duration"),
        (["s3://b/p", "--store", "s3://b/q"], 2, "the store is named twice"),
        (["absent.yaml"], 2, "absent.yaml"),
    ],
)
def test_what_is_wrong_is_refused(
    invoke: Any, store: Store, arguments: list[str], code: int, said: str
) -> None:
    result = invoke("gc", *arguments)
    assert said in result.stderr
    assert result.exit_code == code


def test_packed_documents_stay_while_a_run_refers_to_them(
    apply: Any, age: Any, store: Store, invoke: Any
) -> None:
    apply("1", "a")
    used, forgotten, fresh = (digest(name) for name in ("used", "forgotten", "fresh"))
    run = RunIdentity(namespace="default", name="shapes-run", uid="1")
    record = DataRecord(archive=used)
    store.put(layout.data_of_run(run), canonical_json(record.document()))
    for archive in (used, forgotten):
        store.put(f"{layout.data('default', archive)}/00000-{'0' * 64}.tar.zst", b"1" * 2048)
        store.put(f"{layout.data('default', archive)}/index.json", b"{}")
    age(2)
    store.put(f"{layout.data('default', fresh)}/index.json", b"{}")
    found, _ = archives.look(store, "default", datetime.now(UTC))
    (chosen,) = [entry for entry in found if entry.is_garbage]
    assert chosen.name == forgotten
    # Prepare finds it, and writes to it: it is about to be referred to.
    store.put(f"{layout.data('default', forgotten)}/index.json", b"{}")
    assert not archives.delete(store, chosen, datetime.now(UTC), lambda size: None)
    age(2)
    store.put(f"{layout.data('default', fresh)}/index.json", b"{}")
    result = invoke("gc", "--delete", "-o", "json")
    assert result.exit_code == 0, result.output
    told = {entry["archive"]: entry for entry in json.loads(result.stdout)["data"]}
    assert [name for name, entry in told.items() if entry["deleted"]] == [forgotten]
    assert told[used]["runs"] == ["shapes-run"]
    assert {key.split("/")[2] for key in listed(store, "data/")} == {used, fresh}


def test_no_packed_documents_go_where_a_record_cannot_be_read(
    apply: Any, age: Any, store: Store, invoke: Any
) -> None:
    apply("1", "a")
    run = RunIdentity(namespace="default", name="shapes-run", uid="1")
    store.put(layout.data_of_run(run), b"{")
    store.put(f"{layout.data('default', OLD)}/index.json", b"{}")
    age(30)
    result = invoke("gc", "--delete")
    assert "data.json" in result.stderr
    assert listed(store, "data/") != []
