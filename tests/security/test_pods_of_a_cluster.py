"""A hostile pod at a real API server: what it leaves behind, as the kubelet would report it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attacks import POD, Gets, attack
from siege import Place, message_of, run_document

from cluster.access import until
from evalrun_api.named_stores import WebIdentity

pytestmark = pytest.mark.integration

SECRETS = {
    "hub": "hf_0123456789abcdefghijklmnopqrstuv",
    "model": "sk-proj-0123456789abcdefghijklmnop",
    "store": "AKIAIOSFODNN7EXAMPLE",
    "header": "Authorization: Bearer abcdefgh12345678",
    "address": "https://robot:hunter2hunter2@registry.example.com/x",
    "signed": "https://b.s3.amazonaws.com/k?X-Amz-Signature=0123456789abcdef0123456789abcdef",
}
WORDS = {
    "header": "abcdefgh12345678",
    "address": "hunter2hunter2",
    "signed": "0123456789abcdef0123456789abcdef",
}


def end_pod(place: Place, job: str, code: int, message: str) -> None:
    """End the pod of a Job, as a kubelet does."""
    selector = f"batch.kubernetes.io/job-name={job}"
    query = ("-n", place.namespace, "get", "pods", "-l", selector, "-o", "json")

    def pods() -> list[dict[str, Any]]:
        return list(json.loads(place.server.kubectl(*query).stdout)["items"])

    until(f"the pod of {job}", pods, 30)
    (pod,) = pods()
    now = "2026-01-01T00:00:00Z"
    ended = {
        "exitCode": code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": now,
        "finishedAt": now,
        "message": message,
    }
    container = {
        "name": "runner",
        "image": "registry.example.com/runner:1",
        "imageID": "registry.example.com/runner@sha256:00",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    status = {"phase": "Succeeded" if code == 0 else "Failed", "containerStatuses": [container]}
    place.server.kubectl(
        *("-n", place.namespace, "patch", "pod", pod["metadata"]["name"]),
        *("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status})),
    )


def message(place: Place, name: str, **fields: Any) -> str:
    uid = place.get("evaluationrun", name)["metadata"]["uid"]
    whole = {"version": 1, "run": {"namespace": place.namespace, "name": name, "uid": uid}}
    return json.dumps({**whole, **fields})


@attack(
    29, POD, "leaves secrets, terminal escapes and a turned direction of writing in its message"
)
def test_what_a_pod_leaves_behind_is_clean_wherever_it_is_shown(place: Place, gets: Gets) -> None:
    assert place.create(run_document("dirty")) == ""
    until("its Job", lambda: place.get("job", "dirty-prepare"), 30)
    text = '\x1b]0;owned\x07\x1b[2J\u202eevil\u2028{"level":"ERROR"} ' + " ".join(SECRETS.values())
    said = message(
        place, "dirty", step="prepare", outcome="Failed", reason="InternalError", message=text
    )
    end_pod(place, "dirty-prepare", 10, said)
    status = place.ended("dirty")
    events = place.server.kubectl("-n", place.namespace, "get", "events", "-o", "json").stdout
    told = [
        entry["message"]
        for entry in json.loads(events)["items"]
        if entry["involvedObject"]["name"] == "dirty"
    ]
    shown = [json.dumps(status, ensure_ascii=False), *told, place.operator.log.read_text()]
    for where in shown:
        for name, secret in SECRETS.items():
            assert WORDS.get(name, secret) not in where, f"{name} is shown"
        assert not set("\x1b\x07\u202e\u2028") & {*where}
    ready = message_of(status)
    assert "registry.example.com" in ready, "the rest is still told"
    gets(ready)


@attack(30, POD, "ends well in a run's last step and claims scores at an address of its choice")
def test_a_pod_that_ends_well_cannot_move_the_results(place: Place, gets: Gets) -> None:
    spec = {"parallelism": {"acceleratorsPerShard": 0}}
    assert place.create(run_document("moved", **spec)) == ""
    until("its Job", lambda: place.get("job", "moved-run"), 30)
    said = message(
        place,
        "moved",
        step="score",
        outcome="Succeeded",
        reason="Completed",
        resultsUri="s3://evaluations/team-b/runs/team-b/best/manifest.json",
        resultsDigest="d" * 64,
        trusted=True,
        scores=[{"benchmark": "mme\x1b[31m", "metric": "acc\n", "value": "1.0"}],
    )
    end_pod(place, "moved-run", 0, said)
    status = place.ended("moved")
    uid = place.get("evaluationrun", "moved")["metadata"]["uid"]
    own = f"s3://evaluations/{place.namespace}/runs/{place.namespace}/moved/{uid}/manifest.json"
    assert status["results"]["uri"] == own
    assert "\\u001b" not in json.dumps(status)
    gets(f"status.results.uri is {own}: what lies there has to have the digest that it claims")


@attack(49, POD, "uses the token of its workload identity at the API server")
def test_the_token_of_an_identity_opens_nothing_else(place: Place, gets: Gets) -> None:
    server, audience = place.server, WebIdentity.model_fields["audience"].default
    made = ("-n", place.namespace, "create", "token", "default")
    token = server.kubectl(*made, f"--audience={audience}").stdout.strip()
    usual = server.kubectl(*made).stdout.strip()
    config = json.loads(server.kubectl("config", "view", "-o", "json").stdout)
    address = config["clusters"][0]["cluster"]["server"]

    def ask(token: str) -> str:
        options = ("--kubeconfig=/dev/null", f"--server={address}", "--insecure-skip-tls-verify")
        done = server.kubectl(*options, f"--token={token}", "auth", "whoami", check=False)
        return str(done.stdout + done.stderr).strip()

    assert f"system:serviceaccount:{place.namespace}:default" in ask(usual)
    said = ask(token)
    assert "Unauthorized" in said or "logged in" in said
    assert "system:serviceaccount" not in said
    gets(said)
