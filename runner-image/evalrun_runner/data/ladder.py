"""How documents reach every step: what prepare fetched, by the first way that works.

1. A volume that all pods mount, or the node's cache: the files are there.
2. A packed archive in the store: prepare puts it there, the other steps restore it.
3. The hub: where prepare recorded nothing, or documents came from other servers.

The later steps see the datasets that prepare used and no others, through a folder of links; so a
newer commit that another run brought into a shared cache is not taken for the locked one, and
their locks and temporary files stay in the pod.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.digests import canonical_json
from evalrun_api.errors import fail
from evalrun_api.plan import RunPlan
from evalrun_runner import layout
from evalrun_runner.data.archive import contents, upload
from evalrun_runner.data.choice import Choice, choose, task_data
from evalrun_runner.data.index import DataRecord
from evalrun_runner.data.restore import restore
from evalrun_runner.data.use import DataUse, watch
from evalrun_runner.setting import Setting

log = logging.getLogger(__name__)

DATASETS_VARIABLES = ("LMMS_EVAL_DATASETS_CACHE", "HF_DATASETS_CACHE")
"""Where lmms-eval looks for datasets in arrow form, and where task code does."""


def hub_home() -> Path:
    """The hub's cache of this process."""
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()


class Packing:
    """Prepare's side: notes what is used, then leaves it where the later steps find it."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._configs: list[dict[str, Any]] = []
        self._use: DataUse | None = None
        if setting.places.cache != "own":
            home = hub_home()
            self._use = watch(home)
            for name in DATASETS_VARIABLES:  # lmms-eval would avoid a network file system
                os.environ.setdefault(name, str(home / "datasets"))

    def note(self, tasks: Any) -> None:
        """Tasks were loaded: a `PlannedTasks` tells which."""
        if self._use is None:
            return
        self._configs += [tasks._get_config(name) for name in tasks.loaded]
        for name, task in tasks.loaded.items():
            try:  # some task code fetches media only now
                task.doc_to_visual(next(iter(task.eval_docs)))
            except Exception:
                what = "the first document's media cannot be read"
                log.warning(what, extra={"task": name}, exc_info=True)

    def finish(self) -> None:
        """Record and, where the later steps have another cache, store what was used."""
        if self._use is None:
            return
        setting, use = self._setting, self._use
        if setting.places.cache == "pod":
            use.note_all()
        use.finish()
        choice = choose(use, task_data(self._configs), _model_folder(setting.plan))
        archive = None if setting.places.cache == "shared" else self._store(choice, use.home)
        record = DataRecord(archive=archive, builders=choice.builders, complete=choice.complete)
        key = layout.data_of_run(setting.plan.run)
        setting.store.put(key, canonical_json(record.document()))
        log.info(
            "documents recorded",
            extra={
                "archive": archive,
                "datasets": len(choice.builders),
                "files": len(choice.files),
                "complete": choice.complete,
            },
        )

    def _store(self, choice: Choice, home: Path) -> str | None:
        if not choice.files:
            return None
        setting = self._setting
        activity = setting.report.activity
        what = contents(home, choice.files, choice.links, activity)
        folder = layout.data(setting.plan.run.namespace, what.archive)
        with setting.stage("prepare"):
            upload(setting.store, folder, home, what, activity)
        return what.archive


def obtain(setting: Setting) -> None:
    """Answer's and score's side: have what prepare used, and let nothing else be looked for.

    To be called before the hub's libraries are imported: they read the environment once.
    """
    if setting.places.cache == "own":
        return
    record = _read_record(setting)
    if record is None:
        log.info("prepare left no record of documents; the hub is asked")
        return
    home = hub_home()
    if record.archive is not None:
        folder = layout.data(setting.plan.run.namespace, record.archive)
        moved = restore(setting.store, folder, record.archive, home, setting.report.activity)
        log.info("documents restored" if moved else "documents were in the cache")
    _see(home, setting.places.work / "datasets", record.builders)
    if record.complete:
        os.environ["HF_DATASETS_OFFLINE"] = "1"
        if not setting.plan.security.allow_online:
            os.environ["HF_HUB_OFFLINE"] = "1"


def _read_record(setting: Setting) -> DataRecord | None:
    key = layout.data_of_run(setting.plan.run)
    data = setting.store.get(key)
    if data is None:
        return None
    try:
        return DataRecord.model_validate_json(data)
    except ValidationError as error:
        where, what = setting.store.uri(key), "it is not a record of this release"
        raise fail(reasons.CORRUPT_STORE, where, what) from error


def _see(home: Path, view: Path, builders: list[str]) -> None:
    """Make `view` the folder of datasets, with links to those that prepare used."""
    for builder in builders:
        there = home / builder
        if not (there / "dataset_info.json").is_file():
            raise fail(
                reasons.DATASET_UNAVAILABLE,
                str(there),
                "the dataset that prepare made is gone from the cache",
                "Keep the cache volume as it is while runs use it; delete the run and apply it "
                "again to fetch the documents anew",
            )
        link = view / Path(builder).relative_to("datasets")
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # of another worker of this pod
            link.symlink_to(there, target_is_directory=True)
    view.mkdir(parents=True, exist_ok=True)
    for name in DATASETS_VARIABLES:
        os.environ[name] = str(view)


def _model_folder(plan: RunPlan) -> str | None:
    hub = plan.model.source.hugging_face
    return f"models--{hub.repo.replace('/', '--')}" if hub is not None else None
