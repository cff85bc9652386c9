"""JSON schemas for kubeconform, made of what a real API server says of itself at /openapi/v3."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster.access import Access

Json = dict[str, Any]
KIND = "x-kubernetes-group-version-kind"
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
"""How kubeconform finds the schema of a kind in a folder."""


def is_complete(server: Access, paths: Iterable[str]) -> bool:
    """Whether the server tells of these groups already."""
    return set(paths) <= _index(server).keys()


def _index(server: Access) -> Json:
    found: Json = json.loads(server.kubectl("get", "--raw", "/openapi/v3").stdout)
    return dict(found["paths"])


def write(server: Access, folder: Path) -> int:
    """Write a schema for each kind that the server knows; how many."""
    count = 0
    for path in _index(server):
        if not path.startswith(("api/", "apis/")):
            continue
        found: Json = json.loads(server.kubectl("get", "--raw", f"/openapi/v3/{path}").stdout)
        schemas: Json = found.get("components", {}).get("schemas", {})
        strict = {name: closed(_moved(schema)) for name, schema in schemas.items()}
        for name, schema in schemas.items():
            for kind in schema.get(KIND, ()):
                if "metadata" not in schema.get("properties", {}):
                    continue  # DeleteOptions and their like are in every group
                document = {**strict[name], "definitions": strict}
                (folder / file_of(kind)).write_text(json.dumps(document))
                count += 1
    return count


def file_of(kind: Json) -> str:
    """As LOCATION has it: kind, first part of the group, version."""
    group = kind["group"].partition(".")[0]
    parts = [kind["kind"], group, kind["version"]]
    return "-".join(part.lower() for part in parts if part) + ".json"


def _moved(node: Any) -> Any:
    """With references that hold within one file."""
    if isinstance(node, list):
        return [_moved(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value.replace("#/components/schemas/", "#/definitions/")
        if key == "$ref" and isinstance(value, str)
        else _moved(value)
        for key, value in node.items()
    }


def closed(node: Any) -> Any:
    """Unknown fields are refused wherever the server drops them."""
    if isinstance(node, list):
        return [closed(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    result = {
        key: {name: closed(entry) for name, entry in value.items()}
        if key == "properties"
        else closed(value)
        for key, value in node.items()
    }
    if "$ref" in result:  # before draft 2019-09 what stands beside a reference does not count
        return {"$ref": result["$ref"]}
    is_open = result.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in result
    if isinstance(result.get("properties"), dict) and not is_open:
        result["additionalProperties"] = False
    if result.get("x-kubernetes-int-or-string") or result.get("format") == "int-or-string":
        result.pop("type", None)
        result["oneOf"] = [{"type": "integer"}, {"type": "string"}]
        result.pop("anyOf", None)
    # Formats that JSON schema has not, and defaults, which are the server's affair.
    for key in ("format", "default", "nullable"):
        if not isinstance(result.get(key), dict):
            result.pop(key, None)
    return result
