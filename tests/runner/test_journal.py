"""The journal's writer over a real folder store: what is durable, and when."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread, Timer
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from journal_samples import PREFIX, Outage, documents, record, request

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_runner.answering import share
from evalrun_runner.journal import writing
from evalrun_runner.journal.answer_files import get_file, put_file
from evalrun_runner.journal.reading import read_answers, read_index
from evalrun_runner.journal.writing import JournalWriter, adopt, spool_folder
from evalrun_runner.stopping import Stopped

pytestmark = pytest.mark.decisions


@pytest.fixture
def store(tmp_path: Path) -> Outage:
    return Outage(tmp_path / "store")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def writer(store: Outage, spool: Path) -> Iterator[JournalWriter]:
    made = JournalWriter(store, PREFIX, spool, "w1", flush_seconds=0.05)
    yield made
    store.failing = None
    made.close()


def test_appended_answers_are_in_the_spool_at_once_and_in_the_store_soon(
    writer: JournalWriter, store: Outage, spool: Path
) -> None:
    writer.append([record(0), record(1)])
    deadline = time.monotonic() + 5
    while documents(store) != {0, 1} and time.monotonic() < deadline:
        time.sleep(0.02)
    assert documents(store) == {0, 1}
    assert list(spool.iterdir()) == []


def test_two_processes_of_one_name_lose_nothing_of_each_other(store: Outage, spool: Path) -> None:
    for doc_id in (0, 1):
        writer = JournalWriter(store, PREFIX, spool, "pod-a", flush_seconds=60)
        writer.append([record(doc_id)])
        writer.close()
    assert documents(store) == {0, 1}


def test_a_segment_whose_name_is_taken_is_stored_beside_it(store: Outage, spool: Path) -> None:
    spool.mkdir()
    for doc_id in (0, 1):
        (spool / "w-000001.jsonl").write_text(record(doc_id).model_dump_json() + "\n")
        assert adopt(store, PREFIX, spool) == 1
    assert documents(store) == {0, 1}


class Forking(Outage):
    """A store during whose work a backend forks a process, as torch's loaders are."""

    child = 0

    def create(self, key: str, data: bytes) -> bool:
        if not self.child:
            self.child = os.fork()
            if not self.child:
                time.sleep(60)
                os._exit(0)
        return super().create(key, data)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_a_backend_forks_while_answers_are_stored_holds_nothing_up(
    tmp_path: Path, spool: Path
) -> None:
    store = Forking(tmp_path / "store")
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60)
    writer.append([record(0)])
    try:
        writer.flush()
        (spool / "other-000001.jsonl").write_text(record(1).model_dump_json() + "\n")
        other = Thread(target=adopt, args=(store, PREFIX, spool), daemon=True)
        other.start()
        other.join(5)
        assert not other.is_alive(), "the forked process holds the lock of the spool"
        assert documents(store) == {0, 1}
    finally:
        os.kill(store.child, signal.SIGKILL)
        os.waitpid(store.child, 0)
        writer.close()


def test_a_passing_outage_is_outlived_and_a_lasting_one_fails_the_run(
    writer: JournalWriter, store: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.failing = fail(reasons.STORE_UNAVAILABLE, "s3://b", "the service is away")
    writer.append([record(0)])
    time.sleep(0.2)
    writer.append([record(1)])  # still within patience
    store.failing = None
    writer.flush()
    assert documents(store) == {0, 1}

    monkeypatch.setattr(writing, "MAX_UNSTORED_SECONDS", 0.1)
    store.failing = fail(reasons.STORE_UNAVAILABLE, "s3://b", "the service is away")
    writer.append([record(2)])
    time.sleep(0.5)
    with pytest.raises(EvalrunError, match="the service is away"):
        writer.append([record(3)])


def test_refused_credentials_fail_the_run_without_patience(
    writer: JournalWriter, store: Outage
) -> None:
    store.failing = fail(reasons.CREDENTIALS_REFUSED, "s3://b", "no")
    writer.append([record(0)])
    time.sleep(0.3)
    with pytest.raises(EvalrunError, match="no"):
        writer.append([record(1)])
    store.failing = None
    writer.flush()
    assert documents(store) == {0, 1}, "the chunk in hand was thrown away with the error"


def test_what_a_killed_process_left_in_the_spool_is_stored_by_the_next(
    store: Outage, spool: Path
) -> None:
    script = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from evalrun_api.journal import Record
from evalrun_runner.journal.writing import JournalWriter
from evalrun_runner.journal.segments import read_segment
from evalrun_runner.stores import FolderStore
writer = JournalWriter(FolderStore(Path({str(store._root)!r})), {PREFIX!r},
                       Path({str(spool)!r}), "killed", flush_seconds=60)
writer.append([Record(**values) for values in {[record(n).model_dump() for n in range(3)]!r}])
print("appended", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"appended\n"
    assert adopt(store, PREFIX, spool) == 0, "it took the spool of a process that lives"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    (left,) = spool.iterdir()
    with left.open("ab") as file:
        file.write(b'{"v":1,"group":"g0","ta')  # a line that the kill tore
    assert adopt(store, PREFIX, spool) == 1
    assert documents(store) == {0, 1, 2}
    assert list(spool.iterdir()) == []


def test_damage_in_the_spool_is_named_before_it_reaches_the_store(
    store: Outage, spool: Path
) -> None:
    spool.mkdir()
    (spool / "w-000001.jsonl").write_bytes(b"nonsense\n")
    with pytest.raises(EvalrunError, match=r"w-000001\.jsonl, line 1: it is not a journal record"):
        adopt(store, PREFIX, spool)
    assert list(store.list(PREFIX)) == []


def test_a_spool_that_is_full_is_reported_as_such_and_keeps_what_was_whole(
    store: Outage, spool: Path
) -> None:
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60)
    writer.append([record(0)])
    file, _ = writer._current or (None, None)
    assert file is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file.fileno())
    os.close(full)
    with pytest.raises(EvalrunError) as raised:
        writer.append([record(1)])
    assert raised.value.reason is reasons.DISK_FULL
    writer.close()
    assert documents(store) == {0}


def test_a_locked_spool_file_is_left_alone(store: Outage, spool: Path) -> None:
    spool.mkdir()
    path = spool / "w-000001.jsonl"
    path.write_text(record(0).model_dump_json() + "\n")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert adopt(store, PREFIX, spool) == 0
    assert path.exists()


def test_journals_of_different_stores_or_digests_spool_apart(tmp_path: Path) -> None:
    folders = {
        spool_folder(tmp_path, store, prefix)
        for store in ("file:///a/", "s3://a/")
        for prefix in ("answers/x/1/segments/", "answers/x/2/segments/")
    }
    assert len(folders) == 4


def test_a_segment_that_has_grown_large_is_stored_before_its_time(
    store: Outage, spool: Path
) -> None:
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60, flush_bytes=2000)
    for doc_id in range(30):
        writer.append([record(doc_id)])
    deadline = time.monotonic() + 5
    while len(documents(store)) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(documents(store)) >= 20
    writer.close()
    assert documents(store) == set(range(30))


def test_a_writer_that_is_not_in_a_hurry_stores_one_object_an_interval(
    store: Outage, spool: Path
) -> None:
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=0.5)
    begun = time.monotonic()
    for doc_id in range(100):
        writer.append([record(doc_id)])
        time.sleep(0.02)
    writer.close()
    assert len(list(store.list(PREFIX))) <= (time.monotonic() - begun) / 0.5 + 2
    assert documents(store) == set(range(100))


def test_an_outage_leaves_one_segment_and_not_one_for_each_attempt(
    writer: JournalWriter, store: Outage
) -> None:
    writer.append([record(0)])
    writer.flush()
    store.failing = fail(reasons.STORE_UNAVAILABLE, "s3://b", "the service is away")
    for doc_id in range(1, 11):
        writer.append([record(doc_id)])
        time.sleep(0.06)
    store.failing = None
    writer.flush()
    assert documents(store) == set(range(11))
    assert len(list(store.list(PREFIX))) <= 3


def test_closing_waits_for_a_store_that_comes_back(store: Outage, spool: Path) -> None:
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60)
    writer.append([record(0)])
    store.failing = fail(reasons.STORE_UNAVAILABLE, "s3://b", "the service is away")
    Timer(0.5, lambda: setattr(store, "failing", None)).start()
    writer.close(patience_seconds=20)
    assert documents(store) == {0}


def test_closing_does_not_wait_where_waiting_does_not_help(store: Outage, spool: Path) -> None:
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60)
    writer.append([record(0)])
    store.failing = fail(reasons.CREDENTIALS_REFUSED, "s3://b", "no")
    begun = time.monotonic()
    for _ in range(2):
        with pytest.raises(EvalrunError, match="no"):
            writer.flush()
    writer.append([record(1)])
    with pytest.raises(EvalrunError, match="no"):
        writer.close(patience_seconds=60)
    assert time.monotonic() - begun < 5
    store.failing = None
    assert documents(store) == set()
    assert adopt(store, PREFIX, spool) > 0, "what could not be stored waits for the next run"
    assert documents(store) == {0, 1}


def test_two_runs_that_answer_the_same_at_once_overwrite_nothing(
    store: Outage, tmp_path: Path
) -> None:
    seen: dict[str, bytes] = {}

    def look() -> None:
        for key in store.list(""):
            data = store.get(key)
            assert data is not None
            assert seen.setdefault(key, data) == data, f"{key} was overwritten"
        assert set(seen) <= set(store.list("")), "an object was deleted"

    # Two pods of one name would be the worst case; and both ask everything.
    def run(number: int) -> None:
        writer = JournalWriter(store, PREFIX, tmp_path / str(number), "pod", flush_seconds=0.02)
        for doc_id in range(100):
            writer.append([record(doc_id, f"of run {number}")])
            time.sleep(0.002)
        writer.close()

    threads = [Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        look()
    look()
    assert documents(store) == set(range(100))
    index = read_index(store, PREFIX)
    assert all(index.answer_to(request(doc_id)) is not None for doc_id in range(100))
    first = read_answers(store, PREFIX)
    assert first == read_answers(store, PREFIX), "two readers do not agree"


def test_a_retry_leaves_every_object_as_it_was(store: Outage, spool: Path) -> None:
    before: dict[str, bytes | None] = {}
    for attempt in range(4):
        (spool / "left").mkdir(parents=True, exist_ok=True)
        (spool / "w-000001.jsonl").write_text(record(attempt).model_dump_json() + "\n")
        adopt(store, PREFIX, spool)
        writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60)
        failed = record(50, "").model_copy(update={"error": "Empty", "attempts": attempt + 1})
        writer.append([failed, record(10 + attempt)])
        writer.close()
        now = {key: store.get(key) for key in store.list("")}
        assert {key: now.get(key) for key in before} == before
        assert len(now) == len(before) + 2
        before = now


def test_a_file_of_an_answer_is_kept_once_and_verified(store: Outage) -> None:
    sha256 = put_file(store, "default", "d", b"a picture")
    assert put_file(store, "default", "d", b"a picture") == sha256
    assert get_file(store, "default", "d", sha256) == b"a picture"
    (key,) = store.list("answers/default/d/files/")
    store.put(key, b"another picture")
    with pytest.raises(EvalrunError, match="it is not the file that was kept") as raised:
        get_file(store, "default", "d", sha256)
    assert raised.value.reason is reasons.CORRUPT_JOURNAL
    store.delete(key)
    with pytest.raises(EvalrunError, match="is not there"):
        get_file(store, "default", "d", sha256)


def test_a_record_keeps_its_round_and_its_files(store: Outage, spool: Path) -> None:
    sha256 = put_file(store, "default", "d", b"a picture")
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60)
    kept = record(0).model_copy(update={"round": 3, "files": {"step_1.png": sha256}, "batch": 1})
    writer.append([kept])
    writer.close()
    (((key, _), answer),) = read_answers(store, PREFIX).items()
    assert key.round == 3
    assert answer.files == {"step_1.png": sha256}
    assert answer.batch == 1


def test_the_writers_of_a_machine_store_one_object_an_interval_together(
    store: Outage, spool: Path
) -> None:
    writers = [JournalWriter(store, PREFIX, spool, f"w{n}", flush_seconds=1) for n in range(4)]
    begun = time.monotonic()
    for doc_id in range(200):
        writers[doc_id % 4].append([record(doc_id)])
        time.sleep(0.02)
    intervals = time.monotonic() - begun + 1
    stored = len(list(store.list(PREFIX)))
    for writer in writers:
        writer.close()
    assert stored <= intervals + 1, f"{stored} objects in {intervals:.0f} intervals"
    assert documents(store) == set(range(200))
    assert list(spool.iterdir()) == []


def test_a_writer_stores_what_another_left_but_nothing_that_is_damaged(
    store: Outage, spool: Path
) -> None:
    spool.mkdir()
    (spool / "a-000001.jsonl").write_text(record(1).model_dump_json() + "\n{torn")
    (spool / "b-000001.jsonl").write_text("nonsense\n")
    writer = JournalWriter(store, PREFIX, spool, "w", flush_seconds=60)
    writer.append([record(0)])
    writer.close()
    assert documents(store) == {0, 1}
    assert [path.name for path in spool.iterdir()] == ["b-000001.jsonl"]


def test_a_signal_between_the_last_answer_and_its_storing_loses_nothing(
    store: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, lock = MagicMock(), SimpleNamespace(answers="d", groups=[])
    setting.plan.groups, setting.plan.run.namespace = [], "default"
    setting.store, setting.places.spool, setting.writer = store, tmp_path / "spool", "w1"
    setting.report.counts = (0, 1)
    shields = iter([Stopped(), None])

    @contextmanager
    def shielded() -> Iterator[None]:
        if (signal := next(shields)) is not None:
            raise signal
        yield

    def ask(setting: object, prefix: str, answers: object, asker: object, writer: object) -> Any:
        writer.append([record(0)])  # type: ignore[attr-defined]
        return MagicMock()

    setting.stop.shielded = shielded
    monkeypatch.setattr(share, "_Share", ask)
    monkeypatch.setattr(share, "CarefulAsker", MagicMock())
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 60)
    with pytest.raises(Stopped):
        share.answer_share(setting, lock, "weights")  # type: ignore[arg-type]
    assert documents(store) == {0}
