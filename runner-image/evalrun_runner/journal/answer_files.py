"""Files that belong to answers, such as the images of a visual chain of thought.

They lie beside the journal's segments under their sha256, so that two answers that drew the same
picture share it and nothing is ever overwritten. A record names them in `files`.
"""

from __future__ import annotations

import hashlib

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_runner import layout
from evalrun_runner.stores import Store
from evalrun_runner.stores.patience import patiently

MAX_FILE_BYTES = 256 << 20
STORE_SECONDS = 120.0
"""How long a store may fail before the answer, and the run with it, is given up."""


def put_file(store: Store, namespace: str, digest: str, data: bytes) -> str:
    """Keep a file of an answer; its sha256. After return it is durable.

    To be called before the record that names it is journaled, or a reader may find the name alone.
    digest: of the answers. Raises `EvalrunError`.
    """
    if len(data) > MAX_FILE_BYTES:
        what = f"a file of an answer has {len(data)} bytes, more than {MAX_FILE_BYTES}"
        raise fail(reasons.BACKEND_UNUSABLE, layout.files(namespace, digest), what)
    sha256 = hashlib.sha256(data).hexdigest()
    key = layout.files(namespace, digest) + sha256
    patiently(lambda: store.create(key, data), STORE_SECONDS)
    return sha256


def get_file(store: Store, namespace: str, digest: str, sha256: str) -> bytes:
    """The file of an answer; raises `EvalrunError` when it is not there or not what was kept."""
    key = layout.files(namespace, digest) + sha256
    data = store.get(key, MAX_FILE_BYTES)
    if data is None:
        what = "a file that an answer names is not there"
        remedy = "Restore it, or move the segment that names it away: its answers are asked again"
        raise fail(reasons.CORRUPT_JOURNAL, store.uri(key), what, remedy)
    if hashlib.sha256(data).hexdigest() != sha256:
        what = "it is not the file that was kept (its sha256 is not its name)"
        remedy = "Move it and the segments that name it away: their answers are asked again"
        raise fail(reasons.CORRUPT_JOURNAL, store.uri(key), what, remedy)
    return data
