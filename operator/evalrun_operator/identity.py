"""Workload identity: how a pod proves to a token service which service account it runs as.

The pod has no token for the API server. This one is of another audience, is good for an hour, and
is renewed by the kubelet; boto3 exchanges it for credentials of the store's role by itself.
"""

from __future__ import annotations

from evalrun_api.named_stores import NamedStore
from evalrun_api.sources import S3Store
from evalrun_operator.decisions import Doc

FOLDER = "/var/run/secrets/lmms-eval.io/identity"
FILE = "token"


def variables(store: S3Store | None) -> dict[str, Doc]:
    """What boto3 reads, as entries of `env`. The pod's uid is known by then."""
    found = store.web_identity if isinstance(store, NamedStore) else None
    if store is None or found is None:
        return {}
    values = {
        "AWS_ROLE_ARN": found.role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": f"{FOLDER}/{FILE}",
        "AWS_ROLE_SESSION_NAME": "$(POD_UID)",  # so the cloud's own log tells the pod
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if store.region is not None:
        values["AWS_DEFAULT_REGION"] = store.region  # of the token service too
    if found.sts_endpoint is not None:
        values["AWS_ENDPOINT_URL_STS"] = found.sts_endpoint
    return {name: {"value": value} for name, value in values.items()}


def volumes(store: S3Store | None) -> tuple[list[Doc], list[Doc]]:
    """The volume with the token, and its mount."""
    found = store.web_identity if isinstance(store, NamedStore) else None
    if found is None:
        return [], []
    token = {
        "audience": found.audience,
        "expirationSeconds": found.expiration_seconds,
        "path": FILE,
    }
    volume = {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}}
    return [volume], [{"name": "identity", "mountPath": FOLDER, "readOnly": True}]
