"""Workload identity: pods get a token for the store's role, and no credentials beside it."""

from __future__ import annotations

from typing import Any

import pytest
from world_documents import configuration, run_document

from evalrun_operator.admission import admit, read_run
from evalrun_operator.identity import FOLDER
from evalrun_operator.jobs import build_job, effective_plan
from evalrun_operator.steps import ALL, ANSWER, PREPARE, SCORE, StepKind

pytestmark = pytest.mark.decisions

STORE: dict[str, Any] = {
    "uri": "s3://evaluations/{namespace}",
    "region": "eu-central-1",
    "webIdentity": {
        "roleArn": "arn:aws:iam::123456789012:role/evaluations-{namespace}",
        "expirationSeconds": 900,
        "stsEndpoint": "https://sts.example.com",
    },
}


def pod(kind: StepKind, **store: Any) -> dict[str, Any]:
    config = configuration(stores={"team": {**STORE, **store}})
    document = run_document()
    run = read_run(document)
    snapshot, _ = admit(run, "uid-1", {}, config)
    plan = effective_plan(snapshot, run)
    assert plan.store.uri == "s3://evaluations/team"
    built = build_job(document, run, kind, plan, snapshot, config, None)
    found: dict[str, Any] = built["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("kind", [PREPARE, ANSWER, SCORE, ALL], ids=lambda kind: kind.command)
def test_each_step_has_a_token_that_is_good_for_the_token_service_alone(kind: StepKind) -> None:
    spec = pod(kind)
    (container,) = spec["containers"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == "identity")
    (source,) = volume["projected"]["sources"]
    assert source["serviceAccountToken"] == {
        "audience": "sts.amazonaws.com",
        "expirationSeconds": 900,
        "path": "token",
    }
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "identity")
    assert mount == {"name": "identity", "mountPath": FOLDER, "readOnly": True}
    assert spec["automountServiceAccountToken"] is False
    names = [entry["name"] for entry in container["env"]]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert values["AWS_ROLE_ARN"] == "arn:aws:iam::123456789012:role/evaluations-team"
    assert values["AWS_WEB_IDENTITY_TOKEN_FILE"] == f"{FOLDER}/token"
    assert values["AWS_ROLE_SESSION_NAME"] == "$(POD_UID)"
    assert names.index("POD_UID") < names.index("AWS_ROLE_SESSION_NAME"), "or it is not expanded"
    assert values["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert values["AWS_ENDPOINT_URL_STS"] == "https://sts.example.com"
    assert values["AWS_EC2_METADATA_DISABLED"] == "true"
    assert "AWS_SECRET_ACCESS_KEY" not in names


def test_a_store_with_a_secret_has_no_token() -> None:
    spec = pod(SCORE, webIdentity=None, secretName="s3")
    assert "identity" not in [volume["name"] for volume in spec["volumes"]]
    names = [entry["name"] for entry in spec["containers"][0]["env"]]
    assert "AWS_ROLE_ARN" not in names
    assert "AWS_SECRET_ACCESS_KEY" in names
