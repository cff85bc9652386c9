"""Images that a model drew while it thought: kept with its answers, and given back for scoring.

A backend for visual chains of thought writes image files and names them in its answer, as such or
in JSON. They are gone with the pod. So they are stored beside the journal before the answer is;
to be scored, the answer speaks of copies on this machine, and the results of the names it had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalrun_api.journal import Record
from evalrun_runner.journal.answer_files import get_file, put_file
from evalrun_runner.journal.reading import Answer
from evalrun_runner.stores import Store

VISUAL = "generate_visual_cot"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Nothing else is taken: an answer is a model's text, and may name any file of the machine."""
MAX_NAME = 4096


def named_files(value: Any) -> set[str]:
    """Image files of this machine that an answer names: a whole string, or one within JSON text."""
    return {name for name in _names(value) if _is_image(name)}


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for entry in value.values():
            yield from _names(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _names(entry)
    elif isinstance(value, str):
        yield value
        if value.lstrip()[:1] in ("{", "["):
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                return
            yield from _names(inner)


def _is_image(name: str) -> bool:
    if not 0 < len(name) <= MAX_NAME or "/" not in name or not name.lower().endswith(SUFFIXES):
        return False
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def renamed(value: Any, names: dict[str, str]) -> Any:
    """An answer with other names for its files. Longest first: a name may be part of another."""
    if isinstance(value, dict):
        return {key: renamed(entry, names) for key, entry in value.items()}
    if isinstance(value, list):
        return [renamed(entry, names) for entry in value]
    if isinstance(value, tuple):
        return tuple(renamed(entry, names) for entry in value)
    if isinstance(value, str):
        for name in sorted(names, key=len, reverse=True):
            value = value.replace(name, names[name])
            value = value.replace(json.dumps(name)[1:-1], json.dumps(names[name])[1:-1])
    return value


class KeptImages:
    """The images of one journal's answers.

    digest: of the answers. folder: where they are put for scoring.
    """

    def __init__(self, store: Store, namespace: str, digest: str, folder: Path) -> None:
        self._store, self._namespace, self._digest = store, namespace, digest
        self._folder = folder
        self._originals: dict[str, str] = {}

    def keep(self, record: Record) -> Record:
        """Store what a record's answer names; the record with their digests."""
        if record.request_type != VISUAL:
            return record
        files = {name: self._put(Path(name)) for name in sorted(named_files(record.response))}
        return record.model_copy(update={"files": files}) if files else record

    def _put(self, path: Path) -> str:
        return put_file(self._store, self._namespace, self._digest, path.read_bytes())

    def give_back(self, answer: Answer) -> Any:
        """The response, with its files on this machine."""
        if not answer.files:
            return answer.response
        names = {}
        for name, sha256 in answer.files.items():
            # A folder for each answer's name, so that two names of one image stay two files
            path = self._folder / sha256 / Path(name).name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                data = get_file(self._store, self._namespace, self._digest, sha256)
                partial = path.parent / ".partial"  # a scorer that was killed left no half image
                partial.write_bytes(data)
                partial.replace(path)
            names[name] = str(path)
            self._originals.setdefault(str(path), name)
        return renamed(answer.response, names)

    def with_first_names(self, samples: Any) -> Any:
        """lmms-eval's samples as they would speak of the files where they were made."""
        return renamed(samples, self._originals) if self._originals else samples
