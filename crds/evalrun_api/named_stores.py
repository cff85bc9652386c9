"""Stores of the administrator's configuration: what is another one for each namespace in them."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from evalrun_api.document import Document, ShortText
from evalrun_api.sources import ADDRESS_PATTERN, S3Store

NAMESPACE_PLACEHOLDER: Final = "{namespace}"
"""Stands for the run's namespace: no field of a run can put anything else there, and a namespace's
name has no character that means something in an address."""


class WebIdentity(Document):
    """A role of the cloud's that pods take on with a token of their own service account."""

    role_arn: Annotated[
        str,
        StringConstraints(
            min_length=20,
            max_length=2048,
            pattern=r"^arn:[a-z0-9\-]+:iam::[0-9]*:role/[A-Za-z0-9_+=,.@/{}\-]+$",
        ),
    ] = Field(
        description="The role (AWS_ROLE_ARN). {namespace} in it stands for the run's namespace."
    )
    audience: ShortText = Field(
        default="sts.amazonaws.com", description="For whom the token is made."
    )
    expiration_seconds: Annotated[int, Field(ge=600, le=86_400)] = Field(
        default=3600, description="How long a token is good; the kubelet renews it before."
    )
    sts_endpoint: (
        Annotated[str, StringConstraints(max_length=2048, pattern=ADDRESS_PATTERN)] | None
    ) = Field(default=None, description="Address of the token service, if it is not AWS.")


class NamedStore(S3Store):
    """A store that runs may name."""

    web_identity: WebIdentity | None = Field(
        default=None,
        description="Instead of a Secret: pods get a projected token of their service account, and "
        "no other credentials.",
    )

    @model_validator(mode="after")
    def _one_kind_of_credentials(self) -> Self:
        if self.secret_name is not None and self.web_identity is not None:
            raise ValueError("set secretName or webIdentity, not both")
        return self

    @model_validator(mode="after")
    def _no_other_placeholder(self) -> Self:
        role = self.web_identity.role_arn if self.web_identity is not None else ""
        for name, text in (("uri", self.uri), ("webIdentity.roleArn", role)):
            if {"{", "}"} & set(text.replace(NAMESPACE_PLACEHOLDER, "")):
                # All namespaces would share one place that is called so.
                raise ValueError(f"{name}: {{namespace}} alone stands for something; correct it")
        return self

    def of(self, namespace: str) -> NamedStore:
        """The store as runs of a namespace use it."""
        identity = self.web_identity
        if identity is not None:
            role = identity.role_arn.replace(NAMESPACE_PLACEHOLDER, namespace)
            identity = identity.model_copy(update={"role_arn": role})
        uri = self.uri.replace(NAMESPACE_PLACEHOLDER, namespace)
        return self.model_copy(update={"uri": uri, "web_identity": identity})
