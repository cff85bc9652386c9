"""The names that this release's lmms-eval knows, so that a typing error is found without it.

`data/lmms_eval_index.json` is generated from the pinned lmms-eval by `make generate`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from functools import cache, cached_property
from importlib import resources
from typing import Annotated

from pydantic import Field

from evalrun_api.document import Document


class NameIndex(Document):
    """Names by kind. `backends` includes aliases."""

    lmms_eval: str
    tasks: Annotated[list[str], Field(min_length=1)]
    groups: list[str]
    tags: list[str]
    backends: Annotated[list[str], Field(min_length=1)]

    @cached_property
    def benchmarks(self) -> frozenset[str]:
        """Everything that may stand in `spec.benchmarks[].name`."""
        return frozenset(self.tasks) | frozenset(self.groups) | frozenset(self.tags)


@cache
def builtin_index() -> NameIndex:
    """The index of the pinned lmms-eval."""
    text = (resources.files("evalrun_api") / "data" / "lmms_eval_index.json").read_text()
    return NameIndex.model_validate(json.loads(text))


MAX_HINTS = 5
"""Of one list of faults. Each takes tens of milliseconds, and who names thousands knows why."""


def near(name: str, known: Iterable[str], count: int = 3) -> str:
    """'Did you mean …?' for a name that is not known, or where to look when nothing is near."""
    names = sorted(known)
    by_folded = {entry.lower(): entry for entry in names}
    close = difflib.get_close_matches(name.lower(), by_folded, n=count, cutoff=0.6)
    if not close:
        close = [folded for folded in by_folded if name.lower() in folded][:count]
    if not close:
        return "no name is near it"
    return "did you mean " + " or ".join(by_folded[entry] for entry in close) + "?"
