"""The manifests beside this file, read offline.

`manifests/refused`: the last document of a file is refused by the API server with the message of
its `# expect:` line, after those before it were accepted one after another (one with a status goes
to the status subresource). Where a person would hear of it offline too, `# expect-offline:` says
how. `manifests/accepted`: all documents of a file are accepted one after another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from evalrun_api import crd
from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.errors import Refused
from evalrun_api.index import NameIndex, builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.reading import parse_manifests
from evalrun_api.spec import EvaluationRun

pytestmark = pytest.mark.contract

FOLDER = Path(__file__).parent / "manifests"
REFUSED = sorted((FOLDER / "refused").glob("*.yaml"))
ACCEPTED = sorted((FOLDER / "accepted").glob("*.yaml"))
EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*/*.yaml"))
    if "kind: NetworkPolicy" not in path.read_text()
]


def expectation(path: Path, word: str) -> str | None:
    found = re.search(rf"(?m)^# {word}: (.+)$", path.read_text())
    return found[1] if found else None


OFFLINE = [path for path in REFUSED if expectation(path, "expect-offline")]


@pytest.fixture
def read_and_plan(index: NameIndex) -> Callable[[str], None]:
    surroundings = Surroundings(profiles=builtin_profiles(), index=index, policy=LAPTOP)

    def work(text: str) -> None:
        for document in parse_manifests(text, "run.yaml"):
            if isinstance(document, EvaluationRun):
                make_plan(document, "uid", StorePlan(uri="file:///r"), surroundings)

    return work


@pytest.mark.parametrize("path", OFFLINE, ids=lambda path: path.stem)
def test_what_the_api_server_refuses_is_refused_offline(
    path: Path, read_and_plan: Callable[[str], None]
) -> None:
    with pytest.raises(Refused) as refused:
        read_and_plan(path.read_text())
    assert (expectation(path, "expect-offline") or "?") in str(refused.value)


@pytest.mark.parametrize(
    "path", ACCEPTED + [p for p in REFUSED if p not in OFFLINE], ids=lambda path: path.stem
)
def test_what_only_a_transition_refuses_can_be_read(path: Path) -> None:
    documents = [entry for entry in yaml.safe_load_all(path.read_text()) if entry]
    assert len(parse_manifests(path.read_text(), path.name)) == len(documents)


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_refused_manifest_says_what_is_expected(path: Path) -> None:
    assert expectation(path, "expect")
    documents = [entry for entry in yaml.safe_load_all(path.read_text()) if entry]
    assert len({(entry["kind"], entry["metadata"]["name"]) for entry in documents}) == 1
    # Either the last of several is refused for what it changes, or the only one for what it says.
    assert (len(documents) > 1) != (path in OFFLINE) or "status" in documents[-1]


def test_each_rule_of_the_crds_has_a_manifest_that_breaks_it() -> None:
    expected = [expectation(path, "expect") or "" for path in REFUSED]
    messages: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            messages.update(rule["message"] for rule in node.get("x-kubernetes-validations", []))
            for entry in node.values():
                collect(entry)
        elif isinstance(node, list):
            for entry in node:
                collect(entry)

    for kind in crd.KINDS:
        collect(crd.definition(kind))
    assert len(messages) > 20
    assert [m for m in messages if not any(text in m for text in expected)] == []


def test_the_examples_plan_with_the_names_of_this_release() -> None:
    documents = [
        document for path in EXAMPLES for document in parse_manifests(path.read_text(), path.name)
    ]
    surroundings = Surroundings(
        profiles=builtin_profiles(),
        index=builtin_index(),
        policy=LAPTOP,
        benchmarks={
            document.metadata.name: document
            for document in documents
            if isinstance(document, Benchmark)
        },
    )
    runs = [document for document in documents if isinstance(document, EvaluationRun)]
    assert runs
    for run in runs:
        assert make_plan(run, "uid", StorePlan(uri="file:///r"), surroundings).plan.tasks


def test_defaults_that_are_written_down_are_the_defaults() -> None:
    path = FOLDER / "accepted" / "defaults-spelt-out.yaml"
    first, second = parse_manifests(path.read_text(), path.name)
    assert first.spec == second.spec
