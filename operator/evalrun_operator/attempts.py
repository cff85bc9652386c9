"""One pod's life at a step, read from its status. Whatever a pod reports is untrusted.

A pod tells of itself by its containers' states, its conditions, and the termination message that
the runner leaves, which is believed only where it is well-formed and speaks of this run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from evalrun_api.names import ACCELERATORS_ANNOTATION, CONTAINER, RUN_UID_LABEL, STEP_LABEL
from evalrun_api.reasons import ExitCode
from evalrun_api.termination import MAX_TERMINATION_BYTES, TerminationMessage
from evalrun_operator.decisions import Doc

MAX_DIGITS = 6
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"

CLOCKS_DIFFER_SECONDS = 10.0
"""A container's end is told by its node's clock, a disruption by the control plane's."""

State = Literal["Waiting", "Running", "Succeeded", "Failed"]


@dataclass(frozen=True)
class Attempt:
    """A pod as the operator judges it.

    index: its shard. exit_code, exit_reason, exit_text: of the container, once it has ended.
    started: whether the container has ever run. disrupted: ended by preemption, eviction, drain.
    delete_by: until when it has to be gone, once it is being deleted: its time to stop included.
    bound_at: since when it holds its node's accelerators. started_at: of the container.
    image_id: what the container runs, by digest. message: what the runner left. disruption: what is
    said of its preemption or eviction.
    """

    name: str
    uid: str
    command: str
    index: int
    accelerators: int
    state: State
    started: bool
    delete_by: datetime | None
    disrupted: bool
    created_at: datetime
    bound_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    exit_reason: str
    exit_text: str
    image_id: str
    message: TerminationMessage | None
    disruption: str

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""
        return self.delete_by is not None

    @property
    def at_work(self) -> bool:
        """Whether it runs, and shall go on."""
        return self.state == "Running" and not self.deleting

    @property
    def stopped(self) -> bool:
        """Whether it ended because it was asked to, with all finished answers stored."""
        return self.exit_code == ExitCode.STOPPED

    @property
    def counts_as_failure(self) -> bool:
        """Whether the Job counts it against the retry limit. Not so a pod that was only deleted."""
        deleted = self.deleting and self.exit_code is None
        return self.state == "Failed" and not (self.disrupted or self.stopped or deleted)


def parse_time(text: Any) -> datetime | None:
    """A Kubernetes timestamp; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def attempt_of(pod: Doc, run_uid: str) -> Attempt:
    """Judge a pod of the run."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    container: Doc = next(
        (
            entry
            for entry in status.get("containerStatuses") or ()
            if entry.get("name") == CONTAINER
        ),
        {},
    )
    state = container.get("state") or {}
    ended, running = state.get("terminated") or {}, state.get("running") or {}
    conditions = {entry.get("type"): entry for entry in status.get("conditions") or ()}
    disruption = conditions.get("DisruptionTarget") or {}
    scheduled = conditions.get("PodScheduled") or {}
    bound = parse_time(scheduled.get("lastTransitionTime"))
    phase = status.get("phase")
    created = parse_time(metadata.get("creationTimestamp"))
    deleted = parse_time(metadata.get("deletionTimestamp"))
    finished = phase in ("Succeeded", "Failed")
    ended_at = parse_time(ended.get("finishedAt"))
    if finished and ended_at is None:
        ended_at = deleted or bound or created
    labels = metadata.get("labels") or {}
    return Attempt(
        name=metadata["name"],
        uid=metadata["uid"],
        command=str(labels.get(STEP_LABEL, "")),
        index=_number((metadata.get("annotations") or {}).get(INDEX_ANNOTATION)),
        accelerators=_number((metadata.get("annotations") or {}).get(ACCELERATORS_ANNOTATION)),
        state=_state(phase, state),
        started=bool(ended.get("startedAt")) or "running" in state or finished,
        delete_by=deleted,
        disrupted=_is_disrupted(disruption, parse_time(ended.get("finishedAt"))),
        created_at=created or datetime.max.replace(tzinfo=UTC),
        bound_at=bound if scheduled.get("status") == "True" else None,
        started_at=parse_time(ended.get("startedAt") or running.get("startedAt")),
        ended_at=ended_at,
        exit_code=ended.get("exitCode") if isinstance(ended.get("exitCode"), int) else None,
        exit_reason=str(ended.get("reason") or status.get("reason") or ""),
        exit_text=str(ended.get("message") or status.get("message") or ""),
        image_id=str(container.get("imageID") or ""),
        message=parse_message(ended.get("message"), run_uid, labels.get(RUN_UID_LABEL)),
        disruption=f"{disruption.get('reason') or ''} {disruption.get('message') or ''}".strip(),
    )


def parse_message(text: Any, run_uid: str, label: Any = None) -> TerminationMessage | None:
    """The runner's termination message; None for anything that is not one of this run."""
    if not isinstance(text, str) or len(text) > MAX_TERMINATION_BYTES:
        return None
    try:
        message = TerminationMessage.model_validate_json(text)
    except (ValidationError, ValueError, RecursionError):
        return None
    return message if message.run.uid == run_uid and label in (None, run_uid) else None


def _is_disrupted(disruption: Doc, finished: datetime | None) -> bool:
    """Whether preemption, eviction or a drain ended a pod.

    A pod that has failed by itself stays there, and is evicted with the rest when its node is lost:
    that makes no disruption of its failure, which its Job has counted by then.
    """
    if disruption.get("status") != "True":
        return False
    since = parse_time(disruption.get("lastTransitionTime"))
    if since is None or finished is None:
        return True
    return (since - finished).total_seconds() <= CLOCKS_DIFFER_SECONDS


def _state(phase: Any, state: Doc) -> State:
    if phase == "Succeeded":
        return "Succeeded"
    if phase == "Failed":
        return "Failed"
    return "Running" if "running" in state else "Waiting"


def _number(text: Any) -> int:
    """A small number that an annotation holds; 0 for anything else."""
    if not isinstance(text, str) or len(text) > MAX_DIGITS:
        return 0
    return int(text) if text.isascii() and text.isdigit() else 0
