"""Where the pods of a run keep what they fetch: the run's volume, the node's cache, or the pod."""

from __future__ import annotations

from typing import Any

import pytest
from world_documents import configuration, run_document

from evalrun_api.errors import Refused
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.reading import read
from evalrun_operator.admission import admit, read_run
from evalrun_operator.jobs import build_job, effective_plan
from evalrun_operator.steps import ALL, ANSWER, PREPARE, SCORE, StepKind

pytestmark = pytest.mark.decisions

HOST = {"hostPath": "/var/lib/evalrun"}
CLAIM = {"claimName": "node-disk"}
VOLUME = {"volume": {"claimName": "shared", "path": "hub"}}


def pod(kind: StepKind, settings: dict[str, Any], **spec: Any) -> dict[str, Any]:
    config = read(OperatorConfig, {**configuration().document(), **settings})
    document = run_document(**spec)
    run = read_run(document)
    snapshot, _ = admit(run, "uid-1", {}, config)
    plan = effective_plan(snapshot, run)
    job = build_job(document, run, kind, plan, snapshot, config, None)
    built: dict[str, Any] = job["spec"]["template"]["spec"]
    return built


def cache_of(built: dict[str, Any]) -> tuple[str | None, str, list[str]]:
    """--cache, HF_HOME, and what is mounted at /cache."""
    container = built["containers"][0]
    arguments = container["args"]
    kind = arguments[arguments.index("--cache") + 1] if "--cache" in arguments else None
    home = next(entry["value"] for entry in container["env"] if entry["name"] == "HF_HOME")
    names = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/cache"]
    found = [volume for volume in built["volumes"] if volume["name"] in names]
    return kind, home, [str({**volume, "name": ""}) for volume in found]


@pytest.mark.parametrize("kind", [PREPARE, ANSWER, SCORE])
def test_the_run_s_volume_comes_before_the_node_s_cache_and_that_before_the_pod(
    kind: StepKind,
) -> None:
    shared = cache_of(pod(kind, {"nodeCache": HOST}, cache=VOLUME))
    assert shared[:2] == ("shared", "/cache/huggingface")
    assert len(shared[2]) == 1
    assert "'claimName': 'shared'" in shared[2][0]

    host = cache_of(pod(kind, {"nodeCache": HOST}))
    assert host[:2] == ("node", "/cache/huggingface")
    assert "{'path': '/var/lib/evalrun', 'type': 'Directory'}" in host[2][0]
    claim = cache_of(pod(kind, {"nodeCache": CLAIM}))
    assert claim[:2] == ("node", "/cache/huggingface")
    assert "'claimName': 'node-disk'" in claim[2][0]

    assert cache_of(pod(kind, {})) == ("pod", "/work/.cache/huggingface", [])


def test_one_process_finds_what_it_fetched_itself() -> None:
    assert cache_of(pod(ALL, {}))[0] is None


def test_a_mirror_of_the_hub_is_told_to_the_pods() -> None:
    built = pod(ANSWER, {"hubEndpoint": "https://mirror.example/hf"})
    assert {"name": "HF_ENDPOINT", "value": "https://mirror.example/hf"} in (
        built["containers"][0]["env"]
    )
    assert "HF_ENDPOINT" not in str(pod(ANSWER, {}))


@pytest.mark.parametrize(
    "settings",
    [{"nodeCache": {}}, {"nodeCache": {**HOST, **CLAIM}}, {"nodeCache": {"hostPath": "data"}}],
)
def test_a_node_cache_is_one_folder_or_one_claim(settings: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="nodeCache"):
        pod(ANSWER, settings)
