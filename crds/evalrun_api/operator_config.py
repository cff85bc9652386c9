"""The operator's configuration: what an administrator decides for all runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from evalrun_api.document import Document, ObjectName, ShortText
from evalrun_api.named_stores import NamedStore
from evalrun_api.policy import Policy
from evalrun_api.sources import ADDRESS_PATTERN

HostFolder = Annotated[
    str, StringConstraints(max_length=1024, pattern=r"^/[A-Za-z0-9][A-Za-z0-9_.\-/]*$")
]
Positive = Annotated[int, Field(ge=1)]


class Images(Document):
    """Runner images by what they can do."""

    runner: ShortText = Field(description="Image of the pods that answer.")
    cpu: ShortText | None = Field(
        default=None,
        description="Image of the pods that prepare and score; runner by default.",
    )


class NodeCache(Document):
    """Where runs without cache.volume keep what they fetch from the hub."""

    ONE_OF = ("host_path", "claim_name")

    host_path: HostFolder | None = Field(
        default=None,
        description="Folder of each node, made beforehand and writable for the pods' user. Not "
        "allowed by the restricted Pod Security Standard (nor by baseline).",
    )
    claim_name: ObjectName | None = Field(
        default=None,
        description="Claim of this name in the run's own namespace, backed by storage of the "
        "node (ReadWriteMany, or ReadWriteOnce where all pods run on one node).",
    )


class ScrapeSettings(Document):
    """How progress is read from pods."""

    enabled: bool = Field(default=True, description="False where a network policy forbids it.")
    interval_seconds: Positive = Field(default=10, description="Between two readings of a pod.")
    timeout_seconds: Positive = Field(default=3, description="Longest time for one reading.")
    concurrency: Positive = Field(default=32, description="Readings at the same time.")


class NamespaceCaps(Document):
    """What is another matter in one namespace."""

    max_active_runs: Positive | None = Field(
        default=None, description="Instead of caps.maxActiveRuns; no cap when left out."
    )


class Caps(Document):
    """How much may be at work at the same time. Runs beyond it wait in line.

    A cap lower than what is at work stops nothing: no run begins until there is room again.
    """

    max_active_runs: Positive | None = Field(
        default=None,
        description="Runs of one namespace that are at work at the same time, from their first Job "
        "to their end; a suspended run that has stopped is not. No cap when left out.",
    )
    namespaces: dict[ObjectName, NamespaceCaps] = Field(
        default_factory=dict, description="What is another matter in some namespaces."
    )
    max_pending_pods: Positive | None = Field(
        default=None,
        description="Pods of all runs that exist or are about to be created and do not run yet; a "
        "run counts with all its shards until they run. Beyond it no run begins, but for one that "
        "is larger than the cap and finds nothing pending. Pods of runs that wait in a queue of "
        "Kueue (queueName) are excepted. No cap when left out.",
    )

    @property
    def any_set(self) -> bool:
        """Whether anything can make a run wait."""
        of_runs = (self.max_active_runs, *(own.max_active_runs for own in self.namespaces.values()))
        return self.max_pending_pods is not None or any(cap is not None for cap in of_runs)


class OperatorConfig(Document):
    """The operator's configuration file."""

    images: Images = Field(description="Runner images.")
    stores: dict[ObjectName, NamedStore] = Field(
        default_factory=dict,
        description="Stores that runs may name. Their Secret is looked for in the run's namespace, "
        "and {namespace} in an address stands for it.",
    )
    default_store: ObjectName | None = Field(
        default=None, description="Store of runs that name none."
    )
    policy: Policy = Field(default_factory=Policy, description="What runs may ask for.")
    caps: Caps = Field(default_factory=Caps, description="How much may be at work at a time.")
    namespaces: list[ObjectName] = Field(
        default_factory=list, description="Namespaces to watch; all when empty."
    )
    price_per_accelerator_hour: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="For status.usage.cost."
    )
    workers: Positive = Field(default=16, description="Runs looked at at the same time.")
    resync_seconds: Positive = Field(
        default=3600,
        description="Between two full readings of all objects. Whenever a watch had to begin anew, "
        "they are read in a few seconds.",
    )
    progress_seconds: Positive = Field(
        default=30, description="Shortest time between two writes of a run's progress."
    )
    max_ignored_restarts: Positive = Field(
        default=50,
        description="Restarts after disruptions before a run fails, for each of its shards on the "
        "average. A resume grants as many again, and so does a queue that stops a run's Job.",
    )
    node_loss_seconds: Annotated[int, Field(ge=10)] | None = Field(
        default=None,
        description="A pod that should have ended so long ago, and has not, is taken for lost with "
        "its node, and is replaced. Needs the rights of config/node-loss. Left out, such a pod is "
        "told of, and waits for a person.",
    )
    lease_name: ObjectName = Field(default="lmms-eval-operator", description="Name of the Lease.")
    lease_seconds: Positive = Field(
        default=30,
        description="After this time without renewal another replica takes over. A replica that is "
        "asked to stop gives the Lease back, and one that is started again in the same pod takes "
        "its own: neither waits.",
    )
    node_cache: NodeCache | None = Field(
        default=None,
        description="Cache of runs without cache.volume; each pod's own, lost with it, when left "
        "out.",
    )
    hub_endpoint: (
        Annotated[str, StringConstraints(max_length=2048, pattern=ADDRESS_PATTERN)] | None
    ) = Field(
        default=None, description="Address of a mirror of the Hugging Face hub (HF_ENDPOINT)."
    )
    scrape: ScrapeSettings = Field(
        default_factory=ScrapeSettings, description="How progress is read from pods."
    )
