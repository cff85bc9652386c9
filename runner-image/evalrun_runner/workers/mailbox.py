"""A worker's folder, through which it and its supervisor know of each other.

Files, not the network: they outlive a worker that is killed, and cost nothing while nobody reads.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from evalrun_api.document import Document
from evalrun_api.journal import ErrorClass
from evalrun_api.progress import Count, Seconds
from evalrun_runner.workers.poison import Death

MAX_BYTES = 4 << 20
"""Of one file; a worker runs foreign code, which may write anything."""


class TaskCounts(Document):
    """How far a worker is with its share of one task."""

    name: Annotated[str, Field(max_length=300)]
    total: Count
    reused: Count = 0
    computed: Count = 0


class WorkerState(Document):
    """What a worker says of itself.

    seconds: wall time by stage. store_failures: by reason. reason, message: why it ended; "Running"
    before that.
    """

    activity: Annotated[str, Field(max_length=300)] = "starting"
    tasks: Annotated[list[TaskCounts], Field(max_length=20_000)] = Field(default_factory=list)
    errors: dict[ErrorClass, Count] = Field(default_factory=dict)
    seconds: Annotated[
        dict[Annotated[str, Field(max_length=64)], Seconds], Field(max_length=64)
    ] = Field(default_factory=dict)
    store_failures: Annotated[
        dict[Annotated[str, Field(max_length=64)], Count], Field(max_length=64)
    ] = Field(default_factory=dict)
    reason: Annotated[str, Field(max_length=64)] = "Running"
    message: Annotated[str, Field(max_length=2048)] = ""


class InHand(Document):
    """What a worker is asking at this moment.

    marks: of the requests (`poison.mark`); none between two calls of the backend.
    finished: requests that this life has had answered before.
    deadline: when an answer is due at last; of the machine's monotonic clock.
    """

    marks: Annotated[list[Annotated[str, Field(max_length=16)]], Field(max_length=100_000)] = Field(
        default_factory=list
    )
    finished: Count = 0
    deadline: float = 0.0


_DEATHS: TypeAdapter[list[Death]] = TypeAdapter(list[Death])


class Mailbox:
    """The folder of one worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "state.json"
        self._in_hand = folder / "in-hand.json"
        self._deaths = folder / "deaths.json"
        self._held: int | None = None  # a descriptor, kept open for as long as the worker lives
        self._held_bytes = 0

    def begin_life(self) -> None:
        """Make the folder ready for a worker that knows nothing of the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._held is not None:
            os.close(self._held)
        self._held, self._held_bytes = None, 0
        for path in (self._state, self._in_hand):
            path.unlink(missing_ok=True)

    def tell(self, state: WorkerState) -> None:
        """Say how far the worker is."""
        _replace(self._state, state.model_dump_json(by_alias=True).encode())

    def state(self) -> WorkerState | None:
        """What the worker said last; None if that was nothing, or nonsense."""
        try:
            return WorkerState.model_validate_json(_read(self._state))
        except (OSError, ValidationError):
            return None

    def hold(self, in_hand: InHand) -> None:
        """Note what is being asked, before it is.

        Written over the note before in one call, since this happens twice for every chunk: a
        reader may meet a part of it, which it takes for nothing, a killed worker leaves it whole.
        """
        text = in_hand.model_dump_json(by_alias=True, exclude_defaults=True).encode()
        with suppress(OSError):
            if self._held is None:
                self._held = os.open(self._in_hand, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.pwrite(self._held, text.ljust(self._held_bytes), 0)
            self._held_bytes = max(self._held_bytes, len(text))

    def in_hand(self) -> InHand:
        """What the worker was asking last."""
        try:
            return InHand.model_validate_json(_read(self._in_hand))
        except (OSError, ValidationError):
            return InHand()

    def write_deaths(self, deaths: list[Death]) -> None:
        """Leave the next life what the ones before died of."""
        _replace(self._deaths, _DEATHS.dump_json(deaths))

    def deaths(self) -> list[Death]:
        """What the lives before died of."""
        try:
            return _DEATHS.validate_json(_read(self._deaths))
        except (OSError, ValidationError):
            return []


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES)


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that no reader sees a part of it. A full disk must not end a worker."""
    with suppress(OSError):
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)
