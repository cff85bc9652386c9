"""Two tenants of one bucket, each with a prefix and credentials of its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.s3 import S3
from evalrun_api.errors import EvalrunError
from evalrun_api.named_stores import NamedStore
from evalrun_api.plan import StorePlan
from evalrun_runner.stores import Store, open_store

USERS = {"team-a": "team-a-secret-key", "team-b": "team-b-secret-key"}


@dataclass(frozen=True)
class Tenants:
    """A bucket in which each namespace has a prefix and credentials of its own.

    folder: where the server keeps its objects.
    """

    server: S3
    folder: Path

    def plan(self, namespace: str) -> StorePlan:
        """The store as the operator gives it to a namespace's runs."""
        named = NamedStore(uri="s3://evaluations/{namespace}", endpoint=self.server.endpoint)
        return StorePlan(uri=named.of(namespace).uri, endpoint=named.endpoint)

    def store(self, namespace: str, uri: str | None = None) -> Store:
        """A store with the credentials of a namespace. uri: instead of its own."""
        plan = self.plan(namespace)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", namespace)
            patch.setenv("AWS_SECRET_ACCESS_KEY", USERS[namespace])
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            opened = open_store(plan.model_copy(update={"uri": uri or plan.uri}))
            with suppress(EvalrunError):  # boto3 looks for its credentials when it needs them
                opened.get("nothing")
        return opened


def policy() -> dict[str, Any]:
    """What docs/security/threat-model.md tells an administrator to set, for each tenant."""
    bucket = "arn:aws:s3:::evaluations"
    statements = []
    for tenant in USERS:
        whom = {"Effect": "Allow", "Principal": {"AWS": [tenant]}}
        objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
        statements += [
            {**whom, "Action": objects, "Resource": [f"{bucket}/{tenant}/*"]},
            {
                **whom,
                "Action": ["s3:ListBucket"],
                "Resource": [bucket],
                "Condition": {"StringLike": {"s3:prefix": [f"{tenant}/*"]}},
            },
        ]
    return {"Version": "2012-10-17", "Statement": statements}
