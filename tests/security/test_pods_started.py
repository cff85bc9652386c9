"""A hostile run author's variables and plans, as they reach the runner's own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attacks import AUTHOR, Gets, attack

from evalrun_api.checks import Surroundings
from evalrun_api.errors import Refused
from evalrun_api.index import builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.spec import EvaluationRun
from evalrun_api.termination import TerminationMessage

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


def plan_document(folder: Path) -> dict[str, Any]:
    """A plan as the operator makes it."""
    run = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "EvaluationRun",
        "metadata": {"name": "trial"},
        "spec": {
            "model": {
                "profile": "llava_hf",
                "source": {"huggingFace": {"repo": "llava-hf/llava-1.5-7b-hf"}},
            },
            "benchmarks": [{"name": "mme"}],
        },
    }
    planned = make_plan(
        EvaluationRun.model_validate(run),
        "uid-1",
        StorePlan(uri=(folder / "store").as_uri()),
        Surroundings(builtin_profiles(), builtin_index(), LAPTOP),
    )
    return planned.plan.document()


def prepare(folder: Path, plan: dict[str, Any], **environment: str) -> tuple[int, str]:
    """Start the runner's step prepare, as a pod does; exit code, and log with last message."""
    (folder / "plan.json").write_text(json.dumps(plan))
    said = folder / "termination.json"
    options = ["--plan", str(folder / "plan.json"), "--work", str(folder / "work")]
    done = subprocess.run(
        [sys.executable, "-m", "evalrun_runner", "prepare", *options, f"--termination-log={said}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    message = ""
    if said.exists():
        message = TerminationMessage.model_validate_json(said.read_bytes()).message
    assert not (folder / "store").exists(), "it has begun to work"
    return done.returncode, f"{message}\n{done.stderr}"


@attack(47, AUTHOR, "has a Secret (envFrom) set LD_PRELOAD, PATH and AWS_ENDPOINT_URL in its pods")
def test_reserved_names_of_a_secret_end_the_runner(gets: Gets, tmp_path: Path) -> None:
    names = ("LD_PRELOAD", "PATH", "AWS_ENDPOINT_URL", "PYTHONSTARTUP")
    given = {f"EVALRUN_FROM_{name}": f"/volumes/evil/{name.lower()}" for name in names}
    code, said = prepare(tmp_path, plan_document(tmp_path), **given)
    assert code == 10
    for name in names:
        assert f"envFrom: key {name}: " in said
        assert given[f"EVALRUN_FROM_{name}"] not in said, "a Secret's value is shown"
    gets(said.splitlines()[0])


@attack(48, AUTHOR, "hands the runner a plan that the operator would have refused")
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("trust_remote_code", "Use spec.security.trustRemoteCode instead"),
        ("base_url", "Use spec.model.source.endpoint.url instead"),
        ("my_api_key", "it is a secret, and plans are not"),
        ("mcp_server_path", "it is a program, which the backend runs"),
    ],
)
def test_the_runner_refuses_a_plan_that_goes_around_a_key(
    gets: Gets, tmp_path: Path, argument: str, words: str
) -> None:
    from evalrun_runner.main import _read_plan

    plan = plan_document(tmp_path)
    plan["model"]["args"][argument] = "sk-proj-0123456789abcdefghijklmnop"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(Refused) as caught:
        _read_plan(tmp_path / "plan.json")
    told = str(caught.value)
    assert f"spec.model.args.{argument}: " in told
    assert words in told
    if argument == "base_url":  # once as a process: the others differ in nothing else
        code, said = prepare(tmp_path, plan)
        assert code == 10
        assert told in said
        assert "sk-proj" not in said
    gets(told)
