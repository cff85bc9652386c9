"""Images that a model drew while it thought: kept with its answers, and given back for scoring.

A backend for visual chains of thought writes image files and names them in its answer, as such or
in JSON. They are gone with the pod. So they are stored beside the journal before the answer is;
to be scored, the answer speaks of copies on this machine, and the results of the names it had.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from evalrun_api.journal import Record
from evalrun_runner.failures import printable
from evalrun_runner.journal.answer_files import get_file, put_file
from evalrun_runner.journal.reading import Answer
from evalrun_runner.stores import Store

log = logging.getLogger(__name__)

VISUAL = "generate_visual_cot"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Nothing else is taken: an answer is a model's text, and may name any file of the machine."""
MAX_NAME = 4096
MAX_SAID = 300


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
    ordered = sorted(names, key=len, reverse=True)

    def rename(text: str) -> str:
        for name in ordered:
            text = text.replace(name, names[name])
            text = text.replace(_in_json(name), _in_json(names[name]))
        return text

    return _changed(value, rename)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text in it changed."""
    if isinstance(value, dict):
        return {key: _changed(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [_changed(entry, change) for entry in value]
    if isinstance(value, tuple):
        return tuple(_changed(entry, change) for entry in value)
    return change(value) if isinstance(value, str) else value


def _in_json(name: str) -> str:
    return json.dumps(name)[1:-1]


class KeptImages:
    """The images of one journal's answers.

    digest: of the answers. folder: where they are put for scoring.
    """

    def __init__(self, store: Store, namespace: str, digest: str, folder: Path) -> None:
        self._store, self._namespace, self._digest = store, namespace, digest
        self._folder = folder
        self._originals: dict[str, str] = {}

    def keep(self, record: Record) -> Record:
        """Store what a record's answer names; the record with their digests.

        An answer whose images cannot be read is none: the next start asks again.
        """
        if record.request_type != VISUAL:
            return record
        files = {}
        for name in sorted(named_files(record.response)):
            try:
                data = Path(name).read_bytes()
            except OSError as error:
                said = printable(f"its image {name} cannot be read: {error.strerror}", MAX_SAID)
                failed = {"error": record.error or "BackendError", "said": record.said or said}
                log.warning("an answer's image cannot be read", extra={"said": said})
                return record.model_copy(update=failed)
            files[name] = put_file(self._store, self._namespace, self._digest, data)
        return record.model_copy(update={"files": files}) if files else record

    def give_back(self, answer: Answer) -> Any:
        """The response, with its files on this machine."""
        if not answer.files:
            return answer.response
        names = {}
        for name, sha256 in answer.files.items():
            path = self.copy_of(sha256, name)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                data = get_file(self._store, self._namespace, self._digest, sha256)
                partial = path.parent / ".partial"  # a scorer that was killed left no half image
                partial.write_bytes(data)
                partial.replace(path)
            names[name] = str(path)
            self._originals.setdefault(str(path), name)
        return renamed(answer.response, names)

    def copy_of(self, sha256: str, name: str) -> Path:
        """Where an image is put: a folder for each, so two names of one image stay two files."""
        folder = hashlib.sha256(f"{sha256} {name}".encode()).hexdigest()
        return self._folder / folder / Path(name).name

    def with_first_names(self, samples: Any) -> Any:
        """lmms-eval's samples as they would speak of the files where they were made."""
        if not self._originals:
            return samples
        return _changed(samples, _FirstNames(self._folder, self._originals).restore)


class _FirstNames:
    """Copies' names in a text, and the names that the files had. A run has thousands of both, so
    each is found by its folder.

    originals: the first name of each copy, which lies in a folder of its own beneath `folder`.
    """

    def __init__(self, folder: Path, originals: dict[str, str]) -> None:
        self._forms: dict[str, list[tuple[str, str]]] = {
            Path(copy).parent.name: [(copy, name), (_in_json(copy), _in_json(name))]
            for copy, name in originals.items()
        }
        folders = "|".join(map(re.escape, {str(folder), _in_json(str(folder))}))
        self._copy = re.compile(f"(?:{folders})/([0-9a-f]{{64}})/")

    def restore(self, text: str) -> str:
        parts, done = [], 0
        for found in self._copy.finditer(text):
            for copy, name in self._forms.get(found[1], ()):
                if text.startswith(copy, found.start()):
                    parts += [text[done : found.start()], name]
                    done = found.start() + len(copy)
                    break
        return "".join([*parts, text[done:]])
