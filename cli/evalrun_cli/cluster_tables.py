"""Runs of a cluster for people: a table of many, the conclusion of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalrun_cli import run_state, tables
from evalrun_cli.durations import age, moment
from evalrun_cli.exits import failure_panel, reason_named
from evalrun_cli.output import clock, plain_table, print_path
from evalrun_cli.plain_text import one_line
from evalrun_cli.run_state import Doc, block, count

WIDE = ("SHARDS", "RESTARTS", "GPU-SECONDS", "GPU-IDLE", "COST", "TRUSTED", "REASON", "UID")
RIGHT = ("PROGRESS", "ETA", "AGE", "SHARDS", "RESTARTS", "GPU-SECONDS", "GPU-IDLE", "COST")
SHORTENED = ("MODEL", "BENCHMARKS", "SCORE")
SHORTEST, GAP = 12, 2
UNKNOWN = "-"
PHASE_STYLES = {"Succeeded": "green", "Failed": "red", "Suspended": "yellow"}


def newest_first(runs: Iterable[Doc]) -> list[Doc]:
    """Sorted by creation, then by name."""
    by_name = sorted(runs, key=lambda run: (run_state.namespace_of(run), run_state.name_of(run)))
    return sorted(
        by_name, key=lambda run: str(block(run, "metadata").get("creationTimestamp")), reverse=True
    )


def run_row(run: Doc, now: datetime) -> dict[str, str]:
    """A run in a listing, by column."""
    status = block(run, "status")
    told, shards = block(status, "progress"), block(status, "shards")
    since = run_state.created(run)
    finished = run_state.outcome(run) is not None
    eta = told.get("etaSeconds")
    total = count(shards, "total")
    trusted = run_state.condition(run, "Trusted").get("status")
    usage = block(status, "usage")
    return {
        "NAMESPACE": run_state.namespace_of(run),
        "NAME": run_state.name_of(run),
        "MODEL": run_state.model(run) or UNKNOWN,
        "BENCHMARKS": run_state.benchmarks(run) or UNKNOWN,
        "PHASE": _phase(run),
        "PROGRESS": f"{count(told, 'percent')}%" if told else UNKNOWN,
        "ETA": clock(eta) if isinstance(eta, int) and not finished else UNKNOWN,
        "SCORE": one_line(status.get("headline")) or UNKNOWN,
        "AGE": age((now - since).total_seconds()) if since else UNKNOWN,
        "SHARDS": f"{count(shards, 'succeeded')}/{total}" if total else UNKNOWN,
        "RESTARTS": str(count(shards, "restarts") + count(shards, "ignoredRestarts")),
        "GPU-SECONDS": one_line(usage.get("gpuSeconds")) or UNKNOWN,
        "GPU-IDLE": idle_share(usage) or UNKNOWN,
        "COST": one_line(usage.get("cost")) or UNKNOWN,
        "TRUSTED": {"True": "yes", "False": "NO"}.get(str(trusted), UNKNOWN),
        "REASON": run_state.why(run)[0] or UNKNOWN,
        "UID": run_state.uid_of(run),
    }


def _phase(run: Doc) -> str:
    """The phase, and that a person has to act where one does."""
    stalled = run_state.holds(run, "Stalled") and run_state.outcome(run) is None
    return run_state.phase(run) + (" (stalled)" if stalled else "")


def run_table(
    runs: Sequence[Doc], now: datetime, *, wide: bool, namespaces: bool, width: int | None = None
) -> Table:
    """Runs, one a line. width: of the terminal; None where nothing needs to be shortened."""
    table = plain_table()
    rows = [run_row(run, now) for run in runs]
    columns = [
        name
        for name in (rows[0] if rows else ())
        if (wide or name not in WIDE) and (namespaces or name != "NAMESPACE")
    ]
    widths = widths_of({name: [row[name] for row in rows] for name in columns}, width)
    for name in columns:
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=True)
    for row in rows:
        style = PHASE_STYLES.get(row["PHASE"], "")
        cells = ((name, one_line(row[name], widths[name])) for name in columns)
        table.add_row(*(Text(cell, style if name == "PHASE" else "") for name, cell in cells))
    return table


def widths_of(cells: Mapping[str, Sequence[str]], width: int | None) -> dict[str, int]:
    """The width of each column, the longest shortened first so that a line fits into `width`.

    Where that is not enough none is shortened: as with kubectl, lines are then longer.
    """
    full = {name: max(len(name), *map(len, column)) for name, column in cells.items()}
    widths = dict(full)
    excess = sum(full.values()) + GAP * len(full) - width if width is not None else 0
    while excess > 0:
        able = [name for name in widths if name in SHORTENED and widths[name] > SHORTEST]
        if not able:
            return full
        widths[max(able, key=lambda name: widths[name])] -= 1
        excess -= 1
    return widths


def heading(run: Doc) -> Text:
    """A run in one line."""
    name = run_state.name_of(run)
    text = f": {run_state.model(run)} on {run_state.benchmarks(run)}"
    return Text.assemble((name, "bold"), text, (f" ({run_state.namespace_of(run)})", "dim"))


def idle_share(usage: Doc) -> str:
    """Which part of the accelerators' time answered nothing; empty where it is not known."""
    try:
        held, idle = float(usage["gpuSeconds"]), float(usage["gpuIdleSeconds"])
    except (KeyError, TypeError, ValueError):
        return ""
    return f"{min(idle / held, 1.0):.0%}" if held > 0 and idle >= 0 else ""


def usage_line(run: Doc) -> str:
    """What the run took: accelerators, cost, time."""
    status = block(run, "status")
    usage = block(status, "usage")
    parts = []
    if seconds := one_line(usage.get("gpuSeconds")):
        idle = idle_share(usage)
        parts.append(f"{_whole(seconds)} GPU-seconds" + (f" ({idle} idle)" if idle else ""))
    if cost := one_line(usage.get("cost")):
        parts.append(f"cost {cost}")
    if asked := count(usage, "judgeRequests"):
        cost = one_line(usage.get("judgeCost"))
        parts.append(f"{asked:,} requests to the judge" + (f" for {cost}" if cost else ""))
    if restarts := count(block(status, "shards"), "workerRestarts"):
        parts.append(f"{restarts} workers started anew")
    begun, ended = moment(status.get("startTime")), moment(status.get("completionTime"))
    if begun and ended:
        parts.append(f"{clock((ended - begun).total_seconds())} from start to end")
    if resumes := count(status, "resumes"):
        parts.append(f"resumed {resumes} time{'s' * (resumes > 1)}")
    return ", ".join(parts)


def print_conclusion(console: Console, run: Doc, *, logs: str, wide: bool = False) -> None:
    """A finished run: its scores or why it failed, where its results are, what it took.

    logs: the command that shows its logs.
    """
    status = block(run, "status")
    if run_state.outcome(run) == "Failed":
        reason, message = run_state.why(run)
        known = reason_named(reason)
        text = message or (
            known.meaning if known.name == reason else "the operator does not say why"
        )
        console.print(failure_panel(known, text, None, title=reason or known.name))
        console.print(Text.assemble("logs: ", (logs, "bold")), soft_wrap=True)
    found = run_state.scores(run)
    if found:
        console.print(tables.score_table(found))
        console.print()
    answers = block(status, "answers")
    provenance = block(status, "provenance")
    if answers:
        line = tables.answers_line(
            count(answers, "reused"),
            count(answers, "computed"),
            count(answers, "invalid"),
            _by_class(block(answers, "errors")),
        )
        if determinism := one_line(provenance.get("determinism")):
            line += f"; determinism: {determinism}"
        console.print(Text(line), soft_wrap=True)
    if line := usage_line(run):
        console.print(Text(line), soft_wrap=True)
    _print_doubts(console, run)
    results = block(status, "results")
    facts: list[tuple[str, Any]] = [
        ("results", results.get("uri")),
        ("sha256", results.get("digest")),
    ]
    if wide:
        facts += [
            ("answers", answers.get("digest")),
            ("model", provenance.get("modelRevision")),
            ("lmms-eval", provenance.get("lmmsEval")),
            ("image", provenance.get("image")),
            ("uid", run_state.uid_of(run)),
            ("time", _stages(block(status, "time"))),
        ]
    for label, value in facts:
        if value:
            print_path(console, label, one_line(value))


def _by_class(errors: Doc) -> dict[str, int]:
    return {one_line(kind): count(errors, kind) for kind in errors if count(errors, kind)}


def _whole(text: str) -> str:
    """A number of seconds without its fraction; as it is when not a number."""
    try:
        return f"{float(text):,.0f}"
    except ValueError:
        return text


def _print_doubts(console: Console, run: Doc) -> None:
    """What stands against the scores: answers that are not trusted, gates that did not pass."""
    for kind, title in (("Trusted", "NOT TRUSTED"), ("Passed", "NOT PASSED")):
        found = run_state.condition(run, kind)
        if found.get("status") == "False":
            reason, message = one_line(found.get("reason")), one_line(found.get("message"))
            text = f"{title}: {message or reason}"
            console.print(Text(text, style="bold red"), soft_wrap=True)


def _stages(time: Doc) -> str:
    return ", ".join(f"{stage} {seconds} s" for stage, seconds in time.items() if seconds)


def document(run: Doc) -> dict[str, Any]:
    """A run for programs: as the API server has it, without the bookkeeping of field managers."""
    metadata = {
        key: value for key, value in block(run, "metadata").items() if key != "managedFields"
    }
    return {**run, "metadata": metadata}


def listing_document(runs: Iterable[Doc]) -> dict[str, Any]:
    """Runs for programs, as kubectl gives them."""
    return {"apiVersion": "v1", "kind": "List", "items": [document(run) for run in runs]}
