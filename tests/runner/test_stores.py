"""One interface, two real stores: a folder and an S3 server."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.errors import EvalrunError
from evalrun_api.plan import StorePlan
from evalrun_runner.stores import FolderStore, Store, open_store

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return open_store(request.getfixturevalue("s3").plan())


def test_what_is_put_is_got_and_listed(store: Store) -> None:
    assert store.get("a/b.json") is None
    store.put("a/b.json", b"1")
    store.put("a/b.json", b"2")
    store.put("a/c/d.json", b"3")
    store.put("ab", b"4")
    assert store.get("a/b.json") == b"2"
    assert list(store.list("a/")) == ["a/b.json", "a/c/d.json"]
    assert list(store.list("a")) == ["a/b.json", "a/c/d.json", "ab"]
    assert list(store.list("nothing/")) == []


def test_of_many_that_create_an_object_at_once_exactly_one_does(store: Store) -> None:
    outcomes: list[bool] = []
    barrier = threading.Barrier(8)

    def create(content: bytes) -> None:
        barrier.wait()
        outcomes.append(store.create("lock.json", content))

    threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    winner = store.get("lock.json")
    assert store.create("lock.json", b"later") is False
    assert store.get("lock.json") == winner


def test_more_than_a_page_of_objects_is_listed(store: Store) -> None:
    for number in range(1005):
        store.put(f"many/{number:05d}", b"")
    assert sum(1 for _ in store.list("many/")) == 1005


def test_a_checked_store_is_left_empty(store: Store) -> None:
    store.check()
    assert list(store.list("")) == []


def test_a_key_cannot_leave_a_folder(tmp_path: Path) -> None:
    with pytest.raises(EvalrunError, match="leaves the store"):
        FolderStore(tmp_path / "store").put("../escaped", b"")


@pytest.mark.parametrize("uri", ["http://x/y", "file://host/x", "nonsense"])
def test_an_address_that_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(EvalrunError, match="Use s3://BUCKET/PREFIX or file://"):
        open_store(StorePlan(uri=uri))


def test_unfinished_writes_are_never_listed(tmp_path: Path, s3: Any) -> None:
    folder = FolderStore(tmp_path / "store")
    folder.put("a/b", b"1")
    (tmp_path / "store" / "a" / ".writing-x").write_bytes(b"half")
    assert list(folder.list("")) == ["a/b"]


def test_objects_are_listed_with_their_sizes_and_times(store: Store) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=2)
    store.put("a/one", b"12345")
    store.put("a/two", b"")
    found = list(store.objects("a/"))
    assert [(entry.key, entry.bytes) for entry in found] == [("a/one", 5), ("a/two", 0)]
    assert all(begun <= entry.modified <= datetime.now(UTC) for entry in found)


def test_what_is_deleted_is_gone_and_the_rest_is_not(store: Store) -> None:
    store.put("a/b/one", b"1")
    store.put("a/two", b"2")
    store.delete("a/b/one")
    store.delete("a/b/one")
    store.delete("never/was")
    assert list(store.list("")) == ["a/two"]
    store.put("a/b/one", b"again")
    assert store.get("a/b/one") == b"again"


def test_a_folder_shows_the_leftovers_of_killed_writers_apart(tmp_path: Path) -> None:
    folder = FolderStore(tmp_path / "store")
    folder.put("a/b", b"1")
    (tmp_path / "store" / "a" / ".writing-x").write_bytes(b"half")
    (tmp_path / "store" / ".hidden").write_bytes(b"someone else's")
    (left,) = folder.leftovers()
    assert (left.key, left.bytes) == ("a/.writing-x", 4)
    folder.delete(left.key)
    assert list(folder.leftovers()) == []
    assert list(folder.list("")) == ["a/b"]


def test_a_bucket_shows_the_leftovers_of_killed_checks(s3: Any) -> None:
    store = open_store(s3.plan())
    store.put("a/b", b"1")
    store.put(".check-0123", b"")
    assert [left.key for left in store.leftovers()] == [".check-0123"]
