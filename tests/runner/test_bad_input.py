"""What the runner says to bad input: where, the fault, the remedy. Nothing is lost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.plan import RunPlan, StorePlan
from evalrun_api.reasons import REASONS
from evalrun_runner import layout, local
from evalrun_runner.journal import writing
from evalrun_runner.journal.segments import pack

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


def limited(limit: int, **more: Any) -> dict[str, Any]:
    return {"benchmarks": [{"benchmarkRef": {"name": "easy-vqa"}, "limit": limit, **more}]}


@pytest.fixture(autouse=True)
def _few_documents(workbench: Any) -> None:
    """A bad input that were taken for a good one should not cost a whole evaluation."""
    workbench.spec = limited(20)


@pytest.fixture
def refused(workbench: Any, show_message: Callable[[object, str], None]) -> Callable[..., str]:
    """Execute a run that has to fail for a reason; its message, which has to hold some words."""

    def execute(run: local.LocalRun, reason: str, *words: str, step: str = "all") -> str:
        outcome = workbench.execute(run, step)
        message: str = outcome.message.message
        show_message(f"exit {outcome.code}, {outcome.reason}", message)
        assert outcome.reason == reason, message
        assert outcome.code == REASONS[reason].exit_code
        assert outcome.message.outcome == "Failed"
        for word in words:
            assert word in message
        return message

    return execute


def with_plan(run: local.LocalRun, **changes: Any) -> local.LocalRun:
    return replace(run, plan=run.plan.model_copy(update=changes))


def with_model(run: local.LocalRun, **changes: Any) -> local.LocalRun:
    return with_plan(run, model=run.plan.model.model_copy(update=changes))


# The model.


def test_a_missing_weights_folder(workbench: Any, refused: Any, tmp_path: Path) -> None:
    run = workbench.run()
    run = replace(run, volumes={**run.volumes, "models": tmp_path / "elsewhere"})
    refused(run, "ModelNotFound", "spec.model.source.volume", "elsewhere/full", "--volume")


def test_an_empty_weights_folder(workbench: Any, refused: Any, tmp_path: Path) -> None:
    (tmp_path / "m" / "full").mkdir(parents=True)
    run = workbench.run()
    run = replace(run, volumes={**run.volumes, "models": tmp_path / "m"})
    refused(run, "ModelNotFound", "is empty")


def test_damaged_weights(workbench: Any, refused: Any, tmp_path: Path) -> None:
    run = workbench.run(**limited(5))
    shutil.copytree(run.volumes["models"], tmp_path / "m")
    (tmp_path / "m" / "full" / "model.safetensors").write_bytes(b"not weights" * 100)
    run = replace(run, volumes={**run.volumes, "models": tmp_path / "m"})
    refused(run, "ModelLoadFailed", "llava_hf could not load it")


def test_weights_that_changed_since_they_were_locked(
    workbench: Any, refused: Any, tmp_path: Path
) -> None:
    run = workbench.run(**limited(5))
    models = Path(run.volumes["models"])
    workbench.execute(run, "prepare")
    shutil.copytree(models / "half", tmp_path / "m" / "full")
    run = replace(run, volumes={**run.volumes, "models": tmp_path / "m"})
    refused(run, "LockMismatch", "prepare locked sha256:", step="answer")


def test_a_backend_that_does_not_exist(workbench: Any, refused: Any) -> None:
    run = with_model(workbench.run(), backend="llava_hff")
    refused(run, "UnknownBackend", "spec.model.backend", "did you mean llava_hf")


def test_a_backend_whose_packages_are_missing(workbench: Any, refused: Any) -> None:
    run = with_model(workbench.run(), backend="sglang", args={})
    refused(run, "BackendUnusable", "cannot be imported here", "Use an image")


def test_an_argument_the_backend_does_not_have(workbench: Any, refused: Any) -> None:
    args = {**workbench.run().plan.model.args, "dtipe": "float32"}
    run = with_model(workbench.run(), args=args)
    outcome = workbench.execute(run)
    # llava_hf takes **kwargs and refuses them itself, while it loads
    assert outcome.reason in ("BackendUnusable", "ModelLoadFailed")
    refused(workbench.again(run), outcome.reason, "dtipe")


def test_a_repository_that_is_not_in_the_cache(
    workbench: Any, refused: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = {"huggingFace": {"repo": "nobody/nothing-7b"}}
    run = workbench.run(model={"profile": "llava_hf", "source": source}, cache={"offline": True})
    refused(run, "ModelNotFound", "nobody/nothing-7b at main is not in the cache", "HF_HOME")


# The benchmark.


def test_a_task_that_does_not_exist(workbench: Any, refused: Any) -> None:
    run = workbench.run()
    group = run.plan.groups[0].model_copy(update={"tasks": ["easy_vqq"]})
    refused(with_plan(run, groups=[group]), "UnknownBenchmark", "easy_vqa")


def test_a_dataset_file_that_is_missing(workbench: Any, refused: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    run = workbench.run()
    run = replace(run, volumes={**run.volumes, "data": tmp_path / "d"})
    refused(run, "DatasetUnavailable", "its data cannot be loaded", "easy_vqa_test.parquet")


def test_a_data_folder_that_is_missing(workbench: Any, refused: Any, tmp_path: Path) -> None:
    run = workbench.run()
    run = replace(run, volumes={**run.volumes, "data": tmp_path / "nowhere"})
    refused(run, "DatasetUnavailable", "data.volume", "nowhere", "--volume CLAIM=FOLDER")


def test_a_damaged_dataset(workbench: Any, refused: Any, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "easy_vqa_test.parquet").write_bytes(b"PAR1 but nothing else")
    run = workbench.run()
    run = replace(run, volumes={**run.volumes, "data": tmp_path / "d"})
    refused(run, "DatasetUnavailable", "its data cannot be loaded")


def test_a_task_file_with_an_unknown_key(workbench: Any, refused: Any) -> None:
    files = dict(workbench.run().files["easy-vqa"])
    files["easy_vqa.yaml"] += "no_such_setting: 1\n"
    workbench.benchmark = {"files": files}
    refused(workbench.run(), "BenchmarkUnusable", "no_such_setting")


def test_a_task_whose_code_fails(workbench: Any, refused: Any) -> None:
    files = dict(workbench.run().files["easy-vqa"])
    name = next(name for name in files if name.endswith(".py"))
    files[name] += "\nraise RuntimeError('the helper is broken')\n"
    workbench.benchmark = {"files": files}
    refused(workbench.run(), "BenchmarkUnusable", "the helper is broken")


def test_an_offset_behind_the_last_document(workbench: Any, refused: Any) -> None:
    run = workbench.run(**limited(5, offset=20000))
    refused(run, "BenchmarkUnusable", "offset 20000 leaves none of its 9673 documents")


def test_a_request_type_that_is_not_journaled(workbench: Any, refused: Any) -> None:
    files = dict(workbench.run().files["easy-vqa"])
    files["easy_vqa.yaml"] = files["easy_vqa.yaml"].replace(
        "output_type: generate_until", "output_type: generate_visual_cot"
    )
    workbench.benchmark = {"files": files}
    run = workbench.run(evaluation={"forceSimple": True})
    refused(run, "UnsupportedRequest", "generate_visual_cot")


def test_files_that_are_not_those_of_the_plan(workbench: Any, refused: Any) -> None:
    run = workbench.run()
    files = {"easy-vqa": {**run.files["easy-vqa"], "more.py": "x = 1"}}
    refused(replace(run, files=files), "LockMismatch", "are not those of the plan")


def test_documents_that_changed_since_they_were_locked(
    workbench: Any, refused: Any, tmp_path: Path, data: Path
) -> None:
    from pyarrow import parquet

    run = workbench.run()
    assert workbench.execute(run, "prepare").code == 0
    table = parquet.read_table(data / "easy_vqa_test.parquet").slice(0, 40)
    others = table.column("image").take(list(range(39, -1, -1)))
    position = table.column_names.index("image")
    changed = table.set_column(position, table.schema.field("image"), others)
    (tmp_path / "d").mkdir()
    parquet.write_table(changed, tmp_path / "d" / "easy_vqa_test.parquet")
    run = replace(run, volumes={**run.volumes, "data": tmp_path / "d"})
    refused(run, "LockMismatch", "its documents are not those", step="answer")


def test_a_data_folder_whose_name_would_break_the_task_file(
    workbench: Any, refused: Any, tmp_path: Path
) -> None:
    (tmp_path / "a: b").mkdir()
    run = workbench.run()
    run = replace(run, volumes={**run.volumes, "data": tmp_path / "a: b"})
    refused(run, "DatasetUnavailable", "cannot stand in a YAML file", "without quotes")


def test_one_task_under_two_settings(workbench: Any, refused: Any) -> None:
    run = workbench.run()
    other = run.plan.groups[0].model_copy(update={"name": "g1", "limit": 7})
    refused(
        with_plan(run, groups=[run.plan.groups[0], other]),
        "BenchmarkUnusable",
        "easy_vqa is asked for more than once",
    )


# The plan.


def test_a_shard_that_the_plan_does_not_have(workbench: Any, show_message: Any) -> None:
    outcome = workbench.execute(workbench.run(), "answer", "--shard", "7")
    show_message(f"exit {outcome.code}, {outcome.reason}", outcome.message.message)
    assert outcome.code == 10
    assert "there is no shard 7 of 1" in outcome.message.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["the plan cannot be read"]),
        ('{"version": 2}', ["version", "run: the field is missing"]),
    ],
    ids=["no-json", "another-version"],
)
def test_a_plan_that_cannot_be_read(
    tmp_path: Path,
    show_message: Any,
    caplog: pytest.LogCaptureFixture,
    text: str,
    words: list[str],
) -> None:
    from evalrun_runner.main import run as run_command

    (tmp_path / "plan.json").write_text(text)
    assert run_command(["all", "--plan", str(tmp_path / "plan.json")]) == 10
    show_message("exit 10", caplog.text)
    for word in words:
        assert word in caplog.text


# The store.


def test_a_bucket_that_does_not_exist(workbench: Any, refused: Any, s3: Any) -> None:
    refused(workbench.run(s3.plan("s3://missing-bucket")), "BucketNotFound", "s3://missing-bucket")


def test_an_access_key_nobody_knows(
    workbench: Any, refused: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    refused(workbench.run(s3.plan()), "CredentialsRefused", "access key", "AWS_ACCESS_KEY")


def test_a_wrong_secret_key(
    workbench: Any, refused: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    message = refused(workbench.run(s3.plan()), "CredentialsRefused", "SignatureDoesNotMatch")
    assert "wrong" not in message.replace("wrong.", "")


def test_no_credentials_at_all(
    workbench: Any, refused: Any, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    refused(workbench.run(s3.plan()), "CredentialsRefused", "there are no credentials")


def test_a_store_that_nobody_serves(
    workbench: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    store = StorePlan(uri="s3://evaluations", endpoint="http://127.0.0.1:9")
    refused(workbench.run(store), "StoreUnavailable", "http://127.0.0.1:9 cannot be reached")


def test_a_store_folder_that_is_a_file(workbench: Any, refused: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = workbench.run(StorePlan(uri=(tmp_path / "file" / "store").as_uri()))
    refused(run, "StoreUnavailable", "file/store", "Not a directory")


def test_a_store_that_fails_in_the_middle_loses_nothing(
    workbench: Any, refused: Any, s3: Any, start_s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_UNSTORED_SECONDS", 0.5)
    defaults = (0.2, writing.FLUSH_BYTES)
    monkeypatch.setattr(writing.JournalWriter.__init__, "__defaults__", defaults)
    run = workbench.run(s3.plan(), **limited(2000))
    assert workbench.execute(run, "prepare").code == 0
    from evalrun_runner.answering import asking

    once = asking.records

    def records_then_outage(*args: Any, **kwargs: Any) -> Any:
        if s3.process.poll() is None:
            s3.process.send_signal(signal.SIGKILL)
            s3.process.wait()
        return once(*args, **kwargs)

    with monkeypatch.context() as outage:
        outage.setattr(asking, "records", records_then_outage)
        refused(run, "StoreUnavailable", "wait in the local spool", step="answer")
    waiting = sum(path.read_bytes().count(b"\n") for path in Path(run.spool).rglob("*.jsonl"))
    assert waiting > 0

    port = int(s3.endpoint.rpartition(":")[2])
    folder = Path(str(s3.process.args[-1])).parent  # type: ignore[index]
    start_s3(folder, port)
    again = workbench.again(run)
    message = workbench.execute(again).message
    assert message.outcome == "Succeeded", message
    assert message.reused == waiting, "an answer that waited in the spool was computed again"
    assert message.reused + message.computed == 2000


def test_a_full_disk(workbench: Any, show_message: Any, tmp_path: Path, data: Path) -> None:
    """The store is a file system of 40 KiB, in a mount namespace that ends with the process."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run = workbench.run(StorePlan(uri=(disk / "store").as_uri()), **limited(2000))
    # Two minutes of patience are for stores that come back; this one does not.
    impatient = (
        "from evalrun_runner import main; from evalrun_runner.answering import share; "
        "from evalrun_runner.journal import writing; "
        "writing.MAX_UNSTORED_SECONDS = share.MAX_UNSTORED_SECONDS = 2; main.main()"
    )
    runner = shlex.join([sys.executable, "-c", impatient, *local.arguments(run, "all")])
    script = f"mount -t tmpfs -o size=40k none {disk} && exec {runner}"
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if "unshare failed" in ended.stderr or "mount:" in ended.stderr:
        pytest.skip("making a full disk needs root (unshare --mount)")
    message = json.loads(run.termination.read_text())
    show_message(f"exit {ended.returncode}, {message['reason']}", message["message"])
    assert (message["reason"], ended.returncode) == ("DiskFull", 21)
    assert "No space left on device" in message["message"]
    assert "Free some space" in message["message"]


# The journal and the lock.


@pytest.fixture
def answered(workbench: Any) -> tuple[local.LocalRun, str]:
    """A run of 40 documents that is answered, and the key of its first segment."""
    run = workbench.run(**limited(40))
    assert workbench.execute(run).code == 0
    lock = json.loads(workbench.file(run, "lock.json"))
    segments = workbench.store(run).list(layout.segments("default", lock["answers"]))
    return run, next(iter(segments))


def test_a_corrupt_segment(workbench: Any, refused: Any, answered: Any) -> None:
    run, segment = answered
    store = workbench.store(run)
    data = bytearray(store.get(segment))
    data[len(data) // 2] ^= 0xFF
    store.put(segment, bytes(data))
    refused(workbench.again(run), "CorruptJournal", segment, "cannot be unpacked", "Move")


def test_a_segment_of_something_else(workbench: Any, refused: Any, answered: Any) -> None:
    run, segment = answered
    workbench.store(run).put(segment, pack(b'{"hello": "world"}\n'))
    refused(workbench.again(run), "CorruptJournal", "line 1: it is not a journal record")


def test_a_segment_of_a_later_release(workbench: Any, refused: Any, answered: Any) -> None:
    run, segment = answered
    workbench.store(run).put(segment, pack(b'{"v": 7, "answers": []}\n'))
    refused(workbench.again(run), "CorruptJournal", "format 7", "the release that wrote it")


def test_a_torn_segment_loses_only_its_end(workbench: Any, answered: Any) -> None:
    run, segment = answered
    store = workbench.store(run)
    data = store.get(segment)
    store.put(segment, data[: len(data) * 2 // 3])
    message = workbench.execute(workbench.again(run)).message
    assert message.outcome == "Succeeded"
    assert message.reused + message.computed == 40


def test_a_lock_that_cannot_be_read(workbench: Any, refused: Any, answered: Any) -> None:
    run, _ = answered
    again = workbench.again(run)
    workbench.store(run).put(layout.lock_of_run(again.plan.run), b"{}")
    refused(again, "CorruptStore", "lock.json", "it is not a lock", step="score")


def test_a_step_without_a_lock(workbench: Any, refused: Any) -> None:
    refused(workbench.run(), "LockMismatch", "prepare has not locked this run", step="answer")


# The backend's answers; test_hostile.py has more of them.


@pytest.fixture
def misbehaving(workbench: Any) -> Callable[[str], local.LocalRun]:
    """A run of 20 documents on a backend that misbehaves."""
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    manifest = ModelManifest("misbehaving", simple_class_path="hostile_backends.Misbehaving")
    MODEL_REGISTRY_V2.register_manifest(manifest, overwrite=True)

    def run(behaviour: str) -> local.LocalRun:
        made = workbench.run(**limited(20))
        return with_model(made, backend="misbehaving", args={"behaviour": behaviour})

    return run


def test_failed_answers_are_asked_again_and_a_good_answer_replaces_them(
    workbench: Any, misbehaving: Any
) -> None:
    run = misbehaving("empty")
    assert workbench.execute(run).reason == "InvalidAnswers"
    from hostile_backends import Misbehaving

    Misbehaving.cured = True
    try:
        again = workbench.again(run)
        message = workbench.execute(again).message
    finally:
        Misbehaving.cured = False
    assert (message.outcome, message.reused, message.computed) == ("Succeeded", 0, 20)
    assert message.invalid == 0


def test_a_benchmark_without_one_answer_fails_even_where_violations_are_only_marked(
    workbench: Any, refused: Any, misbehaving: Any
) -> None:
    integrity = {"on_violation": "Mark", "max_invalid_fraction": 0.01}
    run = misbehaving("empty")
    run = with_plan(run, integrity=run.plan.integrity.model_copy(update=integrity))
    refused(run, "InvalidAnswers", "20 of 20 answers")


def test_plans_survive_being_written_and_read(workbench: Any) -> None:
    plan = workbench.run().plan
    assert RunPlan.model_validate_json(json.dumps(plan.document())) == plan
