"""The journal's writer and reader over a real folder store: what is durable, and when."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread, Timer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import Record, RequestKey
from evalrun_runner import journal
from evalrun_runner.answer_files import get_file, put_file
from evalrun_runner.answers import Index, read_answers, read_index
from evalrun_runner.journal import JournalWriter, adopt, pack, spool_folder
from evalrun_runner.request_list import Request
from evalrun_runner.segments import read_segment
from evalrun_runner.stores import MAX_OBJECT_BYTES, FolderStore

pytestmark = pytest.mark.decisions

PREFIX = "answers/default/d/segments/"


def record(doc_id: int, response: object = "red") -> Record:
    return Record(
        group="g0",
        task="t",
        request_type="generate_until",
        doc_id=doc_id,
        idx=0,
        fingerprint="f" * 32,
        response=response,
    )


class Outage(FolderStore):
    """A store that can fail on demand."""

    failing: EvalrunError | None = None

    def create(self, key: str, data: bytes) -> bool:
        if self.failing:
            raise self.failing
        return super().create(key, data)

    failing_reads = 0

    def get(self, key: str, limit: int = MAX_OBJECT_BYTES) -> bytes | None:
        if self.failing_reads > 0:
            self.failing_reads -= 1
            raise fail(reasons.STORE_UNAVAILABLE, key, "the service is away")
        return super().get(key, limit)


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


def put(store: FolderStore, name: str, *records: Record) -> None:
    lines = b"".join(entry.model_dump_json(by_alias=True).encode() + b"\n" for entry in records)
    store.put(f"{PREFIX}{name}.jsonl.zst", pack(lines))


def request(doc_id: int, fingerprint: str = "f" * 32) -> Request:
    return Request(record(doc_id).key, fingerprint, None)


def documents(store: FolderStore) -> set[int]:
    return {key.doc_id for key, _ in read_answers(store, PREFIX)}


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


def test_a_good_answer_counts_before_a_failed_one_whatever_the_names(store: Outage) -> None:
    failed = record(0, "").model_copy(update={"error": "Empty", "attempts": 1})
    store.put(f"{PREFIX}a.jsonl.zst", pack(failed.model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert not answer.is_final
    twice = failed.model_copy(update={"attempts": 2})
    store.put(f"{PREFIX}b.jsonl.zst", pack(twice.model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert answer.is_final, "a model may say nothing; it is asked twice, not for ever"
    store.put(f"{PREFIX}c.jsonl.zst", pack(record(0).model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert answer.response == "red"


def test_an_answer_to_another_prompt_does_not_hide_the_right_one(store: Outage) -> None:
    other = record(0, "blue").model_copy(update={"fingerprint": "0" * 32})
    store.put(f"{PREFIX}a.jsonl.zst", pack(other.model_dump_json().encode() + b"\n"))
    store.put(f"{PREFIX}b.jsonl.zst", pack(record(0).model_dump_json().encode() + b"\n"))
    assert read_answers(store, PREFIX)[record(0).key, "f" * 32].response == "red"


def test_the_smaller_segment_name_wins_whatever_was_written_first(store: Outage) -> None:
    store.put(f"{PREFIX}b-1.jsonl.zst", pack(record(0, "late").model_dump_json().encode() + b"\n"))
    store.put(f"{PREFIX}a-1.jsonl.zst", pack(record(0, "early").model_dump_json().encode() + b"\n"))
    (answer,) = read_answers(store, PREFIX).values()
    assert answer.response == "early"


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

    monkeypatch.setattr(journal, "MAX_UNSTORED_SECONDS", 0.1)
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
from evalrun_runner.journal import JournalWriter
from evalrun_runner.segments import read_segment
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


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_torn_segment_gives_whole_records_only(share: float) -> None:
    lines = b"".join(
        record(n, f"answer {n * 7919}").model_dump_json().encode() + b"\n" for n in range(500)
    )
    whole = pack(lines)
    found = list(read_segment(whole[: int(len(whole) * share)], "segment"))
    assert [entry.doc_id for entry in found] == list(range(len(found)))
    assert len(found) < 500


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


def test_the_index_says_what_the_answers_say(store: Outage) -> None:
    failed = record(1, "").model_copy(update={"error": "Empty", "attempts": 1})
    put(store, "a", failed, record(2), record(3).model_copy(update={"round": 2}))
    put(store, "b", record(1).model_copy(update={"fingerprint": "0" * 32}), failed)
    put(store, "c", failed.model_copy(update={"attempts": 2}), record(2, "later"))
    answers, index = read_answers(store, PREFIX), read_index(store, PREFIX)
    assert len(index) == len(answers) == 4
    for (key, fingerprint), answer in answers.items():
        outcome = index.answer_to(Request(key, fingerprint, None))
        assert outcome == answer.outcome
        assert outcome.is_final is answer.is_final
    assert index.answer_to(request(3)) is None, "another round answers another question"
    assert index.answer_to(request(1)) == ("Empty", 2)


@given(keys=st.lists(st.from_type(RequestKey), min_size=2, max_size=2, unique=True))
def test_two_requests_are_never_taken_for_one(keys: list[RequestKey]) -> None:
    index = Index()
    first, second = keys
    entry = record(0).model_copy(update=first._asdict()).model_dump(by_alias=True)
    index.add(entry)
    assert index.answer_to(Request(first, "f" * 32, None)) is not None
    assert index.answer_to(Request(second, "f" * 32, None)) is None


def test_only_the_answers_of_the_tasks_that_are_asked_for_are_kept(store: Outage) -> None:
    put(store, "a", record(0), record(1).model_copy(update={"task": "other"}))
    assert {key.task for key, _ in read_answers(store, PREFIX, {"other"})} == {"other"}
    assert len(read_answers(store, PREFIX)) == 2


GOOD = record(0).model_dump_json(by_alias=True)


@pytest.mark.parametrize("read", [read_answers, read_index])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "it is not a journal record"),
        ("", "it is not a journal record"),
        ("[]", "it is not a journal record"),
        (f"{GOOD},{GOOD}", "it is not a journal record"),
        (GOOD.replace('"docId":0', '"docId":"x"'), "it is not a journal record"),
        (GOOD.replace('"docId":0,', ""), "it is not a journal record"),
        (GOOD.replace("{", '{"surprise":1,', 1), "it is not a journal record"),
        (GOOD.replace('"error":null', '"error":"Bored"'), "it is not a journal record"),
        (GOOD.replace('"v":1', '"v":2'), "has format 2, this release reads 1.* or a later one"),
        (GOOD.replace('"v":1', '"v":0'), "has format 0, this release reads 1"),
    ],
)
def test_what_is_no_record_of_this_release_is_refused_with_its_line(
    store: Outage, read: Callable[[FolderStore, str], object], line: str, said: str
) -> None:
    lines = [GOOD] * 300 + [line, GOOD]
    store.put(f"{PREFIX}a.jsonl.zst", pack("\n".join(lines).encode() + b"\n"))
    with pytest.raises(EvalrunError, match=rf"a\.jsonl\.zst, line 301: .*{said}") as raised:
        read(store, PREFIX)
    assert raised.value.reason is reasons.CORRUPT_JOURNAL


def test_a_segment_that_cannot_be_unpacked_is_refused(store: Outage) -> None:
    put(store, "a", *map(record, range(200)))
    data = bytearray(store.get(f"{PREFIX}a.jsonl.zst") or b"")
    data[len(data) // 2] ^= 0xFF
    store.put(f"{PREFIX}a.jsonl.zst", bytes(data))
    with pytest.raises(EvalrunError, match=r"a\.jsonl\.zst: it"):
        read_index(store, PREFIX)


def test_a_store_that_fails_while_a_journal_is_opened_is_tried_again(store: Outage) -> None:
    put(store, "a", record(0))
    store.failing_reads = 2
    assert len(read_index(store, PREFIX)) == 1


def test_what_is_no_segment_is_not_read(store: Outage) -> None:
    put(store, "a", record(0))
    store.put(f"{PREFIX}README", b"what people put anywhere")
    assert len(read_index(store, PREFIX)) == 1


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
