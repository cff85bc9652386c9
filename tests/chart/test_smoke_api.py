"""The script of `helm test` at a real API server, with its own account's rights, without a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helm import NAMESPACE, RELEASE, Helm, of_kind
from test_smoke import smoke

from cluster.control_plane import ControlPlane
from cluster.operator_process import establish

pytestmark = pytest.mark.chart

SPEC = {
    "model": {"profile": "llava_hf", "source": {"volume": {"claimName": "models"}}},
    "benchmarks": [{"name": "mme", "limit": 8}],
}
OF_THE_TEST = ("ServiceAccount", "Role", "RoleBinding", "Service")


def test_its_account_may_do_what_it_does_and_no_more_is_needed(
    plane: ControlPlane,
    helm: Helm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    establish(plane)
    documents = helm.documents(test={"run": SPEC, "namespace": "team-a"})
    made = [document for document in documents if document["kind"] in OF_THE_TEST]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    plane.kubectl("apply", "-f", "-", input=listed)
    account = ("create", "token", f"{RELEASE}-test")
    (tmp_path / "token").write_text(plane.kubectl("-n", NAMESPACE, *account).stdout)
    (tmp_path / "ca.crt").write_bytes(plane.authority.certificate.read_bytes())
    monkeypatch.setattr(smoke, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", plane.host_ip)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.api_port))
    api = smoke.Api()
    (script,) = of_kind(documents, "ConfigMap", f"{RELEASE}-test")
    run = json.loads(script["data"]["run.json"])
    with pytest.raises(SystemExit, match="has no ready endpoint"):
        smoke.ask_replicas(api, f"{NAMESPACE}/{RELEASE}", 0)
    smoke.ask_the_api(api, run)
    with pytest.raises(SystemExit, match="has not ended in 0 s"):
        smoke.evaluate(api, run, 0)
    with pytest.raises(SystemExit, match="has not ended in 3 s"):
        smoke.evaluate(api, run, 3)  # the first one was removed
    assert capsys.readouterr().out.count("is applied") == 2
    code, refused = api.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets")
    assert code == 403, refused
    plane.kubectl("delete", "-f", "-", input=listed)
    plane.kubectl("-n", "team-a", "delete", "evr", "--all")
