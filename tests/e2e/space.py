"""A namespace in which the easy-VQA example can run, and what tests do with its runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster.cluster import Cluster

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "easy-vqa"
DOCUMENTS: int = yaml.safe_load((EXAMPLE / "gpu.yaml").read_text())["spec"]["benchmarks"][0][
    "limit"
]
"""How many documents the runs of these tests ask for."""
COMPARED = ("results", "groups", "n-samples", "versions", "n-shot", "higher_is_better")

Doc = dict[str, Any]


def merged(base: Any, changes: Any) -> Any:
    """A document with changes laid over it; None removes."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(result.get(key), value)
    return {key: value for key, value in result.items() if value is not None}


@dataclass
class Space:
    """One namespace. seen: every different status that was looked at, by run."""

    cluster: Cluster
    namespace: str
    seen: dict[str, list[Doc]] = field(default_factory=dict)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in the namespace; what it wrote."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, **options).stdout

    def apply(self, example: str, name: str | None = None, **spec: Any) -> str:
        """Apply a manifest of the example with changes to its spec; the run's name."""
        document = yaml.safe_load((EXAMPLE / example).read_text())
        document["spec"] = merged(document["spec"], spec)
        document["metadata"]["name"] = name or document["metadata"]["name"]
        self.kubectl("apply", "-f", "-", input=json.dumps(document))
        return str(document["metadata"]["name"])

    def patch(self, name: str, spec: Doc) -> None:
        """Change fields of a run's spec."""
        change = json.dumps({"spec": spec})
        self.kubectl("patch", "evr", name, "--type=merge", "--patch", change)

    def run(self, name: str) -> Doc:
        """The run as it is; its status is remembered."""
        document: Doc = json.loads(self.kubectl("get", "evr", name, "-o", "json"))
        status = document.get("status") or {}
        history = self.seen.setdefault(name, [])
        if not history or history[-1] != status:
            history.append(status)
        return document

    def status(self, name: str) -> Doc:
        """The run's status."""
        found: Doc = self.run(name).get("status") or {}
        return found

    def condition(self, name: str, kind: str) -> Doc:
        """A condition of the run; empty if it has none of that type."""
        conditions = self.status(name).get("conditions", [])
        return next((entry for entry in conditions if entry["type"] == kind), {})

    def until(self, name: str, what: str, true: Callable[[Doc], Any], seconds: float = 300) -> Doc:
        """Wait until something holds for the run's status; the status."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(name)
            if true(status):
                return status
            if time.monotonic() > deadline or ("completionTime" in status and what != "finished"):
                told = self.kubectl("describe", "evr", name)
                pods = self.kubectl("get", "pods", "-o", "wide")
                raise AssertionError(f"{name}: not {what} in {seconds} s\n{told}\n{pods}")
            time.sleep(0.5)

    def finished(self, name: str, seconds: float = 400) -> Doc:
        """Wait until the run has ended; the status."""
        return self.until(name, "finished", lambda status: "completionTime" in status, seconds)

    def pods(self, name: str, step: str | None = None) -> list[Doc]:
        """The pods of a run."""
        label = f"lmms-eval.io/run={name}" + (f",lmms-eval.io/step={step}" if step else "")
        found: list[Doc] = json.loads(self.kubectl("get", "pods", "-l", label, "-o", "json"))[
            "items"
        ]
        return found

    def object(self, uri: str) -> bytes:
        """An object of the store by its address."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body: bytes = self.cluster.s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def results(self, status: Doc) -> tuple[Doc, list[Doc]]:
        """results.json and the samples that a status leads to."""
        folder = status["results"]["uri"].removesuffix("manifest.json")
        results = json.loads(self.object(folder + "results/results.json"))
        samples = self.object(folder + "results/samples_easy_vqa.jsonl").splitlines()
        return results, [json.loads(sample) for sample in samples]

    def writes(self, name: str) -> list[str]:
        """What the operator wrote for a run, by the API server's audit log: verb and object."""
        found = []
        for line in self.cluster.audit_log.read_text().splitlines():
            entry = json.loads(line)
            reference = entry.get("objectRef") or {}
            user = entry["user"].get("username", "")  # none: a request without credentials
            if (
                "lmms-eval-operator" in user
                and entry["verb"] in ("create", "update", "patch", "delete")
                and reference.get("namespace") == self.namespace
                and entry.get("responseStatus", {}).get("code", 500) < 400
                and is_about(name, entry)
            ):
                kind = reference["resource"]
                sub = reference.get("subresource")
                found.append(f"{entry['verb']} {kind}{'/' + sub if sub else ''}")
        return found


def is_about(name: str, entry: Doc) -> bool:
    """Whether an audit entry concerns a run: its status, its children, its events."""
    named = str((entry.get("objectRef") or {}).get("name") or "")
    children = {f"{name}-{suffix}" for suffix in ("plan", "prepare", "answer", "score", "run")}
    return named == name or named in children or named.startswith(f"{name}.")


def assert_equal(ours: tuple[Doc, list[Doc]], plain: Doc) -> None:
    """Every number of results.json and every sample, value by value."""
    results, samples = ours
    assert {key: results.get(key) for key in COMPARED} == {
        key: plain["results"].get(key) for key in COMPARED
    }
    assert len(samples) == len(plain["samples"])
    for mine, theirs in zip(samples, plain["samples"], strict=True):
        assert mine == theirs
