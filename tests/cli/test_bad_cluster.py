"""What the commands for a cluster say where there is none, or the command line is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_samples import BENCHMARK, RUN

pytestmark = pytest.mark.contract


@dataclass(frozen=True)
class Case:
    """A command line, and what the answer has to hold."""

    id: str
    command: tuple[str, ...]
    field: str
    fault: str
    remedy: str
    code: int = 2


DEAD = ("--kubeconfig", "dead.json")
CASES = [
    Case("no-kubeconfig", ("list",), "--kubeconfig", "there is no kubeconfig", "KUBECONFIG", 3),
    Case(
        "no-such-kubeconfig",
        ("watch", "x", "--kubeconfig", "none"),
        "--kubeconfig",
        "none does not exist",
        "evalrun run works without a cluster",
        3,
    ),
    Case(
        "not-a-kubeconfig",
        ("list", "--kubeconfig", "text"),
        "text",
        "the kubeconfig cannot be used: it is no kubeconfig",
        "kubectl config view",
        3,
    ),
    Case(
        "no-current-context",
        ("list", "--kubeconfig", "aimless.json"),
        "--context",
        "no current-context",
        "Contexts of aimless.json: prod",
    ),
    Case(
        "unknown-context",
        ("list", *DEAD, "--context", "prd"),
        "--context",
        "there is no context 'prd'; did you mean prod?",
        "Contexts of dead.json: prod",
    ),
    Case(
        "unreachable",
        ("list", *DEAD),
        "https://127.0.0.1:",
        "does not answer: Failed to establish a new connection",
        "Check the network",
        3,
    ),
    Case(
        "unreachable-results",
        ("results", "x", "--cluster", *DEAD),
        "https://127.0.0.1:",
        "does not answer",
        "kubectl cluster-info",
        3,
    ),
    Case(
        "store-and-cluster",
        ("results", "--store", "s3://a/b", "--context", "prod"),
        "--context",
        "speaks of a cluster, and --store of a store",
        "Leave one of the two out",
    ),
    Case(
        "timeout",
        ("wait", "x", "--timeout", "soon"),
        "--timeout",
        "'soon' is not a duration",
        "--timeout 10m",
    ),
    Case(
        "empty-name",
        ("cancel", "", "--delete", *DEAD),
        "NAME",
        "'' is not the name of a run",
        "evalrun list -A",
    ),
    Case(
        "name-of-a-path",
        ("results", "..", "--cluster", *DEAD),
        "NAME",
        "'..' is not the name of a run",
        "evalrun list -A",
    ),
    Case(
        "empty-namespace",
        ("list", "-n", "", *DEAD),
        "--namespace",
        "'' is not the name of a namespace",
        "leave -n out for the context's own",
    ),
    Case("goal", ("wait", "x", "--for", "Done"), "--for", "'Done' is not one of", "wait -h"),
    Case(
        "shard", ("logs", "x", "--shard", "-1"), "--shard", "greater than or equal to 0", "logs -h"
    ),
    Case(
        "deleted-document",
        ("cancel", "x", "--delete", "-o", "json"),
        "--output",
        "a deleted run has no document",
        "Leave it out",
    ),
    Case(
        "apply-unknown-field",
        ("apply", "bad.yaml", *DEAD),
        "spec.model.profle",
        "did you mean profile",
        "Fields here",
    ),
    Case(
        "apply-unknown-name",
        ("apply", "benchmark.yaml", "unknown.yaml", *DEAD),
        "spec.benchmarks[1].name",
        "has no task, group or tag 'mmme'",
        "Use a name that lmms-eval knows",
    ),
    Case(
        "apply-two-and-wait",
        ("apply", "run.yaml", "other.yaml", "--wait", *DEAD),
        "--wait",
        "the files hold 2 EvaluationRuns",
        "evalrun wait",
    ),
    Case(
        "apply-dry-and-wait",
        ("apply", "run.yaml", "--wait", "--dry-run", *DEAD),
        "--wait",
        "a dry run starts nothing",
        "Leave out --wait or --dry-run",
    ),
    Case(
        "apply-timeout-alone",
        ("apply", "run.yaml", "--timeout", "5m", *DEAD),
        "--timeout",
        "a limit for --wait",
        "Add --wait",
    ),
    Case(
        "apply-other-namespace",
        ("apply", "placed.yaml", "-n", "team", *DEAD),
        "placed.yaml: metadata.namespace",
        "it is other, and -n says team",
        "Leave one of the two out",
    ),
    Case(
        "apply-no-name",
        ("apply", "nameless.yaml", "--no-check", *DEAD),
        "nameless.yaml: metadata.name",
        "no object can have this name",
        "Give it a name",
    ),
    Case(
        "apply-maybe-twice",
        ("apply", "run.yaml", "default.yaml", *DEAD),
        "https://127.0.0.1:",
        "does not answer",
        "Check the network",
        3,
    ),
]


def kubeconfig(server: str, current: str | None = "prod") -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [
                {"name": "prod", "context": {"cluster": "c", "user": "u", "namespace": "team"}}
            ],
            **({"current-context": current} if current else {}),
        }
    )


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubeconfigs of no use, and manifests."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    files = {
        "dead.json": kubeconfig(f"https://127.0.0.1:{port}"),
        "aimless.json": kubeconfig("https://127.0.0.1:1", None),
        "text": "just text",
        "run.yaml": RUN,
        "benchmark.yaml": BENCHMARK,
        "other.yaml": RUN.replace("shapes-run", "other-run"),
        "bad.yaml": RUN.replace("profile", "profle"),
        "unknown.yaml": RUN.replace("name: mme", "name: mmme"),
        "nameless.yaml": RUN.replace("shapes-run", "''"),
        "default.yaml": RUN.replace("{name: shapes-run}", "{name: shapes-run, namespace: default}"),
        "placed.yaml": RUN.replace("{name: shapes-run}", "{name: shapes-run, namespace: other}"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.usefixtures("surroundings")
def test_it_is_refused_with_field_fault_and_remedy(
    case: Case, invoke: Any, show_message: Callable[[object, str], None]
) -> None:
    result = invoke(*case.command)
    show_message(f"exit {result.exit_code}", result.stderr)
    told = " ".join(result.stderr.split())
    assert result.exit_code == case.code, told
    for part in (case.field, case.fault, case.remedy):
        assert part in told
    assert "Traceback" not in told


def test_an_error_of_a_cluster_is_a_document_too(invoke: Any) -> None:
    result = invoke("list", "-o", "json")
    document = json.loads(result.stdout)
    assert (document["outcome"], document["reason"]) == ("Failed", "ClusterUnavailable")


def test_what_needs_no_cluster_does_not_wait_for_its_client() -> None:
    code = (
        "import sys; from evalrun_cli.main import app; "
        "from typer.testing import CliRunner; "
        "CliRunner().invoke(app, ['list', '--help']); CliRunner().invoke(app, ['models']); "
        "sys.exit('kubernetes' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
