"""The administrator's stores, as each namespace's runs use them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evalrun_api.named_stores import NamedStore

pytestmark = pytest.mark.decisions

IDENTITY = {"roleArn": "arn:aws:iam::123456789012:role/evaluations-{namespace}"}


def store(**fields: Any) -> NamedStore:
    return NamedStore.model_validate({"uri": "s3://evaluations/{namespace}/x", **fields})


def test_a_namespace_s_prefix_and_role_are_its_own() -> None:
    found = store(webIdentity=IDENTITY).of("team-a")
    assert found.uri == "s3://evaluations/team-a/x"
    assert found.web_identity is not None
    assert found.web_identity.role_arn.endswith(":role/evaluations-team-a")
    assert found.web_identity.audience == "sts.amazonaws.com"


def test_a_store_without_a_placeholder_is_one_for_all() -> None:
    shared = NamedStore.model_validate({"uri": "s3://evaluations", "secretName": "s3"})
    assert shared.of("team-a") == shared.of("team-b") == shared


def test_a_store_has_one_kind_of_credentials() -> None:
    with pytest.raises(ValidationError, match="set secretName or webIdentity, not both"):
        store(webIdentity=IDENTITY, secretName="s3")


@pytest.mark.parametrize("role", ["evaluations", "arn:aws:iam::1:user/me", "arn:aws:iam::1:role/"])
def test_a_role_is_named_in_full(role: str) -> None:
    with pytest.raises(ValidationError, match="roleArn"):
        store(webIdentity={"roleArn": role})
