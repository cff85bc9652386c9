"""Showing what a store holds."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.manifest import Manifest
from evalrun_api.plan import StorePlan
from evalrun_cli import records, tables
from evalrun_cli.destination import StoreChoice, destination
from evalrun_cli.output import WideFormat, answer, aside, is_document, print_document
from evalrun_runner.local import Store, open_store


def existing_store_plan(choice: StoreChoice) -> StorePlan:
    """The store that the command line names; a folder has to exist, for nothing is written."""
    plan = destination(choice, None, {}, Path.cwd()).store
    parts = urlsplit(plan.uri)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        folder = unquote(parts.path)
        remedy = "Name the store of your runs: --store s3://BUCKET/PREFIX or --store DIR"
        raise fail(reasons.BUCKET_NOT_FOUND, "--store", f"there is no folder {folder}", remedy)
    return plan


def existing_store(choice: StoreChoice) -> Store:
    """The same, opened."""
    return open_store(existing_store_plan(choice))


def say_where(store: Store) -> None:
    """Note which store is read: results may also be a cluster's."""
    aside().print(f"from the store {store.uri('')}", style="dim", markup=False, soft_wrap=True)


def show_runs(store: Store, namespace: str, form: WideFormat) -> None:
    """All finished runs of a namespace, the last one first."""
    manifests: list[Manifest] = []
    damaged: list[EvalrunError] = []
    unfinished = 0
    for attempt in records.attempts(store, namespace):
        if not attempt.finished:
            unfinished += 1
            continue
        try:
            manifests.append(records.manifest_of(store, attempt.run))
        except EvalrunError as error:
            damaged.append(error)
    manifests.sort(key=lambda manifest: manifest.completed_at, reverse=True)
    if is_document(form):
        document = {
            "store": store.uri(""),
            "namespace": namespace,
            "runs": [manifest.document() for manifest in manifests],
            "unfinished": unfinished,
            "damaged": [str(error) for error in damaged],
        }
        print_document(document, form)
    elif manifests:
        wide = form is WideFormat.WIDE
        answer(wide=wide).print(tables.run_table(manifests, wide=wide))
    else:
        aside().print(f"no finished run of namespace {namespace} in {store.uri('')}")
    if unfinished and not is_document(form):
        aside().print(f"and {unfinished} without a result (stopped, failed or at work)")
    for damage in damaged:
        aside().print(f"damaged: {damage}", style="red", markup=False, soft_wrap=True)


def show_run(store: Store, namespace: str, name: str, uid: str | None, form: WideFormat) -> None:
    """One run's scores and files; raises `EvalrunError` when they are not what the run wrote."""
    manifest = records.newest(store, namespace, name, uid)
    if faults := records.damage(store, manifest):
        raise EvalrunError(reasons.CORRUPT_STORE, *faults)
    files = records.addresses(store, manifest)
    if is_document(form):
        print_document({**manifest.document(), "files": files}, form)
        return
    console = answer()
    console.print(
        f"{manifest.run.name}  {manifest.run.uid}  "
        f"{manifest.completed_at.astimezone():%Y-%m-%d %H:%M}\n",
        soft_wrap=True,
    )
    tables.print_result(console, manifest, files)
    if form is WideFormat.WIDE:
        tables.print_provenance(console, manifest)
