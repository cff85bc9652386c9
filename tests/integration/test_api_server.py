"""The CRDs at a real API server: what it refuses, with which words, and what it explains.

`tests/api/test_manifests.py` says how the files are to be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.control_plane import ControlPlane

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).parents[1] / "api" / "manifests"
REFUSED = sorted((FOLDER / "refused").glob("*.yaml"))
ACCEPTED = sorted((FOLDER / "accepted").glob("*.yaml"))


@pytest.fixture(scope="module")
def namespace(api_server: ControlPlane) -> str:
    return api_server.namespace("manifests")


def apply(server: ControlPlane, namespace: str, document: dict[str, Any]) -> tuple[int, str]:
    """Apply a document, one with a status to that; kubectl's exit code and what it wrote."""
    name = document["metadata"]["name"]
    if "status" in document:
        status = document["status"]  # the whole of it: a merge would keep what is left out
        put = {"op": "add", "path": "/status", "value": status}
        change = json.dumps([put if status is not None else {"op": "remove", "path": "/status"}])
        what = ("patch", document["kind"], name, "--subresource=status", "--type=json")
        done = server.kubectl("-n", namespace, *what, "--patch", change, check=False)
    else:
        done = server.kubectl(
            *("-n", namespace, "apply", "--validate=strict", "-f", "-"),
            input=json.dumps(document),
            check=False,
        )
    return done.returncode, done.stdout + done.stderr


def documents(path: Path) -> list[dict[str, Any]]:
    return [entry for entry in yaml.safe_load_all(path.read_text()) if entry]


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_with_its_message(
    path: Path,
    api_server: ControlPlane,
    namespace: str,
    show_message: Callable[[object, str], None],
) -> None:
    *before, last = documents(path)
    for document in before:
        code, said = apply(api_server, namespace, document)
        assert code == 0, said
    code, said = apply(api_server, namespace, last)
    expected = re.search(r"(?m)^# expect: (.+)$", path.read_text())
    assert expected is not None
    assert code != 0
    assert expected[1] in said
    show_message("API server", said)


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_a_good_manifest_is_accepted(path: Path, api_server: ControlPlane, namespace: str) -> None:
    for document in documents(path):
        code, said = apply(api_server, namespace, document)
        assert code == 0, said


def test_kubectl_explains_each_field(
    api_server: ControlPlane, show_figure: Callable[[str], None]
) -> None:
    text = api_server.kubectl("explain", "evaluationrun.spec.model").stdout
    assert "Model family whose defaults fill what the run leaves out" in text
    assert "-required-" in text
    show_figure(f"kubectl explain evaluationrun.spec.model\n{text}")
    everything = api_server.kubectl("explain", "evr.spec", "--recursive").stdout
    for field in ("shards", "startDeadlineSeconds", "reuseAnswers", "trustRemoteCode"):
        assert field in everything
