"""The operator reckons the address of a run's results; the runner writes just there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.addresses import manifest_uri
from evalrun_api.plan import RunIdentity, StorePlan
from evalrun_operator.admission import read_run, store_plan
from evalrun_runner import layout
from evalrun_runner.stores import open_store

sys.path.append(str(Path(__file__).parents[1] / "operator"))

from world_documents import configuration, run_document

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

RUN = RunIdentity(namespace="team", name="one", uid="0000-1")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://evaluations",
        "s3://evaluations/",
        "s3://evaluations/team/x",
        "s3://evaluations/team/x/",
        "file:///volumes/out",
        "file:///volumes/out/a%20folder/%C3%BC",
    ],
)
def test_both_reckon_the_same_address(uri: str) -> None:
    plan = StorePlan(uri=uri)
    assert open_store(plan).uri(layout.manifest(RUN)) == manifest_uri(plan, RUN)


@pytest.mark.parametrize("path", ["", "plain", "x%2f..%2f..%2fother", "a#b", "a?b", "a b/xü"])
def test_a_folder_of_a_volume_is_the_one_that_was_named(path: str) -> None:
    results: dict[str, Any] = {"volume": {"claimName": "out", "path": path}}
    plan = store_plan(read_run(run_document(results=results)), configuration())
    root = open_store(plan)._root
    assert root.as_posix() == "/volumes/out" + (f"/{path}" if path else "")
    assert open_store(plan).uri(layout.manifest(RUN)) == manifest_uri(plan, RUN)
