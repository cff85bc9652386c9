"""Which cluster is meant, and what is said of a kubeconfig that is wrong: nothing that it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalrun_cli import cluster_choice, connection
from evalrun_cli.cluster_choice import choose

pytestmark = pytest.mark.contract

SECRET = "SECRET-TOKEN-123"
GOOD: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": SECRET}}],
    "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "prod",
}
CONTEXT = {"cluster": "c", "user": "u"}
TLS = {"server": "https://127.0.0.1:1", "certificate-authority-data": f"{SECRET}!"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"users": [{"name": "u", "token": SECRET}]}, "users u: there is no user in the entry"),
    ({"users": [{"name": "u", "user": SECRET}]}, "users u: there is no user in the entry"),
    ({"users": {"u": {"token": SECRET}}}, "users is no list"),
    ({"users": [{"token": SECRET}]}, "users[0] has no name"),
    ({"users": [SECRET]}, "users[0] has no name"),
    ({"users": [{"name": {"t": SECRET}, "user": {}}]}, "users[0] has no name"),
    ({"users": []}, "contexts prod: its user is not one of users"),
    (
        {"users": [{"name": "u", "user": {"client-key": SECRET}}]},
        "users u: the file that client-key names does not exist",
    ),
    ({"clusters": [{"name": "c", "token": SECRET}]}, "clusters c: there is no cluster in the"),
    ({"clusters": [{"name": "c", "cluster": {"t": SECRET}}]}, "clusters c: there is no server"),
    ({"clusters": [{"name": "c", "cluster": TLS}]}, "context prod names a cluster or a user that"),
    ({"contexts": [{"name": "prod", "token": SECRET}]}, "contexts prod: there is no context in"),
    (
        {"contexts": [{"name": "prod", "context": {**CONTEXT, "cluster": SECRET}}]},
        "contexts prod: its cluster is not one of clusters",
    ),
]


@pytest.mark.parametrize(("change", "told"), WRONG)
def test_an_entry_is_named_and_nothing_of_it_is_shown(
    change: dict[str, Any],
    told: str,
    invoke: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    show_message: Any,
) -> None:
    monkeypatch.setenv("EVALRUN_DEBUG", "1")
    (tmp_path / "kc.yaml").write_text(json.dumps({**GOOD, **change}))
    done = invoke("list", "--kubeconfig", "kc.yaml")
    show_message(f"exit {done.exit_code}", done.stderr[done.stderr.rindex("failed (") :])
    assert done.exit_code == 3
    assert told in " ".join(done.stderr.split())
    assert SECRET not in done.output


@pytest.mark.parametrize("text", [f"users: [{{token: {SECRET}", f"users: *{SECRET}", "a: \x00"])
def test_of_what_is_no_yaml_only_the_line_is_told(invoke: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "kc.yaml").write_text(text)
    done = invoke("list", "--kubeconfig", "kc.yaml", "-o", "json")
    assert done.exit_code == 3
    assert "it is not valid YAML" in json.loads(done.stdout)["message"]
    assert SECRET not in done.output


def test_of_several_kubeconfigs_the_first_entry_of_a_name_counts(tmp_path: Path) -> None:
    other = {**GOOD, "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:2"}}]}
    for name, document in (("a", GOOD), ("b", {**other, "current-context": "none"})):
        (tmp_path / name).write_text(json.dumps(document))
    environment = {"KUBECONFIG": f"{tmp_path}/a:{tmp_path}/absent:{tmp_path}/b"}
    found = connection.connect(choose(None, None, None, environment, tmp_path))
    assert (found.server, found.context, found.namespace) == (
        "http://127.0.0.1:1",
        "prod",
        "default",
    )


def test_files_of_a_kubeconfig_are_looked_for_beside_it(tmp_path: Path) -> None:
    user = {"name": "u", "user": {"tokenFile": "token"}}
    (tmp_path / "kc").write_text(json.dumps({**GOOD, "users": [user]}))
    (tmp_path / "token").write_text("t")
    connection.connect(choose(str(tmp_path / "kc"), None, None, {}, tmp_path))


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's service account."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("t")
    monkeypatch.setattr(cluster_choice, "SERVICE_ACCOUNT", folder)
    monkeypatch.setattr(connection, "SERVICE_ACCOUNT", folder)
    return folder


@pytest.mark.parametrize("by", ["--kubeconfig", "KUBECONFIG"])
def test_a_kubeconfig_that_is_named_and_absent_is_not_replaced_by_the_pods_own(
    invoke: Any, pod: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    options = ("--kubeconfig", "typo") if by == "--kubeconfig" else ()
    monkeypatch.setenv("KUBECONFIG", "typo")
    done = invoke("list", *options)
    assert done.exit_code == 3
    assert "typo does not exist" in " ".join(done.stderr.split())


def test_in_a_pod_its_own_cluster_is_meant_where_nothing_is_named(
    invoke: Any, pod: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose(None, None, None, {}, pod).is_pods_own
    assert choose(None, None, None, {"KUBECONFIG": ""}, pod).is_pods_own
    assert not choose(None, "prod", None, {}, pod).is_pods_own
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("HOME", str(pod))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = invoke("list")
    assert done.exit_code == 3
    assert "the pod's service account cannot be used" in " ".join(done.stderr.split())
