"""What docs/guides/gitops.md and the files for GitOps tools say of each other is true.

`make gitops-check` asks the tools themselves, and needs Go.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import yaml

from evalrun_api.status import Phase

sys.path.append(str(Path(__file__).parents[1] / "operator"))

from gitops import tools
from gitops.documents import Row, rows
from gitops.verdicts import APPLICATIONS, FLUX, PAGE, PATCH, ROOT, documented

pytestmark = pytest.mark.contract

RUN = ("lmms-eval.io/v1alpha1", "EvaluationRun")


@pytest.fixture(scope="module")
def played() -> list[Row]:
    return list(rows())


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("patch", PATCH.with_name("generate.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_patch_of_argo_cd_s_settings_holds_the_files_beside_it() -> None:
    module = generator()
    assert PATCH.read_text() == module.patch(), "run `make generate`"
    data = yaml.safe_load(PATCH.read_text())["data"]
    assert data == {key: PATCH.with_name(file).read_text() for key, file in module.SETTINGS.items()}


def test_the_table_of_verdicts_has_every_state_and_every_phase(played: list[Row]) -> None:
    phases = {row.name: row.phase for row in played}
    assert {name: said.phase for name, said in documented().items()} == phases
    assert {*phases.values()} == {*get_args(Phase), ""}


def test_a_run_s_conditions_stand_in_the_order_that_kstatus_relies_on(played: list[Row]) -> None:
    for row in played:
        kinds = [entry["type"] for entry in row.document.get("status", {}).get("conditions", ())]
        assert kinds[:3] in ([], ["Ready", "Reconciling", "Stalled"]), row.name


def test_the_samples_are_of_the_kind_that_they_speak_of_and_lead_to_overlays() -> None:
    _, kustomization = yaml.safe_load_all(FLUX.read_text())
    (check,) = kustomization["spec"]["healthCheckExprs"]
    assert (check["apiVersion"], check["kind"]) == RUN
    assert (ROOT / kustomization["spec"]["path"] / "kustomization.yaml").is_file()
    (generated,) = yaml.safe_load(APPLICATIONS.read_text())["spec"]["generators"]
    (folders,) = generated["git"]["directories"]
    found = [folder for folder in ROOT.glob(folders["path"]) if folder.is_dir()]
    assert len(found) > 1
    assert all((folder / "kustomization.yaml").is_file() for folder in found)


def test_the_page_names_the_release_of_argo_cd_that_is_asked() -> None:
    modules = (tools.FOLDER / "argo" / "go.mod").read_text()
    (release,) = re.findall(r"^\t?github.com/argoproj/argo-cd/v2 v(\d+\.\d+)", modules, re.M)
    assert f"Argo CD {release}," in PAGE.read_text()
