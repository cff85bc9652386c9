"""lock.json: what prepare found and fixed. The later steps obey it and refuse what differs.

It lies beside the answers, under the digest of everything in it that can change an answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from evalrun_api.digests import digest
from evalrun_api.document import Document, Sha256
from evalrun_api.plan import RunPlan

LOCK_VERSION: Final = 1

PLACEMENT_ARGS = frozenset(
    {"device", "device_map", "num_concurrent", "timeout", "max_retries", "retry_backoff_s"}
)
"""model_args that say where the weights lie or how fast a server is asked: none moves an answer."""

RequestType = Literal[
    "generate_until",
    "loglikelihood",
    "generate_until_multi_round",
    "generate_until_agentic",
    "generate_visual_cot",
]


class ModelLock(Document):
    """The weights.

    revision: commit on the hub, "sha256:…" over a folder's files, or the endpoint's model name.
    """

    revision: str
    model_type: Literal["simple", "chat"]


class TaskLock(Document):
    """One task of a settings group.

    requests: how many requests of its type it makes, repeats included.
    fingerprint: over the fingerprints of its requests in order, so over every prompt.
    data: digest of the documents its requests are about.
    sampled: whether answers are drawn at random, as far as the generation arguments say.
    """

    name: str
    version: str
    request_type: RequestType
    documents: Annotated[int, Field(ge=1)]
    requests: Annotated[int, Field(ge=1)]
    fingerprint: Sha256
    data: Sha256
    sampled: bool = False


class GroupLock(Document):
    """One settings group, its tasks in lmms-eval's order.

    chunk_size: requests of a chunk. The n-th chunk of a task is its n-th so many requests, so this
    and the number of requests are the table of chunks.
    """

    name: str
    batch_size: Annotated[int, Field(ge=1)]
    chunk_size: Annotated[int, Field(ge=1)]
    tasks: Annotated[list[TaskLock], Field(min_length=1)]


class Lock(Document):
    """The locked run.

    versions: of the packages that can change an answer.
    answers: the digest under which answers are kept (`answers_digest` of the rest).
    """

    version: Literal[1] = LOCK_VERSION
    answers: Sha256
    model: ModelLock
    versions: dict[str, str]
    groups: Annotated[list[GroupLock], Field(min_length=1)]

    @property
    def requests_total(self) -> int:
        """Requests of all tasks."""
        return sum(task.requests for group in self.groups for task in group.tasks)


def answers_digest(
    plan: RunPlan,
    model: ModelLock,
    versions: dict[str, str],
    groups: list[GroupLock],
) -> str:
    """The address of a run's answers: sha256 over all that can change an answer, and nothing else.

    How the work is spread (shards, accelerators, pods, stores) is not in it, nor where the weights
    and documents lay: their content is.
    """
    determinants: dict[str, Any] = {
        "version": LOCK_VERSION,
        # A run that reuses nothing has an address of its own, at which it can still be resumed.
        "only": plan.run.uid if plan.reuse_answers == "Never" else None,
        "model": {
            "backend": plan.model.backend,
            "args": {
                key: value for key, value in plan.model.args.items() if key not in PLACEMENT_ARGS
            },
            "trustRemoteCode": plan.security.trust_remote_code,
            **model.document(),
        },
        "versions": versions,
        "accelerated": plan.is_accelerated,  # how many of them does not matter
        "forceSimple": plan.force_simple,
        "maxBatchSize": plan.max_batch_size,
        "maxTokens": plan.max_tokens,
        "applyChatTemplate": plan.apply_chat_template,
        "fewShotAsMultiturn": plan.few_shot_as_multiturn,
        "seed": plan.seed.document(),
        "systemInstruction": plan.system_instruction,
        "customBenchmarks": sorted(custom.digest for custom in plan.custom_benchmarks),
        "groups": [
            {
                "settings": setting.model_dump(
                    mode="json", by_alias=True, exclude={"name"}, exclude_none=True
                ),
                "tasks": [task.document() for task in group.tasks],
            }
            for setting, group in zip(plan.groups, groups, strict=True)
        ],
    }
    return digest(_one_number(determinants))


def _one_number(value: Any) -> Any:
    """1.0 as 1: the API server's storage does not tell them apart, so the address may not."""
    if isinstance(value, dict):
        return {key: _one_number(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_one_number(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
