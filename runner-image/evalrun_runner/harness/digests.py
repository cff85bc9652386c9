"""Digests of a benchmark's documents, from their content.

`datasets`' own fingerprint depends on local file times, so it cannot tell whether two machines
look at the same documents. The digest here depends on column names and values alone.
"""

from __future__ import annotations

import hashlib
from typing import Any

from evalrun_api.digests import feed, feed_each

_ROWS_AT_ONCE = 256
_known: dict[str, str] = {}


def documents_digest(dataset: Any) -> str:
    """sha256 over a split as the model sees it (a `datasets.Dataset`, or a list of documents).

    Media are fed as stored (encoded bytes or paths), never decoded. The three steps of one process
    ask for the same split; `datasets`' fingerprint is good enough to recognise it within one.
    """
    local = getattr(dataset, "_fingerprint", None)
    if local in _known:
        return _known[local]
    hasher = hashlib.sha256()
    if hasattr(dataset, "with_format"):
        columns = sorted(dataset.column_names)
        feed(hasher, columns)
        arrow = dataset.with_format("arrow")
        for start in range(0, len(dataset), _ROWS_AT_ONCE):
            table = arrow[start : start + _ROWS_AT_ONCE]
            for column in columns:
                values = table.column(column)  # one by one: each may be a long video
                feed_each(hasher, len(values), (value.as_py() for value in values))
    else:
        for document in dataset:
            feed(hasher, document)
    result = hasher.hexdigest()
    if local is not None:
        _known[local] = result
    return result
