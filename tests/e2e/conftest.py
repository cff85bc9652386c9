"""A real cluster with the operator installed as the README says, and a plain lmms-eval run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import demo
from cluster.cluster import Cluster

sys.path.insert(0, str(Path(__file__).parent))

from space import DOCUMENTS, EXAMPLE, ROOT, Space


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with images, CRDs and a running operator."""
    cluster.ensure_images()
    cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "config" / "demo"))
    cluster.kubectl(
        *("-n", "lmms-eval-system", "rollout", "status", "deployment/lmms-eval-operator"),
        "--timeout=120s",
    )
    return cluster


@pytest.fixture
def space(installed: Cluster, tmp_path: Path) -> Iterator[Space]:
    """A namespace with the example's claims, Secret and Benchmark."""
    namespace = installed.namespace("e2e")
    tmp_path.chmod(0o755)
    demo.set_up(installed, installed.s3, namespace, tmp_path)
    found = Space(installed, namespace)
    found.kubectl("apply", "-f", str(EXAMPLE / "benchmark.yaml"))
    yield found
    installed.kubectl("delete", "namespace", namespace, "--timeout=120s")
    installed.kubectl("delete", "pv", f"{namespace}-models", f"{namespace}-data")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A plain `python -m lmms_eval` run of what gpu.yaml asks for, at batch 1."""
    folder = tmp_path_factory.mktemp("plain")
    include = folder / "include"
    include.mkdir()
    written = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())
    for name, text in written["spec"]["files"].items():
        (include / name).write_text(text.replace("${DATA}", str(demo.data())))
    arguments = (
        f"pretrained={EXAMPLE / 'models' / 'full'},"
        "dtype=float32,device_map=cpu,attn_implementation=sdpa"
    )
    command = [sys.executable, "-m", "lmms_eval", "--model", "llava_hf", "--device", "cpu"]
    command += ["--model_args", arguments, "--tasks", "easy_vqa", "--include_path", str(include)]
    command += ["--batch_size", "1", "--process_docs_parallel", "1", "--limit", str(DOCUMENTS)]
    command += ["--log_samples", "--output_path", str(folder)]
    with (folder / "log").open("wb") as log:
        subprocess.run(
            command,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
        )
    (results,) = folder.rglob("*_results.json")
    (samples,) = folder.rglob("*_samples_easy_vqa.jsonl")
    return {
        "results": json.loads(results.read_text()),
        "samples": [json.loads(line) for line in samples.read_text().splitlines()],
    }


@pytest.fixture
def clock() -> Callable[[], str]:
    """Seconds since the test began, as text."""
    begun = time.monotonic()
    return lambda: f"{time.monotonic() - begun:.0f} s"
