"""The administrator's half of the two keys: what runs may ask for at all."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field
from pydantic.alias_generators import to_camel

from evalrun_api.document import Document, ObjectName
from evalrun_api.errors import Fault
from evalrun_api.pods import PROXIES, PodSettings, is_reserved_key
from evalrun_api.spec import EvaluationRunSpec, SecuritySpec

Names = Annotated[list[ObjectName], Field(max_length=64)]


class Policy(Document):
    """What an administrator allows. The default allows nothing risky."""

    allow_trust_remote_code: bool = Field(
        default=False, description="Python code that comes with a model's weights."
    )
    allow_online: bool = Field(default=False, description="Task code that reaches the network.")
    allow_code_execution: bool = Field(
        default=False, description="Python that a custom benchmark brings."
    )
    allow_inline_stores: bool = Field(
        default=False, description="results.s3 and results.volume, beside the named stores."
    )
    allow_image_override: bool = Field(
        default=False, description="Images other than the operator's."
    )
    allow_endpoints: bool = Field(
        default=False,
        description="Servers of a run's choice (model.source.endpoint, evaluation.judge, a proxy "
        "in env).",
    )
    service_accounts: Names = Field(
        default_factory=list, description="Service accounts that pods may run under."
    )
    priority_classes: Names = Field(
        default_factory=list, description="Priority classes that pods may have."
    )
    queue_priority_classes: Names = Field(
        default_factory=list,
        description="Kueue's WorkloadPriorityClasses that runs may name: whose is higher may stop "
        "others' work.",
    )
    schedulers: Names = Field(default_factory=list, description="Schedulers that pods may name.")
    runtime_classes: Names = Field(
        default_factory=list, description="Runtime classes that pods may name."
    )


LAPTOP = Policy(
    allow_trust_remote_code=True,
    allow_online=True,
    allow_code_execution=True,
    allow_inline_stores=True,
    allow_image_override=True,
    allow_endpoints=True,
)
"""On one's own machine the run's own key is enough."""

CODE_ARGS = frozenset({"mcp_server_path"})
"""model_args that name a program which a backend then runs."""
CODE_ARG = "it is a program, which the backend runs"
CODE_ARG_REMEDY = "Set security.allowCodeExecution: true, if the policy allows it"
SERVER_ARG = re.compile(r"(^|_)(urls?|host|server|endpoint|api_base|prox(y|ies))$", re.IGNORECASE)
"""model_args that name a server: of some backends only, so they have no field of their own."""

_REFUSED = "the administrator's policy does not allow it"
_REMEDY = "Leave it out, or ask the administrator"


def security_faults(security: SecuritySpec, policy: Policy) -> list[Fault]:
    """What `spec.security` asks for and the policy does not allow."""
    asked = (
        ("trustRemoteCode", security.trust_remote_code, policy.allow_trust_remote_code),
        ("allowOnline", security.allow_online, policy.allow_online),
        ("allowCodeExecution", security.allow_code_execution, policy.allow_code_execution),
    )
    return [
        Fault(f"spec.security.{name}", _REFUSED, _REMEDY)
        for name, wanted, allowed in asked
        if wanted and not allowed
    ]


def risky_arguments(spec: EvaluationRunSpec, policy: Policy) -> list[Fault]:
    """Of the model's arguments, what would go around a key of `spec.security` or of the policy."""
    may_run_code = policy.allow_code_execution and spec.security.allow_code_execution
    named = {f"spec.model.args.{key}": key for key in spec.model.args}
    named["spec.model.sourceArgument"] = spec.model.source_argument or ""
    faults = []
    for where, key in named.items():
        if key in CODE_ARGS and not may_run_code:
            faults.append(Fault(where, CODE_ARG, CODE_ARG_REMEDY))
        elif SERVER_ARG.search(key) and not policy.allow_endpoints:
            faults.append(Fault(where, f"it is a server: {_REFUSED}", _REMEDY))
    return faults


def cluster_faults(spec: EvaluationRunSpec, policy: Policy) -> list[Fault]:
    """What a run asks of a cluster and the policy does not allow: pods, stores, servers."""
    faults = []
    for name in ("prepare_pod", "answer_pod", "score_pod"):
        settings = getattr(spec, name)
        if settings is not None:
            faults += _pod_faults(f"spec.{to_camel(name)}", settings, policy)
    faults += _unlisted(
        "spec.queuePriorityClassName",
        spec.queue_priority_class_name,
        policy.queue_priority_classes,
    )
    if spec.model.source.endpoint is not None and not policy.allow_endpoints:
        faults.append(Fault("spec.model.source.endpoint", _REFUSED, "Ask the administrator"))
    if spec.evaluation.judge is not None and not policy.allow_endpoints:
        faults.append(Fault("spec.evaluation.judge.endpoint", _REFUSED, "Ask the administrator"))
    results = spec.results
    inline = results is not None and (results.s3 is not None or results.volume is not None)
    if inline and not policy.allow_inline_stores:
        faults.append(
            Fault("spec.results", _REFUSED, "Use results.store with a store that is configured")
        )
    return faults


def _pod_faults(where: str, settings: PodSettings, policy: Policy) -> list[Fault]:
    faults = []
    if settings.image is not None and not policy.allow_image_override:
        faults.append(Fault(f"{where}.image", _REFUSED, _REMEDY))
    if not policy.allow_endpoints:
        faults += [
            Fault(f"{where}.env", f"{variable.name}: {_REFUSED}", _REMEDY)
            for variable in settings.env
            if variable.name.lower() in PROXIES
        ]
    for kind, entries in (("labels", settings.labels), ("annotations", settings.annotations)):
        faults += [
            Fault(
                f"{where}.{kind}", f"{name!r} is read by Kubernetes or the operator", "Leave it out"
            )
            for name in entries
            if is_reserved_key(name)
        ]
    named = (
        ("serviceAccountName", settings.service_account_name, policy.service_accounts),
        ("priorityClassName", settings.priority_class_name, policy.priority_classes),
        ("schedulerName", settings.scheduler_name, policy.schedulers),
        ("runtimeClassName", settings.runtime_class_name, policy.runtime_classes),
    )
    for field, value, allowed in named:
        faults += _unlisted(f"{where}.{field}", value, allowed)
    return faults


def _unlisted(where: str, value: str | None, allowed: Names) -> list[Fault]:
    if value is None or value in allowed:
        return []
    listed = f"Allowed: {', '.join(allowed)}" if allowed else "Leave it out"
    return [Fault(where, f"{value!r}: {_REFUSED}", listed)]
