"""How weights and documents reach every step: three processes, three machines, one hub.

Each step is a process of its own with an HF_HOME of its own, as three pods have them.
"""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, files_of

from evalrun_api.termination import TerminationMessage
from evalrun_runner import layout, local
from evalrun_runner.data.index import ArchiveIndex, DataRecord

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

MODEL, DATASET = "team/tiny-llava", "team/easy-vqa"
QUESTIONS = 12
LARGE = 32_000_000
MODELS = Path(__file__).parents[2] / "examples" / "easy-vqa" / "models"


@pytest.fixture(scope="module")
def rows(data: Path) -> bytes:
    """The first questions of easy-VQA as a parquet file."""
    import pyarrow.parquet as pq

    table = pq.read_table(data / "easy_vqa_test.parquet").slice(0, QUESTIONS + 1)
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


@pytest.fixture
def hub(rows: bytes) -> Iterator[Hub]:
    """A hub with the easy-VQA model and questions."""
    served = Hub()
    # A file large enough that the library keeps what came before a cut.
    files = {**files_of(MODELS / "full"), "optimizer.bin": bytes(LARGE)}
    served.repository("models", MODEL).commit(files)
    served.repository("datasets", DATASET).commit({"data/test-00000-of-00001.parquet": rows})
    yield served
    served.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    """Starts the pods' processes."""
    command = [sys.executable, Path(__file__).parent / "pod_nursery.py"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    yield process
    process.kill()
    process.communicate()


class Pods:
    """Runs the steps of a run as pods would: each in a process with an HF_HOME."""

    def __init__(self, workbench: Any, hub: Hub, nursery: subprocess.Popen[str]) -> None:
        self.hub, self.folder, self.nursery = hub, workbench.folder, nursery
        custom = dict(workbench.run().files["easy-vqa"])
        task = custom["easy_vqa.yaml"]
        begin, end = task.index("dataset_path:"), task.index("test_split:")
        custom["easy_vqa.yaml"] = f"{task[:begin]}dataset_path: {DATASET}\n{task[end:]}"
        workbench.benchmark = {"files": custom, "data": None}
        source = {"huggingFace": {"repo": MODEL}}
        args = {"device_map": "cpu", "attn_implementation": "sdpa", "dtype": "float32"}
        self.run = workbench.run(
            model={"profile": "llava_hf", "source": source, "args": args},
            benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": QUESTIONS}],
        )

    def step(self, step: str, kind: str, home: Path | None = None, *options: str) -> Any:
        """Run a step to its end; its outcome. home: what is mounted at HF_HOME."""
        home = home or self.folder / f"hf-{step}"
        workspace = self.run.workspace / step
        run = replace(self.run, workspace=workspace, spool=workspace / "spool")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
            "HF_HOME": str(home),
            "HF_ENDPOINT": self.hub.address,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        arguments = [*local.arguments(run, step), "--cache", kind, *options]
        asked = {"arguments": arguments, "environment": environment, "log": str(run.log)}
        self.nursery.stdin.write(f"{json.dumps(asked)}\n")
        self.nursery.stdin.flush()
        ready, _, _ = select.select([self.nursery.stdout], [], [], 240)
        assert ready, f"{step} does not end"
        assert self.nursery.stdout.readline() == "ended\n"
        return TerminationMessage.model_validate_json(run.termination.read_bytes())


def test_documents_reach_answer_and_score_when_the_hub_has_moved_and_lost_them(
    workbench: Any, hub: Hub, nursery: Any
) -> None:
    pods = Pods(workbench, hub, nursery)
    weights = hub.repository("models", MODEL)
    locked = weights.branches["main"]
    outcome = pods.step("prepare", "pod")
    assert outcome.outcome == "Succeeded", outcome
    assert outcome.model_revision == locked
    assert hub.served["model.safetensors"] == 0, "prepare fetched weights that no step finds"
    assert_lean(workbench, pods)

    # The branch moves, the dataset is gone, and the connection breaks half-way.
    weights.commit(files_of(MODELS / "half"))
    del hub.repositories["datasets", DATASET]
    hub.cut = 1
    outcome = pods.step("answer", "pod", None, "--worker", "0")  # and starts no process for it
    assert (outcome.outcome, outcome.computed) == ("Succeeded", QUESTIONS), outcome
    assert hub.cut == 0
    assert hub.served["optimizer.bin"] < 1.3 * LARGE, "a cut download began anew"

    hub.on = False
    with damaged_part(workbench, pods) as part:
        outcome = pods.step("score", "pod")
        assert (outcome.outcome, outcome.reason) == ("Failed", "CorruptStore")
        assert part in outcome.message
        assert "apply it again" in outcome.message
        home = workbench.folder / "hf-score"
        assert not (home / "datasets").exists()
        assert not list(home.glob(".restoring-*"))
    outcome = pods.step("score", "pod")
    assert outcome.outcome == "Succeeded", outcome
    scored = {score.metric: score.value for score in outcome.scores}

    # The same numbers as with the folders at hand.
    workbench.benchmark = {}
    plain = workbench.run(benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": QUESTIONS}])
    expected = workbench.execute(plain).message
    assert scored == {score.metric: score.value for score in expected.scores}


def archive_of(workbench: Any, pods: Pods) -> str:
    record = DataRecord.model_validate_json(workbench.file(pods.run, "data.json"))
    return layout.data("default", record.archive)


def assert_lean(workbench: Any, pods: Pods) -> None:
    """The archive holds documents and processor, neither weights nor what is there twice."""
    data = workbench.store(pods.run).get(f"{archive_of(workbench, pods)}/index.json")
    index = ArchiveIndex.model_validate_json(data)
    names = [Path(member.path).name for member in index.contents.members]
    assert not any(name.endswith((".safetensors", ".bin", ".parquet")) for name in names)
    assert any(name.endswith(".arrow") for name in names)
    assert names.count("tokenizer.json") == 1


@contextmanager
def damaged_part(workbench: Any, pods: Pods) -> Iterator[str]:
    """While it lasts, a part of the archive lacks its end."""
    store, folder = workbench.store(pods.run), archive_of(workbench, pods)
    (part,) = [key for key in store.list(f"{folder}/") if key.endswith(".tar.zst")]
    whole = store.get(part)
    store.put(part, whole[:-10])
    yield part
    store.put(part, whole)


def test_a_shared_volume_is_filled_once_and_asks_the_hub_no_more(
    workbench: Any, hub: Hub, nursery: Any
) -> None:
    pods, home = Pods(workbench, hub, nursery), workbench.folder / "volume"
    outcome = pods.step("prepare", "shared", home)
    assert outcome.outcome == "Succeeded", outcome
    assert hub.served["model.safetensors"] > 0, "the weights are to wait on the volume"
    # Another run brings newer questions into the same volume.
    (info,) = (home / "datasets").glob("team___easy-vqa/*/*/*/dataset_info.json")
    cached = info.parent
    newer = cached.with_name("f" * 40)
    newer.mkdir()
    for file in cached.iterdir():
        (newer / file.name).write_bytes(file.read_bytes()[:100])
    asked, hub.on = hub.requests, False
    # Score finds its documents by the same way as answer does; a pod more would show no more.
    outcome = pods.step("answer", "shared", home)
    assert (outcome.outcome, outcome.computed) == ("Succeeded", QUESTIONS), outcome
    assert hub.requests == asked
    record = DataRecord.model_validate_json(workbench.file(pods.run, "data.json"))
    assert record.archive is None
    assert list(workbench.store(pods.run).list("data/")) == []


def test_a_revision_that_is_gone_and_a_hub_that_is_off(
    workbench: Any, hub: Hub, nursery: Any
) -> None:
    pods = Pods(workbench, hub, nursery)
    source = {"huggingFace": {"repo": MODEL, "revision": "v9"}}
    plan = pods.run.plan.document()
    plan["model"]["source"] = source
    whole, pods.run = pods.run, replace(pods.run, plan=type(pods.run.plan).model_validate(plan))
    outcome = pods.step("prepare", "pod")
    assert outcome.reason == "ModelNotFound"
    assert f"{MODEL} at v9 (404)" in outcome.message
    hub.on, pods.run = False, whole
    outcome = pods.step("prepare", "pod")
    assert outcome.reason == "SourceUnavailable"
    assert MODEL in outcome.message
