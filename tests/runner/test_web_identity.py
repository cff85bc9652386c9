"""Workload identity: the runner's store has its credentials from a token service (moto's)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from evalrun_api.errors import EvalrunError
from evalrun_api.named_stores import NamedStore
from evalrun_api.plan import StorePlan
from evalrun_operator.identity import variables
from evalrun_runner.stores import open_store

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

ROLE = "arn:aws:iam::123456789012:role/evaluations-{namespace}"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQifQ.c2lnbmF0dXJl"
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


@pytest.fixture(scope="module")
def cloud() -> Iterator[str]:
    """Address of a token service and an S3 service, with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    address = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="admin",
        aws_secret_access_key="admin",
    )
    client.create_bucket(Bucket="evaluations")
    yield address
    server.stop()


@pytest.fixture
def pod(cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StorePlan:
    """The environment of a pod of namespace team-a, as the operator writes it, and its store."""
    store = NamedStore.model_validate(
        {
            "uri": "s3://evaluations/{namespace}",
            "endpoint": cloud,
            "region": "us-east-1",
            "webIdentity": {"roleArn": ROLE, "stsEndpoint": cloud},
        }
    ).of("team-a")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, entry in variables(store).items():
        monkeypatch.setenv(name, entry["value"].replace("$(POD_UID)", "0000-pod"))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return StorePlan(uri=store.uri, endpoint=store.endpoint, region=store.region)


def test_a_token_becomes_the_store_s_credentials(pod: StorePlan, cloud: str) -> None:
    store: Any = open_store(pod)
    store.check()
    assert store.create("runs/team-a/one/uid/lock.json", b"1")
    assert not store.create("runs/team-a/one/uid/lock.json", b"2")
    assert store.get("runs/team-a/one/uid/lock.json") == b"1"
    assert list(store.list("runs/")) == ["runs/team-a/one/uid/lock.json"]
    found = store._client._request_signer._credentials
    assert found.method == "assume-role-with-web-identity"
    assert found.token, "they are for a session, and end with it"
    assert found.access_key.startswith("ASIA")


def test_the_role_of_the_namespace_is_asked_for_with_the_pod_s_token(
    pod: StorePlan, cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent to the token service, by its own record."""
    asked: list[str] = []
    from botocore.httpsession import URLLib3Session

    send = URLLib3Session.send

    def noted(self: Any, request: Any) -> Any:
        body = request.body or b""
        text = body if isinstance(body, str) else bytes(body).decode(errors="replace")
        if "AssumeRoleWithWebIdentity" in text:
            asked.append(text)
        return send(self, request)

    monkeypatch.setattr(URLLib3Session, "send", noted)
    open_store(pod).check()
    (body,) = asked
    fields = dict(urllib.parse.parse_qsl(body))
    assert fields["RoleArn"] == "arn:aws:iam::123456789012:role/evaluations-team-a"
    assert fields["WebIdentityToken"] == TOKEN
    assert fields["RoleSessionName"] == "0000-pod"


def test_a_token_that_is_not_there_is_no_outage(pod: StorePlan, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    with pytest.raises(EvalrunError) as caught:
        open_store(pod).check()
    assert caught.value.reason.name == "CredentialsRefused"
    assert "webIdentity" in str(caught.value)
    assert TOKEN not in str(caught.value)
