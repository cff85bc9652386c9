"""The journal's writer and reader over a real folder store: what is durable, and when."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import Record
from evalrun_runner import journal
from evalrun_runner.answers import read_answers
from evalrun_runner.journal import JournalWriter, adopt, pack, spool_folder
from evalrun_runner.segments import read_segment
from evalrun_runner.stores import FolderStore

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
