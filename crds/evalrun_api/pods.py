"""The curated part of a pod that a run may set; the rest of the pod is the operator's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from evalrun_api.document import Document, ObjectName, PlainValue, Quantity, ShortText

LabelValue = Annotated[str, StringConstraints(max_length=63)]
EnvName = Annotated[str, StringConstraints(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

RESERVED_PREFIXES = ("EVALRUN_", "PYTHON", "LD_", "HF_", "LMMS_EVAL_", "AWS_", "GIT_")
"""Environment names that begin so would let a run change what the runner does, or its store."""
RESERVED_SUFFIXES = (
    *("_BASE_URL", "_API_URL", "_API_BASE", "_ENDPOINT", "_ENDPOINT_URL"),
    "_CACHE_DIR",
)
"""Names of servers that code would ask instead, and of folders that it takes things from."""
RESERVED_NAMES = (
    *("PATH", "HOME", "XDG_CACHE_HOME", "GCONV_PATH", "OPENSSL_CONF"),
    *("BASH_ENV", "CC", "CXX", "CUDA_HOME", "CUDA_PATH", "TRITON_PTXAS_PATH"),
    *("FFMPEG_BINARY", "IMAGEIO_FFMPEG_EXE"),
    *("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TRANSFORMERS_ALLOW_UNSAFE_LOAD"),
    *("VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_PLUGINS"),
    *("POD_UID", "JOB_COMPLETION_INDEX"),
)
"""What picks executables and libraries, has weights run code, and what the operator sets itself."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""In any case of letters: what takes all requests to a server of the run's choice."""
RESERVED_ENV_MESSAGE = (
    f"names that begin with {', '.join(RESERVED_PREFIXES)}, end with "
    f"{', '.join(RESERVED_SUFFIXES)}, or are {', '.join(RESERVED_NAMES)} are reserved; use the "
    "typed fields of the spec"
)
ENV_FROM_PREFIX = "EVALRUN_FROM_"
"""Keys of envFrom's Secrets reach the container behind this prefix. The runner takes it off, and
refuses reserved names: the kubelet would let them through."""


def is_reserved(name: str) -> bool:
    """Whether a run may not set an environment variable of this name."""
    return (
        name.startswith(RESERVED_PREFIXES)
        or name.endswith(RESERVED_SUFFIXES)
        or name in RESERVED_NAMES
    )


def is_reserved_key(name: str) -> bool:
    """Whether Kubernetes or this project reads a label or annotation of this name."""
    domain, _, rest = name.rpartition("/")
    if not domain:
        return rest in ("job-name", "controller-uid")
    return f".{domain}".endswith((".lmms-eval.io", ".kubernetes.io", ".k8s.io"))


class EnvVar(Document):
    """An environment variable of the pod."""

    CEL = (
        (
            " && ".join(
                (
                    *(f"!self.name.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES),
                    *(f"!self.name.endsWith('{suffix}')" for suffix in RESERVED_SUFFIXES),
                    f"!(self.name in {list(RESERVED_NAMES)})",
                )
            ),
            RESERVED_ENV_MESSAGE,
        ),
    )

    name: EnvName = Field(description="Name of the variable.")
    value: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="Its value. Secrets belong in envFrom."
    )

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if is_reserved(name):
            raise ValueError(RESERVED_ENV_MESSAGE)
        return name


class EnvFromSecret(Document):
    """All keys of a Secret as environment variables."""

    secret_name: ObjectName = Field(description="Name of the Secret.")


class Resources(Document):
    """CPU and memory of the pod; accelerators stand in parallelism."""

    cpu: Quantity | None = Field(default=None, description="CPU request.")
    memory: Quantity | None = Field(default=None, description="Memory request and limit.")
    ephemeral_storage: Quantity | None = Field(
        default=None, description="Request and limit of the pod's own disk."
    )


class Toleration(Document):
    """As in core/v1."""

    key: Annotated[str, StringConstraints(max_length=316)] | None = Field(
        default=None, description="Taint key; all keys when left out."
    )
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How it compares.")
    value: LabelValue | None = Field(default=None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; all effects when left out."
    )
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How long a NoExecute taint is tolerated."
    )


class PodSettings(Document):
    """What a run may set of the pods of one step."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        default=None, description="Runner image, where the administrator's policy allows another."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="As in core/v1."
    )
    resources: Resources | None = Field(default=None, description="CPU, memory, disk.")
    shared_memory: Quantity | None = Field(
        default=None, description="Size of /dev/shm; counts against memory."
    )
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        default=None, description="Time to finish the chunk in hand when the pod is asked to stop."
    )
    run_as_user: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="User id; never 0."
    )
    fs_group: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Group that owns the volumes."
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Labels a node must have."
    )
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(
        default_factory=list,
        description="Taints the pod may stand.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    affinity: Annotated[dict[str, PlainValue], Field(max_length=3)] | None = Field(
        default=None, description="core/v1 Affinity."
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="Priority class, where the policy allows it."
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="Service account, from the administrator's list."
    )
    runtime_class_name: ObjectName | None = Field(default=None, description="Runtime class.")
    scheduler_name: ObjectName | None = Field(
        default=None, description="Scheduler, where the policy allows it."
    )
    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=8)] = Field(
        default_factory=list,
        description="Names of Secrets for pulling the image.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(
        default_factory=list,
        description="Environment variables; reserved names are refused.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    env_from: Annotated[list[EnvFromSecret], Field(max_length=8)] = Field(
        default_factory=list,
        description="Secrets whose keys become environment variables.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Further labels of the pod."
    )
    annotations: Annotated[dict[str, ShortText], Field(max_length=32)] = Field(
        default_factory=dict, description="Further annotations of the pod."
    )
