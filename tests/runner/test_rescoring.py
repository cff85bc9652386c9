"""`evalrun score` on a journal that was moved, and that an interrupted run wrote."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrun_cli.destination import StoreChoice
from evalrun_cli.rescoring import prepare_score
from evalrun_runner import layout, local
from evalrun_runner.stores import FolderStore

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


def rescored(workbench: Any, run: local.LocalRun, folder: Path) -> local.LocalRun:
    """What `evalrun score --store FOLDER` runs."""
    folders = [f"{claim}={path}" for claim, path in run.volumes.items() if claim == "data"]
    name = run.plan.run.name
    work = prepare_score(StoreChoice(str(folder)), "default", name, None, folders, allow_code=True)
    return replace(
        run,
        plan=work.plan,
        files=work.files,
        volumes=work.volumes,
        workspace=workbench.folder / work.plan.run.uid,
    )


def test_a_moved_journal_of_an_interrupted_run_names_what_it_lacks_and_is_scored_once_whole(
    workbench: Any, tmp_path: Path
) -> None:
    benchmarks = [{"benchmarkRef": {"name": "easy-vqa"}, "limit": 50}]
    parallelism = {"shards": 2, "acceleratorsPerShard": 0}
    run = workbench.run(benchmarks=benchmarks, parallelism=parallelism)
    assert workbench.execute(run, "prepare").code == 0
    assert workbench.execute(run, "answer", "--shard", "0").code == 0
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(workbench.folder / "store", first)
    tear_last_segment(run, first)

    outcome = workbench.execute(rescored(workbench, run, first), "score")
    assert outcome.reason == "MissingAnswers"
    lacking = 50 - workbench.journaled(run)[0] + 1
    assert f"{lacking} of 50 requests have no answer" in outcome.message.message
    assert "easy_vqa document" in outcome.message.message

    assert workbench.execute(run, "answer", "--shard", "1").code == 0
    assert workbench.execute(run, "score").code == 0
    shutil.copytree(workbench.folder / "store", second)
    before = {path: path.read_bytes() for path in second.rglob("*") if path.is_file()}
    again = rescored(workbench, run, second)
    assert workbench.execute(again, "score").code == 0
    assert workbench.results(again)[1] == workbench.results(run)[1]
    kept = {path: path.read_bytes() for path in before}
    assert kept == before, "scoring changed what was there"


def tear_last_segment(run: local.LocalRun, folder: Path) -> None:
    """Replace the last segment by one that lacks its last record and the end of its frame."""
    from evalrun_runner.journal.segments import pack, read_segment

    store = FolderStore(folder)
    lock = json.loads(store.get(layout.lock_of_run(run.plan.run)) or b"")
    *_, key = store.list(layout.segments(run.plan.run.namespace, lock["answers"]))
    *whole, torn = [
        record.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"
        for record in read_segment(store.get(key) or b"", key)
    ]
    store.put(key, pack(b"".join(whole) + torn[: len(torn) // 2]))
