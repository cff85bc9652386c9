"""The administrator's half of the two keys: what runs may ask for at all."""

from __future__ import annotations

from pydantic import Field

from evalrun_api.document import Document
from evalrun_api.errors import Fault
from evalrun_api.spec import SecuritySpec


class Policy(Document):
    """What an administrator allows. The default allows nothing risky."""

    allow_trust_remote_code: bool = Field(default=False)
    allow_online: bool = Field(default=False)
    allow_code_execution: bool = Field(default=False)
    allow_inline_stores: bool = Field(default=False)


LAPTOP = Policy(
    allow_trust_remote_code=True,
    allow_online=True,
    allow_code_execution=True,
    allow_inline_stores=True,
)
"""On one's own machine the run's own key is enough."""


def security_faults(security: SecuritySpec, policy: Policy) -> list[Fault]:
    """What `spec.security` asks for and the policy does not allow."""
    asked = (
        ("trustRemoteCode", security.trust_remote_code, policy.allow_trust_remote_code),
        ("allowOnline", security.allow_online, policy.allow_online),
        ("allowCodeExecution", security.allow_code_execution, policy.allow_code_execution),
    )
    return [
        Fault(
            f"spec.security.{name}",
            "the administrator's policy does not allow it",
            "Leave it out, or ask the administrator",
        )
        for name, wanted, allowed in asked
        if wanted and not allowed
    ]
