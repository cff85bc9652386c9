"""Which store, and which namespace in it, `evalrun gc` looks at."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalrun_api.errors import Fault, Refused
from evalrun_cli.destination import StoreChoice
from evalrun_cli.listing import existing_store
from evalrun_cli.manifests import read_files
from evalrun_cli.preparation import Request, prepare
from evalrun_runner.local import Store


@dataclass(frozen=True)
class GcPlace:
    """An opened store, and a namespace."""

    store: Store
    namespace: str


def find(
    named: Sequence[str], choice: StoreChoice, given: Sequence[str], namespace: str
) -> GcPlace:
    """The store that is named, that the manifests' run names, or that of the options.

    Raises `EvalrunError`.
    """
    if len(named) == 1 and is_store(named[0]):
        if choice.uri is not None:
            what = f"the store is named twice: {named[0]} and {choice.uri}"
            raise Refused([Fault("--store", what, "Leave one of the two out")])
        return GcPlace(existing_store(replace(choice, uri=named[0])), namespace)
    if not named:
        return GcPlace(existing_store(choice), namespace)
    directory = Path.cwd()
    request = Request(read_files(named, directory), None, given, choice, False, None)
    plan = prepare(request, str(uuid.uuid4()), directory, dry=True).planned.plan
    chosen = StoreChoice(plan.store.uri, plan.store.endpoint, plan.store.region)
    return GcPlace(existing_store(chosen), plan.run.namespace)


def is_store(text: str) -> bool:
    """Whether it is an address or a folder, and not a manifest."""
    return "://" in text or Path(text).expanduser().is_dir()
