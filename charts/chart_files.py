"""Write what the chart has from elsewhere: `python charts/chart_files.py [--check]`.

The CRDs are templates made from the contract, values.schema.json and README.md from values.yaml
and its comments, and the operator's configuration in the schema is the contract's own. Each file is
a pure function of these, so a test can tell a stale one.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evalrun_api import crd
from evalrun_api.operator_config import OperatorConfig

ROOT = Path(__file__).resolve().parents[1]
CHART = Path(__file__).resolve().parent / "lmms-eval-operator"
OF_THE_CHART = ("leaseName", "nodeLossSeconds")
"""Fields of the configuration that the chart itself writes."""

sys.path.insert(0, str(ROOT / "docs"))

from markup import code, table  # noqa: E402 - it lies beside the other pages' generator

Json = dict[str, Any]


# --- values ---


@dataclass(frozen=True)
class Value:
    """One value: where it is, its default, its type if its comment says one, and what it means."""

    path: tuple[str, ...]
    default: Any
    kind: str
    meaning: str

    @property
    def name(self) -> str:
        """As it is given to --set."""
        return ".".join(self.path)

    @property
    def schema(self) -> Json:
        """What a value has to be."""
        return {**self._type(), "description": re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", self.meaning)}

    def _type(self) -> Json:
        if self.kind == "config":
            return {"$ref": "#/$defs/OperatorConfig"}
        if self.kind.startswith("one of "):
            return {"enum": self.kind.removeprefix("one of ").split(", ")}
        if found := re.fullmatch(r"integer from (\d+)", self.kind):
            return {"type": "integer", "minimum": int(found[1])}
        kinds = self.kind.split(" or ") if self.kind else [_kind(self.default)]
        schema: Json = {"type": kinds[0] if len(kinds) == 1 else kinds}
        if self.path[-1].lower().endswith(("labels", "annotations", "selector")):
            schema["additionalProperties"] = {"type": "string"}
        return schema

    @property
    def row(self) -> tuple[str, ...]:
        """Of the table in the README."""
        default = json.dumps(self.default, ensure_ascii=False)
        kind = "object" if self.kind == "config" else self.kind or _kind(self.default)
        return code(self.name), kind.replace("array", "list"), code(default), self.meaning


def _kind(default: Any) -> str:
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return kinds[type(default)]


KEY = re.compile(r"( *)([A-Za-z]\w*):(?: |$)")
COMMENT = re.compile(r" *# -- (?:\(([^)]+)\) )?(.+)")


def documented(text: str) -> list[Value]:
    """The values of a values.yaml. Raises `ValueError` for one without a comment."""
    values = yaml.safe_load(text)
    found: list[Value] = []
    parents: list[tuple[int, str]] = []
    inside: int | None = None
    """Indentation of the value whose lines these are."""
    comment: re.Match[str] | None = None
    for line in text.splitlines():
        if said := COMMENT.fullmatch(line):
            comment = said
        key = KEY.match(line)
        if key is None or (inside is not None and len(key[1]) > inside):
            continue
        inside = None
        parents = [(indent, name) for indent, name in parents if indent < len(key[1])]
        parents.append((len(key[1]), key[2]))
        path = tuple(name for _, name in parents)
        default = values
        for name in path:
            default = default[name]
        if comment is not None:
            found.append(Value(path, default, comment[1] or "", comment[2]))
            inside, comment = len(key[1]), None
        elif not isinstance(default, dict) or not default:
            raise ValueError(f"values.yaml: {'.'.join(path)} has no comment `# -- `")
    return found


def _values() -> list[Value]:
    return documented((CHART / "values.yaml").read_text())


# --- values.schema.json ---


def schema() -> str:
    """The schema of the values: what is not in values.yaml is refused."""
    config = OperatorConfig.model_json_schema(by_alias=True)
    definitions: Json = config.pop("$defs")
    for name in OF_THE_CHART:
        del config["properties"][name]
    root: Json = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart lmms-eval-operator",
        **_object(),
    }
    for value in _values():
        place = root
        for name in value.path[:-1]:
            place = place["properties"].setdefault(name, _object())
        place["properties"][value.path[-1]] = value.schema
    # Helm's own, where this chart is a part of another.
    root["properties"]["global"] = {"type": "object"}
    root["$defs"] = {"OperatorConfig": config, **definitions}
    return json.dumps(root, indent=1, ensure_ascii=False) + "\n"


def _object() -> Json:
    return {"type": "object", "additionalProperties": False, "properties": {}}


# --- README.md ---


def readme() -> str:
    """The chart's page: what it is, and every value."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return "\n".join(
        [
            "<!-- Generated by `make generate` (charts/chart_files.py) from values.yaml; "
            "do not edit. -->\n",
            f"# {chart['name']}\n",
            f"{chart['description']}. Chart {chart['version']} of the operator "
            f"{chart['appVersion']}, for Kubernetes 1.31 and later.\n",
            "[Installing with Helm](../../docs/guides/helm.md) shows how to install, test, "
            "upgrade, roll back and remove it; "
            "[Operating the operator](../../docs/guides/operating.md) what it then does.\n",
            "## Values\n",
            "A value that is not in this table is refused, and so is one of another type.\n",
            table(("value", "type", "default", "meaning"), (value.row for value in _values())),
        ]
    )


# --- templates/crds ---


def crd_template(text: str) -> str:
    """A CRD's file as a template: the same, but for the labels and annotations of the release."""
    comment, _, rest = text.partition("\n")
    escaped = rest.replace("{{", '{{ "{{" }}')
    metadata = re.compile(r"^metadata:\n  name: (\S+)\n", re.MULTILINE)
    filled, count = metadata.subn(
        lambda found: (
            "metadata:\n"
            '  {{- include "lmms-eval-operator.crdMetadata" '
            f'(dict "root" . "name" "{found[1]}") | nindent 2 }}}}\n'
        ),
        escaped,
        count=1,
    )
    assert count == 1, comment
    return f"{{{{- if .Values.crds.enabled }}}}\n{comment}\n{filled}{{{{- end }}}}\n"


def files() -> dict[str, Callable[[], str]]:
    """Each generated file of the chart, and how it is made."""
    crds = {
        f"templates/crds/{name}": lambda text=text: crd_template(text)
        for name, text in crd.files().items()
    }
    return {"values.schema.json": schema, "README.md": readme, **crds}


def stale(chart: Path = CHART) -> list[str]:
    """The files that are missing or not as they should be."""
    return [
        name
        for name, make in files().items()
        if not (chart / name).exists() or (chart / name).read_text() != make()
    ]


def main() -> int:
    """Write the files; with --check only tell which are stale, and end with 1 if any is."""
    parser = argparse.ArgumentParser(description="Write the generated files of the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    if parser.parse_args().check:
        found = stale()
        sys.stdout.write("".join(f"stale: {name}; run `make generate`\n" for name in found))
        return 1 if found else 0
    for name, make in files().items():
        (CHART / name).parent.mkdir(parents=True, exist_ok=True)
        (CHART / name).write_text(make())
    return 0


if __name__ == "__main__":
    sys.exit(main())
