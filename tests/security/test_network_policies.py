"""The network policies of the examples, at a real API server, and the labels they select by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from siege import run_document

from cluster.control_plane import ControlPlane
from cluster.operator_process import SYSTEM
from evalrun_api.names import ONLINE_LABEL, RUN_LABEL, STEP_LABEL
from evalrun_api.operator_config import OperatorConfig
from evalrun_operator.admission import admit, read_run
from evalrun_operator.jobs import build_job, effective_plan
from evalrun_operator.steps import ALL, ANSWER, PREPARE, SCORE

FOLDER = Path(__file__).parents[2] / "examples" / "network-policies"


@pytest.mark.integration
@pytest.mark.parametrize("name", ["runs.yaml", "operator.yaml"])
def test_the_api_server_accepts_the_policies(api_server: ControlPlane, name: str) -> None:
    namespace = api_server.namespace("policies")
    api_server.kubectl("create", "namespace", SYSTEM, check=False)
    where = () if name == "operator.yaml" else ("-n", namespace)
    options = ("create", "--dry-run=server", "--validate=strict", "-f", str(FOLDER / name))
    created = api_server.kubectl(*where, *options).stdout
    assert created.count("created") == len(documents(name))


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def labels(online: bool) -> list[dict[str, str]]:
    """Of the pods of each step."""
    config = OperatorConfig.model_validate(
        {
            "images": {"runner": "r:1"},
            "stores": {"s": {"uri": "s3://evaluations"}},
            "defaultStore": "s",
            "policy": {"allowOnline": True},
        }
    )
    document = run_document("trial", security={"allowOnline": online})
    document["metadata"] |= {"namespace": "team", "uid": "uid-1"}
    run = read_run(document)
    snapshot, _ = admit(run, "uid-1", {}, config)
    plan = effective_plan(snapshot, run)
    jobs = [
        build_job(document, run, kind, plan, snapshot, config, None)
        for kind in (PREPARE, ANSWER, SCORE, ALL)
    ]
    return [job["spec"]["template"]["metadata"]["labels"] for job in jobs]


def selects(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] == "Exists" and rule["key"] not in labels:
            return False
        if rule["operator"] == "In" and labels.get(rule["key"]) not in rule["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


@pytest.mark.decisions
def test_each_pod_is_closed_and_opened_for_what_its_step_needs() -> None:
    opened = {
        found[STEP_LABEL]: {
            policy["metadata"]["name"].removeprefix("evalrun-")
            for policy in documents("runs.yaml")
            if selects(policy, found)
        }
        for found in labels(online=False)
    }
    assert opened == {
        "prepare": {"closed", "store", "downloads"},
        "answer": {"closed", "store"},
        "score": {"closed", "store", "judge"},
        "all": {"closed", "store", "downloads"},
    }


@pytest.mark.decisions
def test_only_pods_of_a_run_that_may_go_online_say_so() -> None:
    for found in labels(online=True):
        assert found[ONLINE_LABEL] == "true"
        assert found[RUN_LABEL] == "trial"
    for found in labels(online=False):
        assert ONLINE_LABEL not in found


@pytest.mark.decisions
def test_no_policy_of_runs_leads_into_the_cluster_or_to_its_metadata() -> None:
    for policy in documents("runs.yaml"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert {"10.0.0.0/8", "169.254.0.0/16"} <= {*peer["ipBlock"]["except"]}
