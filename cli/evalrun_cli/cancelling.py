"""Stopping a run of a cluster, going on with it, deleting it."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from evalrun_api.errors import Fault, Refused
from evalrun_cli import cluster_tables, invocation, run_state
from evalrun_cli.cluster import RUNS, Cluster
from evalrun_cli.following import get_run
from evalrun_cli.output import Format, answer, aside, is_document, print_document
from evalrun_cli.refusals import ApiError
from evalrun_cli.run_state import Doc, block

MANAGER = "evalrun-suspend"
"""Owns spec.suspend, so that a later apply of the manifest says who set it."""


def is_suspended(run: Doc) -> bool:
    """Whether the run is to be suspended."""
    return block(run, "spec").get("suspend") is True


def cancel(cluster: Cluster, name: str, form: Format) -> None:
    """Suspend a run. Raises `Refused` when it has ended."""
    run = get_run(cluster, name)
    options = _options(cluster)
    _refuse_finished(run, "cancelled", invocation.here("cancel", name, "--delete", *options))
    before = is_suspended(run)
    run = suspend(cluster, run, wanted=True)
    if is_document(form):
        print_document(cluster_tables.document(run), form)
        return
    state = "was already suspended" if before else "is being suspended"
    text = f"{name} {state}: accelerators are given back, no answer is lost"
    answer().print(Text(text), soft_wrap=True)
    again = invocation.here("resume", name, *options)
    aside().print(Text.assemble("go on with: ", (again, "bold")), soft_wrap=True)


def resume(cluster: Cluster, name: str, form: Format) -> None:
    """Go on with a suspended run. Raises `Refused` when it has ended."""
    run = get_run(cluster, name)
    _refuse_finished(run, "resumed", None)
    before = is_suspended(run)
    if before:
        run = suspend(cluster, run, wanted=False)
    if is_document(form):
        print_document(cluster_tables.document(run), form)
        return
    goes_on = "goes on where it stopped: stored answers are not computed again"
    text = goes_on if before else "is not suspended; nothing was changed"
    answer().print(Text(f"{name} {text}"), soft_wrap=True)
    again = invocation.here("watch", name, *_options(cluster))
    aside().print(Text.assemble("see how it does with: ", (again, "bold")), soft_wrap=True)


def delete(cluster: Cluster, name: str) -> None:
    """Delete a run, its Jobs and pods; its answers stay in the store."""
    run = get_run(cluster, name)
    cluster.delete(RUNS, cluster.namespace, name, run_state.uid_of(run))
    answer().print(Text(f"{name} is deleted, with its Jobs and pods"), soft_wrap=True)
    kept = "its answers stay in the store: applying the manifest again reuses them"
    aside().print(kept, soft_wrap=True)


def suspend(cluster: Cluster, run: Doc, *, wanted: bool) -> dict[str, Any]:
    """Set spec.suspend of this run, and of no later one of its name. Raises `EvalrunError`."""
    name = run_state.name_of(run)
    body = {"metadata": {"uid": run_state.uid_of(run)}, "spec": {"suspend": wanted}}
    try:
        return cluster.merge(RUNS, cluster.namespace, name, body, MANAGER)
    except ApiError as error:
        if not any("metadata.uid" in fault.where for fault in error.faults):
            raise
        what = "the run was deleted meanwhile, and another one has its name now"
        remedy = f"Look at that first: {invocation.here('list', *_options(cluster))}"
        raise Refused([Fault(name, what, remedy)]) from error


def _options(cluster: Cluster) -> tuple[str, ...]:
    return cluster.options_for(cluster.namespace)


def _refuse_finished(run: Doc, verb: str, delete_with: str | None) -> None:
    ended = run_state.outcome(run)
    if ended is None:
        return
    state = "is complete" if ended == "Complete" else "has failed"
    what = f"the run {state}, and a finished run cannot be {verb}"
    remedy = (
        f"Delete it with {delete_with}"
        if delete_with
        else ("Delete it and apply its manifest again: finished answers are reused")
    )
    raise Refused([Fault(run_state.name_of(run), what, remedy)])
