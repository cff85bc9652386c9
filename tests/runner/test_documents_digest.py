"""The digest of a benchmark's documents: of their content, in little memory."""

from __future__ import annotations

import datetime
import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest

from evalrun_api.digests import feed

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


def test_it_is_that_of_each_columns_values_and_holds_one_of_them(tmp_path: Path) -> None:
    from datasets import Dataset

    from evalrun_runner.harness.digests import documents_digest

    day = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    rows = [
        {"n": n, "said": None if n % 7 else "\u00e9", "of": {"day": day, "parts": [0.5, n]}}
        for n in range(300)
    ]
    dataset = Dataset.from_list(rows)
    hasher = hashlib.sha256()
    columns = sorted(dataset.column_names)
    feed(hasher, columns)
    for part in (dataset[:256], dataset[256:]):
        for column in columns:
            feed(hasher, part[column])
    assert documents_digest(dataset) == hasher.hexdigest()

    size = 2 << 20
    videos = Dataset.from_list([{"video": os.urandom(size)} for _ in range(40)])
    videos.save_to_disk(str(tmp_path / "videos"))
    read = Dataset.load_from_disk(str(tmp_path / "videos"))
    del videos
    tracemalloc.start()
    documents_digest(read)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * size
