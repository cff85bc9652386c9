"""Documents decoded ahead are the documents, and are there when they are looked up."""

from __future__ import annotations

import copy
import io
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest

from evalrun_api.journal import RequestKey
from evalrun_runner.answering.prefetch import Prefetcher, allowed_bytes, holds_images, size_of
from evalrun_runner.journal.request_list import Request

pytestmark = pytest.mark.runner

SIDE, BYTES = 64, 64 * 64 * 3


def picture(number: int) -> bytes:
    """A PNG that differs from the others."""
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def split_of(pictures: list[bytes]) -> datasets.Dataset:
    """A split with a question and a list of images for each document."""
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
        }
    )
    rows = {
        "question": [f"what is {number}?" for number in range(len(pictures))],
        "images": [[{"bytes": data, "path": None}] for data in pictures],
    }
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def split() -> datasets.Dataset:
    return split_of([picture(number) for number in range(12)])


@pytest.fixture
def make(split: datasets.Dataset) -> Iterator[Callable[..., Prefetcher]]:
    """Makes prefetchers over the split as task `t`, split `test`; closes them."""
    made: list[Prefetcher] = []

    def build(documents: Any = None, **options: Any) -> Prefetcher:
        documents = {"t": datasets.DatasetDict({"test": split})} if documents is None else documents
        made.append(Prefetcher(documents, **{"worth_seconds": 0.0, **options}))
        return made[-1]

    yield build
    for prefetcher in made:
        prefetcher.close()


def requests(*doc_ids: int, task: str = "t") -> list[Request]:
    instance = SimpleNamespace(metadata={"split": "test"})
    return [
        Request(RequestKey("g0", task, "generate_until", doc_id, 0, 0, 0), "f", instance)
        for doc_id in doc_ids
    ]


def settle(prefetcher: Prefetcher, count: int) -> None:
    """Wait until so many documents are decoded and wait to be looked up."""
    deadline = time.monotonic() + 10
    while decoded(prefetcher) != count:
        assert time.monotonic() < deadline, decoded(prefetcher)
        time.sleep(0.005)


def decoded(prefetcher: Prefetcher) -> int:
    return sum(map(len, prefetcher._decoded.values()))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two documents are of the same types and values, pixel by pixel."""
    pairs = list(zip(one["images"], other["images"], strict=True))
    return (
        list(one) == list(other)
        and one["question"] == other["question"]
        and all(type(mine) is type(theirs) for mine, theirs in pairs)
        and all(mine.tobytes() == theirs.tobytes() for mine, theirs in pairs)
    )


def test_documents_are_those_of_the_split_in_whatever_order(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    prefetcher = make()
    seen = prefetcher.view["t"]["test"]
    prefetcher.chunk(requests(0, 1, 2, 3))
    for chunk in ((3, 1, 0, 2), (7, 4, 5, 6), (8, 9, 11, 10)):
        prefetcher.chunk(requests(*(number + 4 for number in sorted(chunk) if number < 8)))
        for number in chunk:
            assert same(seen[number], split[number])


def test_a_document_decoded_ahead_is_given_without_decoding(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    prefetcher = make()
    prefetcher.chunk(requests(2, 5))
    settle(prefetcher, 2)

    def refuse(self: Any, key: Any) -> Any:
        raise AssertionError("decoded again")

    type_of = type("Refusing", (datasets.Dataset,), {"__getitem__": refuse})
    split.__class__ = type_of  # the thread has read what it was to read
    found = prefetcher.view["t"]["test"][5]
    split.__class__ = datasets.Dataset
    assert same(found, split[5])
    assert decoded(prefetcher) == 1


def test_each_look_up_gives_a_document_of_its_own(make: Callable[..., Prefetcher]) -> None:
    prefetcher = make()
    seen = prefetcher.view["t"]["test"]
    prefetcher.chunk(requests(3, 3))
    settle(prefetcher, 2)
    first = seen[3]
    before = first["images"][0].tobytes()
    first["images"][0].paste((0, 0, 0), (0, 0, SIDE, SIDE))
    first["question"] = "changed"
    for _ in range(2):  # one decoded ahead, one decoded now
        again = seen[3]
        assert again["images"][0].tobytes() == before
        assert again["question"] == "what is 3?"


def test_all_but_a_look_up_is_the_splits_own(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    prefetcher = make()
    tasks = prefetcher.view
    seen = tasks["t"]["test"]
    prefetcher.chunk(requests(0))
    assert (len(seen), seen.column_names, seen.num_rows) == (12, ["question", "images"], 12)
    assert seen[1:3]["question"] == ["what is 1?", "what is 2?"]
    assert seen[[4, 2]]["question"] == ["what is 4?", "what is 2?"]
    assert seen["question"][7] == "what is 7?"
    assert same(seen[-1], split[11])
    assert same(seen[np.int64(4)], split[4])
    assert [document["question"] for document in seen] == list(split["question"])
    assert seen.select([3])[0]["question"] == "what is 3?"
    with pytest.raises(IndexError):
        seen[12]
    with pytest.raises(KeyError):
        tasks["t"]["train"]
    assert (list(tasks), list(tasks["t"]), tasks["t"].num_rows) == (["t"], ["test"], {"test": 12})
    tasks["own"] = {"test": ["a"]}  # as visual chain of thought does
    assert tasks["own"]["test"] == ["a"]


def test_what_holds_no_images_is_left_alone(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    texts = split.remove_columns("images")
    changed = split.with_transform(lambda batch: batch)
    undecoded = split.cast_column("images", datasets.List(datasets.Image(decode=False)))
    stream = split.to_iterable_dataset()
    for documents in (["a", "b"], texts, changed, undecoded, stream):
        prefetcher = make({"t": {"test": documents}})
        prefetcher.chunk(requests(0))
        assert prefetcher._thread is None
        assert prefetcher.view["t"]["test"] is documents
    assert holds_images(split)


def test_an_error_is_met_by_the_look_up_alone(make: Callable[..., Prefetcher]) -> None:
    broken = split_of([picture(0), b"no picture", picture(2)])
    prefetcher = make({"t": {"test": broken}})
    prefetcher.chunk(requests(0, 1, 2))
    settle(prefetcher, 2)
    seen = prefetcher.view["t"]["test"]
    with pytest.raises(PIL.UnidentifiedImageError):
        seen[1]
    assert same(seen[2], broken[2])


def test_no_more_waits_than_fits_and_what_is_over_is_dropped(
    make: Callable[..., Prefetcher],
) -> None:
    prefetcher = make(max_bytes=2 * BYTES)
    seen = prefetcher.view["t"]["test"]
    prefetcher.chunk(requests(*range(6)))
    settle(prefetcher, 2)
    time.sleep(0.05)
    assert decoded(prefetcher) == 2
    seen[0]
    settle(prefetcher, 2)  # 1 and 2
    seen[1]
    settle(prefetcher, 2)
    prefetcher.chunk(requests(6))
    prefetcher.chunk([])  # the chunk of 0 to 5 is over
    prefetcher.chunk([])
    assert (decoded(prefetcher), prefetcher._bytes) == (0, 0)


def test_a_task_whose_documents_nobody_looks_up_is_no_more_decoded_ahead(
    make: Callable[..., Prefetcher],
) -> None:
    prefetcher = make()
    prefetcher.chunk(requests(0, 1))
    settle(prefetcher, 2)
    prefetcher.chunk([])
    prefetcher.chunk(requests(4, 5))
    prefetcher.chunk(requests(6, 7))
    time.sleep(0.05)
    assert decoded(prefetcher) == 0


def test_many_threads_get_what_they_ask_for(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    prefetcher = make()
    seen = prefetcher.view["t"]["test"]
    numbers = [*range(12)] * 4
    prefetcher.chunk(requests(*numbers))
    wrong: list[int] = []

    def look(mine: list[int]) -> None:
        wrong.extend(number for number in mine if not same(seen[number], split[number]))

    threads = [threading.Thread(target=look, args=(numbers[at::3],)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert decoded(prefetcher) == 0


def test_the_size_of_a_document_is_that_of_its_media(split: datasets.Dataset) -> None:
    assert size_of(split[0]) == BYTES + len("what is 0?")
    assert size_of({"a": [np.zeros(5, np.float64)], "b": b"123", "c": None}) == 43


def test_waiting_is_counted(make: Callable[..., Prefetcher], tmp_path: Path) -> None:
    prefetcher = make()
    assert prefetcher.seconds == 0
    prefetcher.view["t"]["test"][0]
    assert 0 < prefetcher.seconds < 5


@pytest.mark.parametrize(
    ("given", "mib"), [(None, 256), ("", 256), ("64", 64), ("0", 0), ("x", 256)]
)
def test_how_much_may_wait(given: str | None, mib: int) -> None:
    environment = {} if given is None else {"EVALRUN_PREFETCH_MIB": given}
    assert allowed_bytes(environment) == mib << 20


def test_nothing_is_decoded_ahead_where_nothing_may_wait(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    prefetcher = make(max_bytes=0)
    prefetcher.chunk(requests(0, 1))
    assert same(prefetcher.view["t"]["test"][0], split[0])
    assert decoded(prefetcher) == 0


def test_only_documents_that_take_long_are_decoded_ahead(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    for worth, count in ((10.0, 0), (1e-9, 2)):
        prefetcher = make(worth_seconds=worth)
        prefetcher.chunk(requests(0, 1))
        time.sleep(0.05)
        assert decoded(prefetcher) == 0  # nobody knows yet
        assert same(prefetcher.view["t"]["test"][0], split[0])
        prefetcher.chunk(requests(4, 5))
        settle(prefetcher, count)


def test_a_copy_and_a_forked_process_have_the_plain_documents(
    make: Callable[..., Prefetcher], split: datasets.Dataset
) -> None:
    prefetcher = make()
    prefetcher.chunk(requests(0, 1))
    for copied in (copy.deepcopy(prefetcher.view), pickle.loads(pickle.dumps(prefetcher.view))):
        assert type(copied) is dict
        assert same(copied["t"]["test"][1], split[1])
    settle(prefetcher, 2)
    prefetcher._process = -1  # as a forked process sees it
    assert same(prefetcher.view["t"]["test"][0], split[0])
    assert decoded(prefetcher) == 2


def test_a_backend_may_add_splits_of_its_own(make: Callable[..., Prefetcher]) -> None:
    prefetcher = make()
    prefetcher.view["own"] = {}
    prefetcher.view["own"]["test"] = {}
    prefetcher.view["own"]["test"][3] = {"image": "drawn"}
    assert prefetcher.view["own"]["test"][3] == {"image": "drawn"}
    del prefetcher.view["own"]["test"]
    assert list(prefetcher.view["own"]) == []
