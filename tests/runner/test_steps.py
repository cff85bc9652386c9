"""The three steps over a few hundred documents: sharing, scoring alone, losing the spool."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.manifest import Manifest
from evalrun_api.plan import StorePlan
from evalrun_runner import layout, prepare
from evalrun_runner.journal.segments import pack, read_records

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


def limited(limit: int) -> dict[str, Any]:
    return {"benchmarks": [{"benchmarkRef": {"name": "easy-vqa"}, "limit": limit}]}


def test_three_shards_in_any_order_give_what_one_process_gives(workbench: Any) -> None:
    alone = workbench.run(**limited(300))
    assert workbench.execute(alone).code == 0

    workbench.folder /= "shared"
    workbench.folder.mkdir()
    parallelism = {"shards": 3, "acceleratorsPerShard": 0}
    shared = workbench.run(**limited(300), parallelism=parallelism)
    assert workbench.execute(shared, "prepare").code == 0
    computed = []
    for shard in (2, 0, 1):
        outcome = workbench.execute(shared, "answer", "--shard", str(shard))
        assert outcome.code == 0
        computed.append(outcome.message.computed)
    assert sum(computed) == 300
    assert max(computed) - min(computed) <= 16
    assert workbench.execute(shared, "score").code == 0

    mine, theirs = workbench.results(shared), workbench.results(alone)
    assert mine[0]["results"] == theirs[0]["results"]
    assert mine[1] == theirs[1]
    locks = [json.loads(workbench.file(run, "lock.json"))["answers"] for run in (alone, shared)]
    assert locks[0] == locks[1], "the number of shards moved the address of the answers"


def test_the_engine_behind_a_backend_is_locked_where_it_is_known(
    workbench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"lmms-eval": "1", "torch": "2", "transformers": "3", "vllm": "4", "librosa": "5"}

    def version(name: str) -> str:
        if name not in installed:
            raise prepare.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(prepare, "version", version)
    plan = workbench.run().plan
    update = {"backend": "vllm_generate", "requires": ["librosa>=0.1", "llava @ git+https://x/y"]}
    with_engine = plan.model_copy(update={"model": plan.model.model_copy(update=update)})
    assert prepare.package_versions(with_engine) == installed
    del installed["vllm"], installed["librosa"]
    assert prepare.package_versions(plan) == installed
    assert prepare.package_versions(with_engine) == installed, "an image for preparing lacks it"


def test_an_image_with_torch_for_cpus_prepares_for_one_with_cuda(
    workbench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = prepare.version
    monkeypatch.setattr(
        prepare, "version", lambda name: installed(name) + ("+cpu" if name == "torch" else "")
    )
    run = workbench.run(**limited(16))
    assert workbench.execute(run, "prepare").code == 0
    monkeypatch.undo()
    assert workbench.execute(run, "answer").code == 0
    versions = json.loads(workbench.file(run, "lock.json"))["versions"]
    assert versions["torch"] == installed("torch").partition("+")[0]


def test_scoring_needs_no_weights(workbench: Any, tmp_path: Any) -> None:
    run = workbench.run(**limited(100))
    assert workbench.execute(run).code == 0

    again = workbench.again(run)
    store = workbench.store(run)
    store.put(layout.lock_of_run(again.plan.run), workbench.file(run, "lock.json"))
    bare = replace(again, volumes={**run.volumes, "models": tmp_path / "nothing"})
    assert workbench.execute(bare, "score").code == 0
    assert workbench.results(bare)[1] == workbench.results(run)[1]


def test_a_kill_that_loses_the_spool_costs_one_flush_interval(workbench: Any) -> None:
    run = workbench.run(**limited(3000))
    first = workbench.start(run)
    deadline = time.monotonic() + 120
    reported = 0
    while time.monotonic() < deadline:
        progress = first.progress()
        if progress and progress.step == "answer":
            reported = progress.computed
            if reported >= 1500:
                break
        time.sleep(0.05)
    rate = progress.requests_per_second
    first.kill()
    first.wait(10)
    shutil.rmtree(run.spool)
    kept, _ = workbench.journaled(run)
    assert kept > 0
    assert reported - kept <= 1.5 * rate * 5 + 16, "more than a flush interval was lost"

    message = workbench.execute(workbench.again(run)).message
    assert message.reused == kept
    assert message.computed == 3000 - kept


def test_scoring_refuses_while_an_answer_is_missing(workbench: Any) -> None:
    run = workbench.run(**limited(50), parallelism={"shards": 2, "acceleratorsPerShard": 0})
    workbench.execute(run, "prepare")
    workbench.execute(run, "answer", "--shard", "0")
    outcome = workbench.execute(run, "score")
    assert outcome.reason == "MissingAnswers"
    assert "of 50 requests have no answer" in outcome.message.message


def test_scoring_refuses_an_answer_that_is_none_and_a_task_that_asks_nothing(
    workbench: Any,
) -> None:
    run = workbench.run(**limited(4))
    for step in ("prepare", "answer"):
        assert workbench.execute(run, step).code == 0
    store, lock = workbench.store(run), json.loads(workbench.file(run, "lock.json"))
    segments = layout.segments(run.plan.run.namespace, lock["answers"])

    first, *_ = read_records(store, segments)
    strange = first.model_copy(update={"response": {"$episode": [{}]}})
    store.put(
        f"{segments}0.jsonl.zst", pack(strange.model_dump_json(by_alias=True).encode() + b"\n")
    )
    outcome = workbench.execute(run, "score")
    assert (outcome.code, outcome.reason) == (13, "CorruptJournal")
    assert "document 0" in outcome.message.message
    store.delete(f"{segments}0.jsonl.zst")

    (group,) = lock["groups"]
    group["tasks"].append({**group["tasks"][0], "name": "silent"})
    store.put(layout.lock_of_run(run.plan.run), json.dumps(lock).encode())
    outcome = workbench.execute(run, "score")
    assert outcome.reason == "LockMismatch"
    assert "silent: it asks 0 requests, prepare locked 4" in outcome.message.message


SUBMITTING = """

def to_submit(doc, results):
    return {"submission": {doc["question"]: results[0]}}


def submit(results, args):
    import json

    from lmms_eval.tasks._task_utils.file_utils import generate_submission_file

    with open(generate_submission_file("answers.json", args), "w") as file:
        json.dump(results, file)
"""


@pytest.mark.parametrize("written", [True, False])
def test_a_benchmark_that_another_server_scores_gives_its_file_and_no_score(
    workbench: Any, written: bool
) -> None:
    files = dict(workbench.run().files["easy-vqa"])
    task, code = files["easy_vqa.yaml"], files["easy_vqa_utils.py"]
    head, _, rest = task.partition("metric_list:")
    metrics = "- {metric: submission, aggregation: !function easy_vqa_utils.submit}\n"
    task = f"{head}metric_list:\n  {metrics}metadata:{rest.partition('metadata:')[2]}"
    task = task.replace("easy_vqa_utils.process_results", "easy_vqa_utils.to_submit")
    files["easy_vqa.yaml"] = task
    files["easy_vqa_utils.py"] = code + (
        SUBMITTING if written else SUBMITTING.partition("    with")[0]
    )
    workbench.benchmark = {"files": files}
    run = workbench.run(**limited(4))
    outcome = workbench.execute(run)
    if not written:
        assert outcome.reason == "NoResults"
        return
    assert outcome.code == 0, outcome.message
    manifest = Manifest.model_validate_json(workbench.file(run, "manifest.json"))
    assert manifest.scores == []
    (file,) = manifest.groups[0].submissions
    assert file.path == "results/submissions/answers.json"
    assert len(json.loads(workbench.file(run, file.path))) == 4


def test_two_settings_groups_give_two_results_files_and_one_manifest(workbench: Any) -> None:
    custom = dict(workbench.run().files["easy-vqa"])
    other = custom["easy_vqa.yaml"].replace("task: easy_vqa", "task: easy_vqa_short")
    workbench.benchmark = {"files": {**custom, "easy_vqa_short.yaml": other}}
    workbench.benchmark["tasks"] = ["easy_vqa", "easy_vqa_short"]
    run = workbench.run(**limited(20))
    groups = [
        run.plan.groups[0].model_copy(update={"tasks": ["easy_vqa"]}),
        run.plan.groups[0].model_copy(
            update={"name": "g1", "tasks": ["easy_vqa_short"], "limit": 30, "offset": 5}
        ),
    ]
    run = replace(run, plan=run.plan.model_copy(update={"groups": groups}))
    outcome = workbench.execute(run)
    assert outcome.code == 0, outcome
    manifest = Manifest.model_validate_json(workbench.file(run, "manifest.json"))
    assert [group.results.path for group in manifest.groups] == [
        "results/g0/results.json",
        "results/g1/results.json",
    ]
    assert {(score.benchmark, score.n) for score in manifest.scores} == {
        ("easy_vqa", 20),
        ("easy_vqa_short", 30),
    }


def test_a_run_goes_on_under_its_uid_after_its_store_was_moved(
    workbench: Any, tmp_path: Path
) -> None:
    run = workbench.run(**limited(40), cache={"reuseAnswers": "Never"})
    assert workbench.execute(run, "prepare").code == 0
    assert workbench.execute(run, "answer").code == 0
    (workbench.folder / "store").rename(workbench.folder / "moved")
    store = StorePlan(uri=(workbench.folder / "moved").as_uri())
    moved = replace(run, plan=run.plan.model_copy(update={"store": store}))
    message = workbench.execute(moved).message
    assert (message.outcome, message.reused, message.computed) == ("Succeeded", 40, 0)


def test_progress_and_metrics_are_served_while_it_answers(workbench: Any) -> None:
    run = workbench.run(**limited(1500))
    step = workbench.start(run)
    seen = []
    while step.poll() is None and not (seen and seen[-1].computed > 300):
        if (progress := step.progress()) and progress.step == "answer":
            seen.append(progress)
        time.sleep(0.05)
    address = run.address.read_text()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    metrics = opener.open(f"http://{address}/metrics", timeout=5).read().decode()
    step.stop()
    step.wait(60)
    done = [progress.requests_done for progress in seen]
    assert done == sorted(done)
    assert seen[-1].requests_total == 1500
    assert seen[-1].eta_seconds is not None
    assert 'evalrun_runner_requests_total{origin="computed",task="easy_vqa"}' in metrics
    assert 'evalrun_runner_stage_seconds{stage="generate"}' in metrics
    assert 'evalrun_runner_store_failures_total{reason="StoreUnavailable"} 0.0' in metrics
    lines = [json.loads(line) for line in run.log.read_text().splitlines() if line[:1] == "{"]
    told = {"run": f"default/{run.plan.run.name}", "uid": run.plan.run.uid}
    assert lines
    assert all(told.items() <= line.items() and len(line["attempt"]) == 32 for line in lines)


def test_the_step_ends_when_whoever_started_it_dies(workbench: Any) -> None:
    run = workbench.run(**limited(5000))
    step = workbench.start(run)
    step._process.stdin.close()  # what the kernel does when the parent dies
    assert step.wait(90) == 30
