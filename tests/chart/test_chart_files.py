"""The chart's files, as far as they can be judged without Helm."""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalrun_api import crd
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.reading import read

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "charts"))
sys.path.insert(0, str(Path(__file__).parent))
chart_files = importlib.import_module("chart_files")
rights = importlib.import_module("rights")
CHART = ROOT / "charts" / "lmms-eval-operator"

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("name", chart_files.files())
def test_a_generated_file_of_the_chart_is_up_to_date(name: str) -> None:
    assert (CHART / name).read_text() == chart_files.files()[name](), "run `make generate`"


def test_a_stale_or_missing_file_is_found(tmp_path: Path) -> None:
    for name, make in chart_files.files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(make())
    assert chart_files.stale(tmp_path) == []
    (tmp_path / "README.md").write_text("old")
    (tmp_path / "values.schema.json").unlink()
    assert chart_files.stale(tmp_path) == ["values.schema.json", "README.md"]


def test_the_chart_has_the_crds_but_for_the_releases_labels() -> None:
    """Rendered they are compared by `make chart-check`; here, what is a template in them."""
    for name, text in crd.files().items():
        template = (CHART / "templates" / "crds" / name).read_text()
        plain = re.sub(r"^\{\{- (?:if|end).*\n", "", template, flags=re.MULTILINE)
        (filled,) = re.findall(r"^  \{\{- include .*\n", plain, re.MULTILINE)
        (own,) = re.findall(r'"name" "([^"]+)"', filled)
        assert yaml.safe_load(plain.replace(filled, f"  name: {own}\n")) == yaml.safe_load(text)
        assert plain.count("{{") == 1


def test_text_of_a_crd_that_looks_like_a_template_is_not_taken_for_one() -> None:
    text = "# made\nmetadata:\n  name: a.b\nspec: '{{ x }}'\n"
    assert '{{ "{{" }} x }}' in chart_files.crd_template(text)


def test_the_chart_follows_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert values["config"]["images"]["runner"].endswith(f":{version}")


@pytest.mark.parametrize(
    "text",
    ["a: 1\n", "# -- x\na: 1\nb:\n  c: 1\n", "# a comment\na: {}\n"],
    ids=["plain", "nested", "empty"],
)
def test_a_value_without_a_description_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="has no comment"):
        chart_files.documented(text)


def test_the_schema_refuses_unknown_values_at_every_level() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_ones = {
        value.name
        for value in chart_files.documented((CHART / "values.yaml").read_text())
        if value.schema.get("type") == "object"
    }

    def sections(node: dict[str, Any], path: str) -> Iterator[str]:
        if "properties" not in node:
            if node.get("type") == "object" and path not in open_ones:
                yield path
            return
        if node["additionalProperties"] is not False:
            yield path
        for key, entry in node["properties"].items():
            yield from sections(entry, f"{path}.{key}" if path else key)

    assert list(sections(schema, "")) == ["global"]
    for name, definition in schema["$defs"].items():
        assert definition["additionalProperties"] is False, name


@pytest.mark.parametrize("file", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_values_that_the_chart_is_checked_with_are_a_configuration(file: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["config"]
    own = (yaml.safe_load(file.read_text()) or {}).get("config", {})
    read(OperatorConfig, {**values, **own})


def rules(name: str) -> list[dict[str, Any]]:
    text = (CHART / "templates" / "rbac.yaml").read_text()
    (found,) = re.findall(
        rf'define "lmms-eval-operator\.{name}" -}}}}\n(.*?){{{{- end', text, re.DOTALL
    )
    return list(yaml.safe_load(found))


def test_chart_and_kustomize_grant_the_same() -> None:
    own, lost = (
        next(yaml.safe_load_all((ROOT / "config" / file).read_text()))["rules"]
        for file in ("rbac/operator.yaml", "node-loss/pods.yaml")
    )
    assert rules("rules") + rules("kueueRules") == own
    assert rules("nodeLossRules") == lost


def test_a_request_is_covered_by_the_grant_that_allows_it_and_by_no_other() -> None:
    grant = rights.Grant("coordination.k8s.io", "leases", "get", "system", "operator")
    request = rights.Request("coordination.k8s.io", "leases", "get", "system", "operator", True)
    assert grant.covers(request)
    others = [
        rights.Request("", "leases", "get", "system", "operator", True),
        rights.Request("coordination.k8s.io", "leases", "watch", "system", "operator", True),
        rights.Request("coordination.k8s.io", "leases", "get", "other", "operator", True),
        rights.Request("coordination.k8s.io", "leases", "get", "system", "another", True),
    ]
    assert not any(grant.covers(other) for other in others)
    assert rights.unused({grant}, set(others)) == [grant]
    assert rights.lacking({grant}, {request, *others}) == sorted(others)
    refused = rights.Request("coordination.k8s.io", "leases", "get", "system", "operator", False)
    assert rights.lacking({grant}, {refused}) == [refused]


def test_rights_that_nobody_may_have_are_found() -> None:
    fine = rights.Grant("", "configmaps", "get")
    bad = [rights.Grant("", "secrets", "get"), rights.Grant("", "pods/exec", "create")]
    bad.append(rights.Grant("rbac.authorization.k8s.io", "clusterroles", "escalate"))
    assert rights.excessive({fine, *bad}) == sorted(bad)
