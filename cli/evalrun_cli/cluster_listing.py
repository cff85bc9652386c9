"""Showing the runs of a cluster, and the results of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from evalrun_api.errors import Fault, Refused
from evalrun_cli import cluster_tables, invocation, run_state
from evalrun_cli.cluster import RUNS, Cluster
from evalrun_cli.following import get_run
from evalrun_cli.output import WideFormat, answer, aside, is_document, listing_width, print_document
from evalrun_cli.run_state import Doc


def show_runs(
    cluster: Cluster, form: WideFormat, *, everywhere: bool, selector: str | None = None
) -> None:
    """The runs of a namespace, or of all, the newest first."""
    selectors = {"labelSelector": selector} if selector else {}
    namespace = None if everywhere else cluster.namespace
    runs = cluster_tables.newest_first(cluster.list(RUNS, namespace, **selectors)[0])
    if is_document(form):
        print_document(cluster_tables.listing_document(runs), form)
        return
    if not runs:
        place = "any namespace" if everywhere else f"namespace {cluster.namespace}"
        with_labels = f" with labels {selector}" if selector else ""
        aside().print(f"no run{with_labels} in {place} of {cluster.context}", markup=False)
        return
    _print_table(runs, form, namespaces=everywhere)


def _print_table(runs: Sequence[Doc], form: WideFormat, *, namespaces: bool) -> None:
    wide = form is WideFormat.WIDE
    width = listing_width(wide=wide)
    now = datetime.now(UTC)
    table = cluster_tables.run_table(runs, now, wide=wide, namespaces=namespaces, width=width)
    answer(wide=True).print(table, soft_wrap=True)


def show_results(cluster: Cluster, name: str | None, uid: str | None, form: WideFormat) -> None:
    """Finished runs of a namespace, or what came of one. Says which cluster was asked."""
    place = f"from namespace {cluster.namespace} of the cluster {cluster.context}"
    aside().print(place, style="dim", markup=False, soft_wrap=True)
    if name is None:
        _show_finished(cluster, form)
        return
    run = get_run(cluster, name)
    if uid is not None and not run_state.uid_of(run).startswith(uid):
        what = f"the run in the cluster has the uid {run_state.uid_of(run)}, not {uid}…"
        remedy = "Earlier attempts are only in the store: evalrun results NAME UID --store URI"
        raise Refused([Fault("UID", what, remedy)])
    if is_document(form):
        print_document(cluster_tables.document(run), form)
        return
    if run_state.outcome(run) is None:
        raise _unfinished(run, cluster)
    console = answer()
    console.print(cluster_tables.heading(run), soft_wrap=True)
    console.print()
    logs = invocation.here("logs", name, *cluster.options_for(cluster.namespace))
    wide = form is WideFormat.WIDE
    cluster_tables.print_conclusion(console, run, logs=logs, wide=wide)


def _unfinished(run: Doc, cluster: Cluster) -> Refused:
    name = run_state.name_of(run)
    what = f"the run has no results yet ({run_state.activity(run)})"
    remedy = (
        f"Wait for it: {invocation.here('watch', name, *cluster.options_for(cluster.namespace))}"
    )
    return Refused([Fault(name, what, remedy)])


def _show_finished(cluster: Cluster, form: WideFormat) -> None:
    runs = cluster_tables.newest_first(cluster.list(RUNS, cluster.namespace)[0])
    finished = [run for run in runs if run_state.outcome(run) is not None]
    if is_document(form):
        print_document(cluster_tables.listing_document(finished), form)
        return
    if finished:
        _print_table(finished, form, namespaces=False)
    else:
        aside().print("no run has ended there", markup=False)
    if others := len(runs) - len(finished):
        command = invocation.here("list", *cluster.options_for(cluster.namespace))
        note = f"and {others} that {'have' if others > 1 else 'has'} not ended: {command}"
        aside().print(note, markup=False, soft_wrap=True)
