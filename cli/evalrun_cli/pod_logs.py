"""Which pods of a run to read, and their logs for people: pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from rich.text import Text

from evalrun_api.errors import Fault, Refused
from evalrun_api.names import CONTAINER, STEP_LABEL
from evalrun_cli.plain_text import clean, one_line
from evalrun_cli.run_state import Doc, block, entries

INDEX: Final = "batch.kubernetes.io/job-completion-index"
EVERY_STEP: Final = "all"
"""The step of a pod that does all three."""

KNOWN = ("time", "level", "logger", "message", "run", "step", "namespace", "uid", "traceback")
"""Fields of a log line that are not shown as key=value."""
STYLES = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}


class StepChoice(StrEnum):
    """A step of a run."""

    PREPARE = "prepare"
    ANSWER = "answer"
    SCORE = "score"


ORDER = {"prepare": 0, EVERY_STEP: 1, "answer": 1, "score": 2}


@dataclass(frozen=True)
class Attempt:
    """A pod of a run. shard: None where the step has no shards. begun: its container has begun.

    ended: it writes nothing any more. waiting: why it has not begun.
    """

    pod: str
    step: str
    shard: int | None
    created: str
    begun: bool
    ended: bool
    waiting: str

    @property
    def label(self) -> str:
        """Before each of its lines, where several pods write."""
        if self.shard is None or self.step in ("prepare", "score"):
            return self.step
        return f"{self.step}/{self.shard}"

    @property
    def place(self) -> tuple[int, int, str]:
        """Sorts by step, shard and age."""
        return (ORDER.get(self.step, 3), self.shard if self.shard is not None else -1, self.created)


def attempt(pod: Doc) -> Attempt:
    """What is to be known of a pod."""
    metadata, status = block(pod, "metadata"), block(pod, "status")
    labels, annotations = block(metadata, "labels"), block(metadata, "annotations")
    index = str(labels.get(INDEX, annotations.get(INDEX, "")))
    state: dict[str, Any] = {}
    for container in entries(status, "containerStatuses"):
        if container.get("name") == CONTAINER:
            state = block(container, "state")
    ended = "terminated" in state or status.get("phase") in ("Succeeded", "Failed")
    return Attempt(
        pod=one_line(metadata.get("name")),
        step=one_line(labels.get(STEP_LABEL)),
        shard=int(index) if index.isdecimal() else None,
        created=str(metadata.get("creationTimestamp", "")),
        begun="running" in state or "terminated" in state,
        ended=ended,
        waiting=_waiting(status, block(state, "waiting")),
    )


def _waiting(status: Doc, waiting: Doc) -> str:
    if waiting:
        text = one_line(waiting.get("message"), 200)
        return one_line(waiting.get("reason")) + (f": {text}" if text else "")
    for found in entries(status, "conditions"):
        if found.get("type") == "PodScheduled" and found.get("status") == "False":
            return one_line(found.get("message"), 200) or "it is not scheduled yet"
    return one_line(status.get("message"), 200)


def wanted(
    pods: Iterable[Doc], step: str | None, shard: int | None, *, every: bool
) -> list[Attempt]:
    """The pods to read, in the order of the steps; the latest attempt of each shard unless `every`.

    A pod that does all three steps is part of each.
    """
    found = sorted((attempt(pod) for pod in pods), key=lambda entry: entry.place)
    chosen = [
        entry
        for entry in found
        if (step is None or entry.step in (step, EVERY_STEP))
        and (shard is None or entry.shard == shard or (entry.shard is None and shard == 0))
    ]
    if every:
        return chosen
    latest = {(entry.step, entry.shard): entry for entry in chosen}
    return list(latest.values())


def nothing_to_read(
    name: str, pods: Sequence[Doc], step: str | None, shard: int | None, *, finished: bool
) -> Refused:
    """The error when no pod is there that was asked for."""
    found = [attempt(pod) for pod in pods]
    if not found:
        what = "the run has no pods"
        remedy = "They are made when it starts: evalrun watch says what it waits for"
        if finished:
            what += " any more"
            remedy = "Its logs went with them; spec.ttlSecondsAfterFinished says how long they stay"
        return Refused([Fault(name, what, remedy)])
    steps = ", ".join(sorted({entry.step for entry in found}, key=lambda it: ORDER.get(it, 3)))
    shards = sorted({entry.shard for entry in found if entry.shard is not None})
    if shard is not None and shards:
        what = f"no pod of shard {shard}" + (f" and step {step}" if step else "")
        remedy = f"Its shards: {_ranges(shards)}"
        return Refused([Fault("--shard", what, remedy)])
    return Refused([Fault("--step", f"no pod of step {step}", f"Steps that have pods: {steps}")])


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as 0-3,5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(str(end) for end in part) for part in parts)


def split_stamp(line: bytes) -> tuple[str, str]:
    """A line of a log that was asked for with timestamps: the kubelet's time, and the line."""
    stamp, _, text = line.decode(errors="replace").rstrip("\r").partition(" ")
    return stamp, text


def rendered(line: str, label: str = "") -> Text:
    """A line of the runner for people; one that is not of its form stays as it is."""
    prefix = Text(f"{label:<10} ", style="cyan") if label else Text()
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, Mapping) or "message" not in entry:
        return prefix + Text(clean(line))
    level = one_line(entry.get("level"), 10) or "info"
    style = STYLES.get(level, "")
    text = prefix + Text.assemble(
        (_clock(entry.get("time")), "dim"),
        " ",
        (f"{level:<7}", style),
        " ",
        (clean(str(entry["message"])), style),
    )
    logger = one_line(entry.get("logger"))
    if logger and not logger.startswith("evalrun_runner") and logger != "__main__":
        text.append(f"  [{logger}]", style="dim")
    for key, value in entry.items():
        if key not in KNOWN:
            text.append(f"  {one_line(key)}=", style="dim").append(_value(value))
    if traceback := entry.get("traceback"):
        text.append("\n" + clean(str(traceback)), style="dim")
    return text


def _clock(stamp: object) -> str:
    """12:34:56 of a time in UTC; the date is rarely of interest."""
    text = one_line(stamp, 40)
    return text[11:19] if len(text) >= 19 and text[10] == "T" else text


def _value(value: object) -> str:
    if isinstance(value, str):
        text = one_line(value)
        return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
    return one_line(json.dumps(value, ensure_ascii=False))
